using Qian.Inference.Text;

using Qian.Inference.Formats;

namespace Qian.Inference.Tests.Text;

// The vocabulary that tests share: small, real, and with the regex of the family.
internal static class TokenizerData
{
    private static readonly Lazy<TokenizerSpec> s_spec = new(static () => HuggingFaceTokenizer.ReadFolder(MiniFolder));
    private static readonly Lazy<Tokenizer> s_tokenizer = new(static () => new Tokenizer(s_spec.Value));

    public static string Folder { get; } = FindFolder();

    public static string MiniFolder => Path.Combine(Folder, "qwen35-regex-mini");

    public static TokenizerSpec MiniSpec => s_spec.Value;

    public static Tokenizer Mini => s_tokenizer.Value;

    // Characters that meet every branch of the splitter, with plain ones most frequent.
    public static string RandomText(Random random, int length)
    {
        const string Frequent = "etaoins ETA  \n\r\t.,-'{}()0123456789";
        string[] rare =
        [
            "'s", "'LL", "'\u017F", "'re", "'Ve", "\r\n", "\u00A0", "\u2003", "\u3000", "\u0085", "\u180E", "\u200B", "\u001C", "é", "e\u0301", "\u0301", "क", "्", "ष", "ि", "中", "文",
            "好", "，", "😀", "👩\u200D👩", "🏽", "\U00010400", "\U0001D7D8", "\U0001E8D0", "\u0661", "½", "Ⅷ", "\uFFFD", "ß", "ﬁ", "가", "\u1100\u1161", "\u0E44", "\u0E48", "كَ", "_", "`", "<|im_end|>",
            "<think>", "<|im_", "\u20DD", "\0", "\u007F", "\uE000", "\uFEFF",
        ];
        var text = new System.Text.StringBuilder();
        while (text.Length < length)
        {
            if (random.Next(4) > 0)
            {
                text.Append(Frequent[random.Next(Frequent.Length)]);
            }
            else if (random.Next(12) > 0)
            {
                text.Append(rare[random.Next(rare.Length)]);
            }
            else
            {
                int codePoint = random.Next(0x30000);
                text.Append(codePoint is >= 0xD800 and < 0xE000 ? "x" : char.ConvertFromUtf32(codePoint));
            }
        }

        return text.ToString();
    }

    public static string ToNfc(string text)
    {
        var output = new PooledList<char>(text.Length);
        NfcNormalizer.Normalize(text, ref output);
        string normalized = output.Span.ToString();
        output.Dispose();
        return normalized;
    }

    private static string FindFolder()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Qian.slnx")))
            {
                return Path.Combine(folder.FullName, "tests", "data", "tokenizer");
            }
        }

        throw new DirectoryNotFoundException("The tests run inside the repository, which no folder above the test assembly is.");
    }
}
