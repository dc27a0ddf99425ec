using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Qian.Inference.Tests.Text;

// A second tokenizer, slow and straightforward, to compare with: the regex itself (on a text in which each code point above the BMP, which
// .NET's regex cannot classify, is replaced by one of the same class below it), and merging by looking through all pairs each time. Reads
// tokenizer.json on its own. Does not normalise.
internal sealed class TokenizerReference
{
    private const string Contractions = "(?:'[sS\u017FtTmMdD]|'[rR][eE]|'[vV][eE]|'[lL][lL])";

    private static readonly Regex s_qwen35 = new(
        Contractions + @"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", RegexOptions.CultureInvariant);

    private static readonly Regex s_qwen2 = new(
        Contractions + @"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", RegexOptions.CultureInvariant);

    private readonly Dictionary<string, int> _vocabulary = [];
    private readonly Dictionary<(string, string), int> _ranks = [];

    public TokenizerReference(string file)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(file));
        JsonElement model = document.RootElement.GetProperty("model");
        foreach (JsonProperty token in model.GetProperty("vocab").EnumerateObject())
        {
            _vocabulary.Add(token.Name, token.Value.GetInt32());
        }

        foreach (JsonElement merge in model.GetProperty("merges").EnumerateArray())
        {
            string[] pair = merge.ValueKind == JsonValueKind.String ? merge.GetString()!.Split(' ') : [merge[0].GetString()!, merge[1].GetString()!];
            _ranks.Add((pair[0], pair[1]), _ranks.Count);
        }
    }

    public static List<string> Split(string text, bool marksAreLetters)
    {
        var classes = new StringBuilder();
        var starts = new List<int>();
        int position = 0;
        foreach (Rune rune in text.EnumerateRunes())
        {
            starts.Add(position);
            position += rune.Utf16SequenceLength;
            classes.Append(rune.IsBmp ? (char)rune.Value : StandIn(Rune.GetUnicodeCategory(rune)));
        }

        starts.Add(position);
        var pieces = new List<string>();
        int end = 0;
        foreach (Match match in (marksAreLetters ? s_qwen35 : s_qwen2).Matches(classes.ToString()))
        {
            Assert.Equal(end, match.Index);
            end = match.Index + match.Length;
            pieces.Add(text[starts[match.Index]..starts[end]]);
        }

        Assert.Equal(starts.Count - 1, end);
        return pieces;
    }

    public List<int> Encode(string text)
    {
        var ids = new List<int>();
        foreach (string piece in Split(text, marksAreLetters: true))
        {
            ids.AddRange(Merge(Encoding.UTF8.GetBytes(piece)));
        }

        return ids;
    }

    public List<int> Merge(byte[] piece)
    {
        var tokens = new List<string>();
        foreach (byte value in piece)
        {
            tokens.Add(Spell(value).ToString());
        }

        while (true)
        {
            int bestRank = int.MaxValue;
            int best = -1;
            for (int i = 0; i + 1 < tokens.Count; i++)
            {
                if (_ranks.TryGetValue((tokens[i], tokens[i + 1]), out int rank) && rank < bestRank)
                {
                    bestRank = rank;
                    best = i;
                }
            }

            if (best < 0)
            {
                return tokens.ConvertAll(token => _vocabulary[token]);
            }

            tokens[best] += tokens[best + 1];
            tokens.RemoveAt(best + 1);
        }
    }

    private static char Spell(byte value)
    {
        return value switch
        {
            < 33 => (char)(0x100 + value),
            < 127 => (char)value,
            < 161 => (char)(0x100 + 33 + value - 127),
            173 => (char)0x143,
            _ => (char)value,
        };
    }

    private static char StandIn(UnicodeCategory category)
    {
        return category switch
        {
            UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter
                or UnicodeCategory.ModifierLetter or UnicodeCategory.OtherLetter => 'x',
            UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark => '\u0301',
            UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => '1',
            _ => '!',
        };
    }
}
