using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Qian.Inference.Constraint;
using Qian.Inference.Formats;
using Qian.Inference.Text;
using Xunit.Abstractions;

namespace Qian.Inference.Tests.Constraint;

// What masks cost over vocabularies of the real size: prints it, and holds what is shared to its bounds. Every reply is the first of its constraint, so
// that each mask of a place is made for the first time.
public sealed class MaskCostTests(ITestOutputHelper output)
{
    private const int Size = 248_320;
    private const int RoundCount = 5;

    private static readonly string s_words = string.Join(' ', Enumerable.Repeat("The quick brown fox, 12 dogs and Größe 日本", 6));

    private static readonly string[] s_before = ["\"", " \"", "(", " (", ".", "_", "\n\t", "</", "[", "{", "<", "::", "->", "='", "${", " `", "\\", "{\"", "\n    ", "//"];
    private static readonly string[] s_after = ["(", ")", "\"", ":", ";", ",", ".\n", "();\n", "\",", "\":", "=", ">", " =", "']", "\"}", "\\n", "<", "\n\n", " {", "</"];

    [Theory]
    [InlineData("words and code")]
    [InlineData("many scripts")]
    public void MasksOfTheRealVocabularySize(string vocabulary)
    {
        TokenTrie trie = TokenTrie.Of(vocabulary == "many scripts" ? LargeVocabulary.Make(Size) : WordsAndCode(), []);
        var ids = new Dictionary<string, int>();
        for (int id = 0; id < Size; id++)
            ids.TryAdd(Convert.ToHexString(trie.Bytes[id].Span), id);
        var all = new List<double>();
        foreach ((string name, OutputConstraint constraint, string text) in Cases())
            all.AddRange(Measure(trie, name, constraint, Cut(ids, text)));
        Write("all", all);
    }

    private static (string Name, OutputConstraint Constraint, string Text)[] Cases()
    {
        JsonElement write = JsonDocument.Parse("""{"type":"object","properties":{"path":{"type":"string"},"text":{"type":"string"},"n":{"type":"integer"}},"required":["path"]}""").RootElement;
        JsonElement find = JsonDocument.Parse("""{"type":"object","properties":{"query":{"type":"string","maxLength":200},"kinds":{"type":"array","items":{"enum":["file","folder","link"]}},"where":{"type":"object","properties":{"city":{"type":"string"},"near":{"type":"number"}},"required":["city"]}},"required":["query","where"]}""").RootElement;
        string call = $"<tool_call>\n<function=write>\n<parameter=path>\na/b.c\n</parameter>\n<parameter=text>\nif (a < b) {{ {s_words} }}\n</parameter>\n</function>\n</tool_call>";
        string letters = string.Concat(Enumerable.Repeat("thequickbrownfoxjumpsoverthelazydogs", 14))[..500];
        string sentences = string.Concat(Enumerable.Repeat("The quick brown fox jumps over lazy dogs.", 12));
        string prose = string.Concat(Enumerable.Repeat("a brown fo", 30));
        string items = string.Join(", ", Enumerable.Repeat("{\"id\": \"abc def\", \"n\": 1.5}", 20));
        string[] names = [.. Enumerable.Range(0, 200).Select(i => $"\"name {i}\"")];
        return
        [
            ("json_object", OutputConstraint.JsonObject, $"{{\"a\": \"{s_words}\", \"b\": [1, 2.5, {{\"c\": null, \"d\": true}}], \"e\": \"{s_words}\"}}"),
            ("schema", OutputConstraint.JsonSchema("""{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},"items":{"type":"array","items":{"type":"object","properties":{"id":{"type":"string"},"n":{"type":"number"}},"required":["id","n"]}}},"required":["name","age","items"]}"""),
                $"{{\"name\": \"{s_words}\", \"age\": 42, \"items\": [{items}]}}"),
            ("maxLength", OutputConstraint.JsonSchema("""{"type":"array","items":{"type":"string","minLength":3,"maxLength":400}}"""), $"[\"{s_words}\", \"{letters[..400]}\", \"{s_words}\"]"),
            ("minItems", OutputConstraint.JsonSchema("""{"type":"array","items":{"type":"string"},"minItems":150,"maxItems":200}"""), $"[{string.Join(", ", names)}]"),
            ("tools", OutputConstraint.ForCalls([new CallableTool("write", write)], false, true, null), $"{s_words}\n\n{call}"),
            ("more tools", OutputConstraint.ForCalls([new CallableTool("write", write), new CallableTool("find", find)], false, true, null),
                $"I `look`:\n```\nx\n```\n{s_words}\n\n<tool_call>\n<function=find>\n<parameter=query>\n\"{s_words[..90]}\"\n</parameter>\n<parameter=where>\n{{\"city\": \"Zürich\", \"near\": 1.5}}\n</parameter>\n</function>\n</tool_call>\n{call}"),
            ("tool required", OutputConstraint.ForCalls([new CallableTool("write", write)], true, false, null), call),
            ("regex x", OutputConstraint.Regex("x{1,500}"), new string('x', 500)),
            ("regex a-z", OutputConstraint.Regex("[a-z]{1,500}"), letters),
            ("regex words", OutputConstraint.Regex("([A-Z]?[a-z]{1,12}[ .]){1,100}"), sentences),
            ("regex but x", OutputConstraint.Regex("[^x]{1,300}"), prose),
            ("regex any", OutputConstraint.Regex(".{1,300}"), prose),
            ("regex key", OutputConstraint.Regex("(name|title|summary): [^\\s,;]{3,80}(, [^\\s,;]{3,80}){2,40}"), "title: " + string.Join(", ", Enumerable.Repeat("brown日本", 24))),
            ("regex hex", OutputConstraint.Regex("[0-9a-f]{64}(-[0-9a-f]{64}){0,9}"), string.Join('-', Enumerable.Repeat(string.Concat(Enumerable.Repeat("0123456789abcdef", 4)), 3))),
            ("grammar", OutputConstraint.Grammar("root ::= s+\ns ::= [a-zA-Z, ]+ | \"(\" s* \")\" | \"[\" s* \"]\""), string.Join(' ', Enumerable.Repeat("abc (def [ghi, jkl] (mno)) pq", 8))),
            ("grammar sums", OutputConstraint.Grammar("root ::= sum\nsum ::= product ([+-] product)*\nproduct ::= value ([*/] value)*\nvalue ::= [a-z]{1,20} | [0-9]{1,30} | \"(\" sum \")\" | \"'\" [^'\\n]* \"'\""),
                string.Join('+', Enumerable.Repeat("(name*12/(age-0123456789)+'The quick, brown 日本')", 8))),
        ];
    }

    private List<double> Measure(TokenTrie trie, string name, OutputConstraint constraint, int[] tokens)
    {
        // Each mask of a reply at its best of several replies: what others took of the machine is no part of it.
        double[] times = new double[tokens.Length];
        Array.Fill(times, double.MaxValue);
        double compiling = double.MaxValue;
        MaskPlan? plan = null;
        for (int i = 0; i < RoundCount; i++)
        {
            double start = ThreadMilliseconds();
            plan = new MaskPlan(Automaton.Compile(constraint.ToGrammar()), trie);
            compiling = Math.Min(compiling, ThreadMilliseconds() - start);
            Assert.InRange(plan.Masks.Count, 0, SharedMasks.Capacity);
            Run(new TokenConstraint(plan, [0]), tokens, times);
        }

        int shaped = Enumerable.Range(0, plan!.Automaton.StateCount).Count(state => plan.Shapes.Of(state) is not null);
        return Write($"{name,-14} {plan.Automaton.StateCount,6} states, compiled in {compiling,6:f1} ms", [.. times], $"{plan.Masks.Count} shared, {shaped} states by shapes");
    }

    private List<double> Write(string name, List<double> times, string more = "")
    {
        List<double> sorted = [.. times.Order()];
        output.WriteLine($"{name,-48} {sorted.Count,5} tokens: mask mean {sorted.Average(),6:f3} ms, median {sorted[sorted.Count / 2],6:f3}, p99 {sorted[(int)(sorted.Count * 0.99)],6:f3}, max {sorted[^1],6:f3} {more}");
        return times;
    }

    private static void Run(TokenConstraint constraint, int[] tokens, double[] times)
    {
        for (int i = 0; i < tokens.Length; i++)
        {
            int token = tokens[i];
            double start = ThreadMilliseconds();
            ReadOnlySpan<ulong> allowed = constraint.Allowed;
            times[i] = Math.Min(times[i], ThreadMilliseconds() - start);
            Assert.True((allowed[token >> 6] >> (token & 63) & 1) != 0, $"token {token} is not allowed");
            constraint.Accept(token);
        }

        Assert.True(constraint.IsWhole);
    }

    // The longest token every time.
    private static int[] Cut(Dictionary<string, int> ids, string text)
    {
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

    // Half of it words, half what vocabularies learn from code: words with brackets, quotes, indentation and line ends stuck to them.
    private static ReadOnlyMemory<byte>[] WordsAndCode()
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

    private static double ThreadMilliseconds()
    {
        if (!OperatingSystem.IsLinux())
            return Stopwatch.GetTimestamp() * 1e3 / Stopwatch.Frequency;
        ReadClock(3, out ClockTime time);   // 3: the processor's time of this thread
        return (time.Seconds * 1e3) + (time.Nanoseconds * 1e-6);
    }

    [DllImport("libc", EntryPoint = "clock_gettime")]
    private static extern int ReadClock(int clock, out ClockTime time);

    private struct ClockTime
    {
        public nint Seconds;
        public nint Nanoseconds;
    }
}
