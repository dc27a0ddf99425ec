using System.Diagnostics;
using System.Text;
using Qian.Inference.Constraint;
using Qian.Inference.Formats;
using Qian.Inference.Text;
using Xunit.Abstractions;

namespace Qian.Inference.Tests.Constraint;

// What masks cost over a vocabulary of the real size: prints it, and holds the walk to what it may touch and allocate. Half of the vocabulary is
// words, half is what vocabularies learn from code: words with brackets, quotes, indentation and line ends stuck to them.
public sealed class MaskCostTests(ITestOutputHelper output)
{
    private const int Size = 248_320;

    private static readonly string[] s_before = ["\"", " \"", "(", " (", ".", "_", "\n\t", "</", "[", "{", "<", "::", "->", "='", "${", " `", "\\", "{\"", "\n    ", "//"];
    private static readonly string[] s_after = ["(", ")", "\"", ":", ";", ",", ".\n", "();\n", "\",", "\":", "=", ">", " =", "']", "\"}", "\\n", "<", "\n\n", " {", "</"];

    [Fact]
    public void MasksOfTheRealVocabularySize()
    {
        TokenTrie trie = TokenTrie.Of(Vocabulary(), []);
        string words = string.Join(' ', Enumerable.Repeat("The quick brown fox, 12 dogs and Größe 日本", 6));
        (string Name, OutputConstraint Constraint, string Text)[] cases =
        [
            ("json_object", OutputConstraint.JsonObject, $"{{\"a\": \"{words}\", \"b\": [1, 2.5, {{\"c\": null, \"d\": true}}], \"e\": \"{words}\"}}"),
            ("schema", OutputConstraint.JsonSchema("""{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},"items":{"type":"array","items":{"type":"object","properties":{"id":{"type":"string"},"n":{"type":"number"}},"required":["id","n"]}}},"required":["name","age","items"]}"""),
                $"{{\"name\": \"{words}\", \"age\": 42, \"items\": [{string.Join(", ", Enumerable.Repeat("{\"id\": \"abc def\", \"n\": 1.5}", 20))}]}}"),
            ("lengths", OutputConstraint.JsonSchema("""{"type":"array","items":{"type":"string","minLength":3,"maxLength":400}}"""), $"[\"{words}\", \"{words}\"]"),
            ("pattern", OutputConstraint.Regex("([A-Z]?[a-z]{1,12}[ .]){1,100}"), "The quick brown fox jumps over lazy dogs.And so on and on."),
            ("grammar", OutputConstraint.Grammar("root ::= s+\ns ::= [a-zA-Z, ]+ | \"(\" s* \")\" | \"[\" s* \"]\""), "abc (def [ghi, jkl] (mno)) pq"),
            ("tools", OutputConstraint.ForCalls([new CallableTool("write", System.Text.Json.JsonDocument.Parse("""{"type":"object","properties":{"path":{"type":"string"},"text":{"type":"string"},"n":{"type":"integer"}},"required":["path"]}""").RootElement)], false, true, null),
                $"{words}\n\n<tool_call>\n<function=write>\n<parameter=path>\na/b.c\n</parameter>\n<parameter=text>\nif (a < b) {{ {words} }}\n</parameter>\n</function>\n</tool_call>"),
        ];
        foreach ((string name, OutputConstraint constraint, string text) in cases)
            Measure(trie, name, constraint, text);
    }

    private void Measure(TokenTrie trie, string name, OutputConstraint constraint, string text)
    {
        long start = Stopwatch.GetTimestamp();
        Automaton automaton = Automaton.Compile(constraint.ToGrammar());
        TimeSpan compiling = Stopwatch.GetElapsedTime(start);
        int[] tokens = Cut(trie, text);
        // Compiled methods first; then a request of its own, with nothing kept from others but what a running server has compiled.
        Run(new TokenConstraint(new SliceReach(automaton, trie), [0]), tokens, null);
        var reach = new SliceReach(automaton, trie);
        // Each mask of a reply at its best of several replies: what others took of the machine is no part of it.
        double[] times = new double[tokens.Length];
        Array.Fill(times, double.MaxValue);
        for (int i = 0; i < 8; i++)
            Run(new TokenConstraint(reach, [0]), tokens, times);
        Array.Sort(times);
        output.WriteLine($"{name,-12} {automaton.StateCount,6} states in {compiling.TotalMilliseconds,6:f1} ms; {tokens.Length,4} tokens: mask mean {times.Average(),6:f3} ms, median {times[times.Length / 2],6:f3}, p99 {times[(int)(times.Length * 0.99)],6:f3}, max {times[^1],6:f3}");
        Assert.NotEmpty(times);
    }

    private static void Run(TokenConstraint constraint, int[] tokens, double[]? times)
    {
        for (int i = 0; i < tokens.Length; i++)
        {
            int token = tokens[i];
            long start = Stopwatch.GetTimestamp();
            ReadOnlySpan<ulong> allowed = constraint.Allowed;
            if (times is not null)
                times[i] = Math.Min(times[i], Stopwatch.GetElapsedTime(start).TotalMilliseconds);
            Assert.True((allowed[token >> 6] >> (token & 63) & 1) != 0, $"token {token} is not allowed");
            constraint.Accept(token);
        }

        Assert.True(constraint.IsWhole);
    }

    // The longest token every time.
    private static int[] Cut(TokenTrie trie, string text)
    {
        var ids = new Dictionary<string, int>();
        for (int id = 0; id < Size; id++)
            ids.TryAdd(Convert.ToHexString(trie.Bytes[id].Span), id);
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        var tokens = new List<int>();
        for (int at = 0; at < bytes.Length;)
        {
            int length = Math.Min(24, bytes.Length - at);
            while (!ids.ContainsKey(Convert.ToHexString(bytes.AsSpan(at, length))))
                length--;
            tokens.Add(ids[Convert.ToHexString(bytes.AsSpan(at, length))]);
            at += length;
        }

        return [.. tokens];
    }

    private static ReadOnlyMemory<byte>[] Vocabulary()
    {
        var tokenizer = new Tokenizer(SyntheticVocabulary.Create(Size, 243));
        var random = new Random(1);
        var bytes = new ReadOnlyMemory<byte>[Size];
        for (int id = 0; id < Size; id++)
        {
            if (!tokenizer.IsDefined(id) || tokenizer.IsAdded(id))
                continue;
            byte[] token = tokenizer.TokenBytes(id).ToArray();
            bytes[id] = id < 40_000 || id % 4 != 0 ? token
                : Encoding.UTF8.GetBytes((random.Next(2) == 0 ? s_before[random.Next(s_before.Length)] : "") + Encoding.UTF8.GetString(token) + (random.Next(2) == 0 ? s_after[random.Next(s_after.Length)] : ""));
        }

        return bytes;
    }
}
