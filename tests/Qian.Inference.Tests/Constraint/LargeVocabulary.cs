using System.Text;

namespace Qian.Inference.Tests.Constraint;

// Tokens as a vocabulary of a quarter of a million has them: words of several scripts with and without a blank, ideographs, code with signs stuck to
// its names, runs of one sign up to 128 long. Made up of syllables, the same every time.
internal static class LargeVocabulary
{
    private static readonly string[] s_before = ["\"", " \"", "(", " (", ".", "_", "\n\t", "</", "[", "{", "<", "::", "->", "='", "${", " `", "\\", "{\"", "\n    ", "//"];
    private static readonly string[] s_after = ["(", ")", "\"", ":", ";", ",", ".\n", "();\n", "\",", "\":", "=", ">", " =", "']", "\"}", "\\n", "<", "\n\n", " {", "</"];
    private static readonly string[] s_runs = [" ", "\t", "\n", "\r\n", "=", "-", "_", "*", "/", "#", ".", "~", "x", "0", "\u2500", "\u3000"];
    private static readonly string[] s_onsets = ["", "b", "c", "d", "f", "g", "h", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr", "ch", "pr", "sh", "th", "qu", "k", "j"];
    private static readonly string[] s_rhymes = ["a", "e", "i", "o", "u", "er", "in", "on", "at", "al", "es", "ing", "ion", "ent", "ar", "is", "ed", "y", "ly", "able"];

    // Other scripts: first letter, how many, how many letters a word has at most.
    private static readonly (int First, int Count, int MostLetters)[] s_scripts = [(0x430, 32, 9), (0x3B1, 24, 7), (0x627, 28, 7), (0x5D0, 26, 6), (0x905, 50, 5), (0xE01, 44, 6), (0xAC00, 11_000, 4), (0x3041, 80, 5)];

    private static readonly string[] s_common =
    [
        "the", "quick", "brown", "fox", "dogs", "and", "jumps", "over", "lazy", "name", "age", "items", "id", "path", "text", "city", "date", "true", "false", "null", "function", "parameter", "tool", "write", "read", "file", "if", "return",
    ];

    public static ReadOnlyMemory<byte>[] Make(int size)
    {
        var random = new Random(11);
        var known = new HashSet<string>();
        var tokens = new List<ReadOnlyMemory<byte>>();
        for (int value = 0; value < 256; value++)
            tokens.Add(new[] { (byte)value });
        foreach (string run in s_runs)
        {
            for (int count = 2; count <= 128; count += count < 48 ? 1 : 16)
                Add(string.Concat(Enumerable.Repeat(run, count)));
            for (int count = 1; count <= 40; count++)
                Add("\n" + string.Concat(Enumerable.Repeat(run, count)));
        }

        foreach (string word in s_common)
            AddForms(word);
        for (int digits = 10; digits < 1000; digits++)
            Add($"{digits}");
        for (int ideograph = 0x4E00; ideograph < 0x9000; ideograph++)
            Add($"{(char)ideograph}");
        while (tokens.Count < size)
        {
            int kind = random.Next(100);
            if (kind < 16)
                Add(Word(0x4E00, 3000, random.Next(2, 5)));
            else if (kind < 36)
                AddForeign(s_scripts[random.Next(s_scripts.Length)]);
            else if (kind < 74)
                AddForms(Latin(1 + random.Next(4)));
            else if (kind < 82)
                Add(Latin(2) + Capital(Latin(2)));
            else if (kind < 86)
                Add(Latin(2) + "_" + Latin(1));
            else
                Add((random.Next(2) == 0 ? s_before[random.Next(s_before.Length)] : "") + Latin(1 + random.Next(3)) + (random.Next(2) == 0 ? s_after[random.Next(s_after.Length)] : ""));
        }

        return [.. tokens];

        void Add(string text)
        {
            if (tokens.Count < size && known.Add(text))
                tokens.Add(Encoding.UTF8.GetBytes(text));
        }

        void AddForms(string word)
        {
            Add(word);
            Add(" " + word);
            if (random.Next(2) == 0)
                Add(Capital(word));
            if (random.Next(2) == 0)
                Add(" " + Capital(word));
            if (random.Next(8) == 0)
                Add(word.ToUpperInvariant());
        }

        void AddForeign((int First, int Count, int MostLetters) script) =>
            Add((random.Next(2) == 0 ? " " : "") + Word(script.First, script.Count, random.Next(1, script.MostLetters + 1)));

        string Word(int first, int count, int length) => string.Concat(Enumerable.Range(0, length).Select(_ => (char)(first + (int)(count * Math.Pow(random.NextDouble(), 2)))));

        string Latin(int syllables) => string.Concat(Enumerable.Range(0, syllables).Select(_ => s_onsets[random.Next(s_onsets.Length)] + s_rhymes[random.Next(s_rhymes.Length)]));

        static string Capital(string word) => char.ToUpperInvariant(word[0]) + word[1..];
    }
}
