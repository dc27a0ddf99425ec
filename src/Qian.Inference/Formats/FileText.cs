using System.Globalization;
using System.Text;

namespace Qian.Inference.Formats;

// Text that came out of a file, made fit for an error message or a listing: control characters escaped, length capped.
// A hostile name must not be able to repaint the user's terminal or fill a log.
internal static class FileText
{
    private const int ShownLength = 120;

    public static string Quote(string text)
    {
        var shown = new StringBuilder("'");
        foreach (char c in text.Length > ShownLength ? text.AsSpan(0, ShownLength) : text)
        {
            if (char.IsControl(c) || char.IsSurrogate(c) || CharUnicodeInfo.GetUnicodeCategory(c) == UnicodeCategory.Format)
                shown.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}");
            else
                shown.Append(c);
        }
        return shown.Append(text.Length > ShownLength ? "…'" : "'").ToString();
    }

    public static string Shape(ReadOnlySpan<long> sizes)
    {
        var text = new StringBuilder("[");
        for (int i = 0; i < sizes.Length; i++)
            text.Append(i > 0 ? ", " : "").Append(CultureInfo.InvariantCulture, $"{sizes[i]}");
        return text.Append(']').ToString();
    }
}
