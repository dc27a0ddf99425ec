using System.Globalization;
using Qian.Inference;

namespace Qian.Cli;

// Sizes as people write them: 4G, 512M, 1.5GiB, 800000.
internal static class ByteSize
{
    private const string Units = "KMGT";

    public static long Parse(string text, string flag)
    {
        string number = text.Trim().ToUpperInvariant();
        if (number.EndsWith("IB", StringComparison.Ordinal))
            number = number[..^2];
        else if (number.EndsWith('B'))
            number = number[..^1];
        int unit = number.Length > 0 ? Units.IndexOf(number[^1]) + 1 : 0;
        if (unit > 0)
            number = number[..^1];
        double factor = Math.Pow(1024, unit);
        if (!double.TryParse(number, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double value) || !(value * factor < long.MaxValue))
            throw new BadRequestException($"{flag}: expected a size such as 4G or 512M, found '{text}'.");
        return (long)(value * factor);
    }
}
