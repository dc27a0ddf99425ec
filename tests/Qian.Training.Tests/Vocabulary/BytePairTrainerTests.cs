using System.Text;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Text;
using Qian.Training.Vocabulary;

namespace Qian.Training.Tests.Vocabulary;

public sealed class BytePairTrainerTests
{
    private const int Size = 400;

    private static readonly Lazy<TrainedVocabulary> s_trained = new(() => BytePairTrainer.Train(Texts(), Size));

    [Fact]
    public void TheFilesGiveTheSameTokenizer()
    {
        string folder = Directory.CreateTempSubdirectory("qian-vocabulary-").FullName;
        try
        {
            s_trained.Value.Write(folder);
            Tokenizer direct = s_trained.Value.ToTokenizer();
            var read = new Tokenizer(HuggingFaceTokenizer.ReadFolder(folder));
            File.Delete(Path.Combine(folder, "tokenizer.json"));
            var fromParts = new Tokenizer(HuggingFaceTokenizer.ReadFolder(folder));
            Assert.Equal(Size, read.VocabularySize);
            foreach (string text in Texts().Append(Hostile).Append("<|im_start|>assistant\n<think>\n"))
            {
                int[] expected = direct.Encode(text, matchAddedTokens: true);
                Assert.Equal(expected, read.Encode(text, matchAddedTokens: true));
                Assert.Equal(expected, fromParts.Encode(text, matchAddedTokens: true));
                Assert.Equal(text, read.Decode(expected));
            }

            Assert.True(read.TryGetId("<|im_end|>", out int end));
            Assert.True(read.TryGetId("<|endoftext|>", out int endOfText));
            Assert.Equal((end, endOfText), (read.EosId, read.PaddingId));
            Assert.Equal(Size - 26, endOfText);
            Assert.True(read.IsControl(end));
            Assert.True(read.TryGetId("</think>", out int last) && last == Size - 1 && !read.IsControl(last));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void AllTokensAreDefined()
    {
        Tokenizer tokenizer = s_trained.Value.ToTokenizer(rowCount: 440);
        for (int id = 0; id < 440; id++)
            Assert.Equal(id < Size, tokenizer.IsDefined(id));
        Assert.Equal("!"u8.ToArray(), tokenizer.TokenBytes(0));
    }

    [Fact]
    public void TrainedTextIsCompressed()
    {
        Tokenizer tokenizer = s_trained.Value.ToTokenizer();
        string text = string.Concat(Texts());
        double bytesPerToken = (double)Encoding.UTF8.GetByteCount(text) / tokenizer.Encode(text).Length;
        Assert.True(bytesPerToken > 2.5, $"{bytesPerToken:F2} bytes per token");
    }

    [Fact]
    public void TrainingIsRepeatable()
    {
        Assert.Equal(Merges(s_trained.Value), Merges(BytePairTrainer.Train(Texts(), Size)));
    }

    // The definition of the algorithm, without its speed.
    [Fact]
    public void MergesAreThoseOfTheDefinition()
    {
        const int MergeCount = 80;
        string[] texts = [.. Texts(), "aaaa aaa aaaaaa aa", "abababab ababab"];
        Assert.Equal(Definition(texts, MergeCount), Merges(BytePairTrainer.Train(texts, 256 + 26 + MergeCount)));
    }

    [Fact]
    public void ControlTokensAreNotLearnedAsText()
    {
        string[] texts = [.. Enumerable.Repeat("<|im_start|>user\nhi<|im_end|>\n", 50)];
        string[] merges = Merges(BytePairTrainer.Train(texts, 256 + 26 + 4));
        Assert.DoesNotContain(merges, merge => merge.Contains('|') || merge.Contains('m'));
    }

    [Fact]
    public void ASizeThatCannotBeIsRefused()
    {
        Assert.Contains("282", Assert.Throws<BadRequestException>(() => BytePairTrainer.Train(["a"], 281)).Message, StringComparison.Ordinal);
        Assert.Contains("for only 283", Assert.Throws<BadRequestException>(() => BytePairTrainer.Train(["ab ab"], 400)).Message, StringComparison.Ordinal);
    }

    private const string Hostile = "Žluťoučký \u0915\u094D 中文 😀 \0\u0001\u007F\u00A0\u2028 '\u017F 123 \t\t\r\n";

    private static IEnumerable<string> Texts()
    {
        for (int i = 0; i < 40; i++)
        {
            yield return $"public static int Sum{i % 7}(int[] values)\n{{\n    int total = 0;\n    foreach (int value in values)\n        total += value * {i};\n    return total;\n}}\n";
            yield return $"def largest_{i % 5}(values):\n    \"\"\"Return the largest of the values, or None.\"\"\"\n    return max(values) if values else {i}\n";
            yield return "The quick brown fox doesn't jump over the lazy dog; naïve café owners weren't amused.\n\n";
        }
    }

    private static string[] Merges(TrainedVocabulary trained)
    {
        string folder = Directory.CreateTempSubdirectory("qian-vocabulary-").FullName;
        try
        {
            trained.Write(folder);
            return [.. File.ReadAllLines(Path.Combine(folder, "merges.txt")).Skip(1)];
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string[] Definition(string[] texts, int mergeCount)
    {
        var splitter = new PieceSplitter(PreTokenizer.Qwen35);
        var words = new Dictionary<string, long>();
        foreach (string text in texts)
        {
            byte[] bytes = Encoding.UTF8.GetBytes(text);
            for (int start = 0; start < bytes.Length;)
            {
                int end = splitter.FindEnd(bytes, start);
                string word = ByteAlphabet.Spell(bytes.AsSpan(start..end));
                words[word] = words.GetValueOrDefault(word) + 1;
                start = end;
            }
        }

        var age = new Dictionary<string, int>();
        foreach (char c in Enumerable.Range(0, 256).Select(value => ByteAlphabet.CharacterOf((byte)value)).Order())
            age.Add(c.ToString(), age.Count);
        List<(List<string> Parts, long Count)> split = [.. words.Select(word => (word.Key.Select(c => c.ToString()).ToList(), word.Value))];
        var merges = new List<string>();
        for (int i = 0; i < mergeCount; i++)
        {
            var counts = new Dictionary<(string Left, string Right), long>();
            foreach ((List<string> parts, long count) in split)
            {
                for (int p = 1; p < parts.Count; p++)
                    counts[(parts[p - 1], parts[p])] = counts.GetValueOrDefault((parts[p - 1], parts[p])) + count;
            }

            (string left, string right) = counts.OrderByDescending(pair => pair.Value).ThenBy(pair => age[pair.Key.Left]).ThenBy(pair => age[pair.Key.Right]).First().Key;
            merges.Add($"{left} {right}");
            age.TryAdd(left + right, age.Count);
            foreach ((List<string> parts, _) in split)
            {
                for (int p = 0; p + 1 < parts.Count; p++)
                {
                    if (parts[p] == left && parts[p + 1] == right)
                    {
                        parts[p] = left + right;
                        parts.RemoveAt(p + 1);
                    }
                }
            }
        }

        return [.. merges];
    }
}
