using System.Globalization;
using Qian.Inference;

namespace Qian.Weights;

// "15.5GB", "14.4GiB", "800MB": how large a file may be. GB is 10^9 as disks and hubs count, GiB 2^30 as memory does.
internal static class SizeTarget
{
    private static readonly (string Unit, double Bytes)[] s_units = [("GIB", 1L << 30), ("MIB", 1L << 20), ("GB", 1e9), ("MB", 1e6), ("G", 1e9), ("M", 1e6)];

    public static long Parse(string text)
    {
        foreach ((string unit, double bytes) in s_units)
        {
            if (text.EndsWith(unit, StringComparison.OrdinalIgnoreCase)
                && double.TryParse(text.AsSpan(0, text.Length - unit.Length).Trim(), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double count)
                && count * bytes is >= 1 and < 1e15)
                return (long)(count * bytes);
        }

        throw new BadRequestException($"--size {text}: expected a size such as 15.5GB, 14.4GiB or 800MB");
    }
}
