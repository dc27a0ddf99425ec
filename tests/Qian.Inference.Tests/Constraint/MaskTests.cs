using System.Text;
using System.Text.Json;
using Qian.Inference.Constraint;

namespace Qian.Inference.Tests.Constraint;

// Masks against the definition: a token is allowed when its bytes can be read, one by one. And no more than that is done per token.
public sealed class MaskTests
{
    [Theory]
    [InlineData("""{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"array","items":{"type":"integer"}}},"required":["a","b"]}""", "{\"a\": \"x é\\n\", \"b\":[1,20]}")]
    [InlineData("""{"type":"string","minLength":2,"maxLength":9}""", "\"abc def g\"")]
    [InlineData("""{"type":"string","maxLength":30}""", "\"日本a😀bcdefghij klmnopqr\"")]
    [InlineData("""{"type":"object"}""", "{\"x\":{\"y\":[[true,null]]}}")]
    [InlineData("""{"type":"array","items":{"type":"string","pattern":"^[a-z ]{3,40}$"},"minItems":2,"maxItems":12}""", "[\"abcdef ghi\",\"xyz\"]")]
    [InlineData("""{"type":"array","items":{"type":"string","maxLength":40},"minItems":3,"maxItems":60}""", "[\"abc\",\"\",\"0123456789 0123456789 012345678 01234567\",\"x\",\"y\",\"é\"]")]
    [InlineData("""{"type":"object","properties":{"n":{"$ref":"#"},"s":{"type":"string"}},"additionalProperties":false}""", "{\"n\":{\"n\":{\"n\":{\"n\":{\"n\":{\"n\":{\"s\":\"a\"}}},\"s\":\"b c\"}}}}")]
    public void SchemaMasksAreExact(string schema, string text) => Constrained.Schema(schema).CheckMasks(text);

    [Theory]
    [InlineData("[a-z]{1,30}", "abcdefghijkl")]
    [InlineData("[a-zA-Z ]{5,8}\\.", "Hello W.")]
    [InlineData("[^<]*</p>", "a b\nc </p>")]
    [InlineData("(\\w+, )*\\w+!", "abc, def!")]
    [InlineData("x{1,60}", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")]
    [InlineData("[a-z]{1,50}", "thequickbrownfoxjumpsoverthelazydogandrunsfarawayz")]
    [InlineData("[^e,]{3,45}(,|e{2,9})", "abc d é日本 xyz\n\"<`\\ 0123456789 ABCDEFGHIJK ,")]
    [InlineData("(ab|cd?){2,30}[0-9]{0,20}", "abccdcabababcccdcdababc0123456789")]
    [InlineData("(name|title): [^\\s,;]{3,30}(, [^ ]{2,9})?", "title: abc日本d\"x, yz`\\")]
    public void RegexMasksAreExact(string pattern, string text) => new Constrained(OutputConstraint.Regex(pattern)).CheckMasks(text);

    [Fact]
    public void GrammarMasksAreExact() =>
        new Constrained(OutputConstraint.Grammar("root ::= list\nlist ::= \"(\" (word (\" \" word)*)? \")\"\nword ::= [a-z]+ | list | \"né\" | \"a\" word \"b\"")).CheckMasks("(abc (né aab) x)");

    [Fact]
    public void CallMasksAreExact() =>
        new Constrained(OutputConstraint.ForCalls([new CallableTool("f", JsonDocument.Parse("""{"type":"object","properties":{"a":{"type":"string"},"n":{"type":"array","items":{"type":"integer"}}},"required":["a"]}""").RootElement)], false, true, null))
            .CheckMasks("Hi `<tool_call>`\n```\nx\n```\n<tool_call>\n<function=f>\n<parameter=a>\nif </p a<b\n</parameter>\n<parameter=n>\n[1, 22]\n</parameter>\n</function>\n</tool_call>");

    // As deep as rules may nest, "th" would begin a list that no longer fits, though a mask of the same state further up allows it.
    [Fact]
    public void SharedMasksKnowTheDepthThatIsLeft()
    {
        var constrained = new Constrained(OutputConstraint.Grammar($"root ::= \"<\" list \">\"\nlist ::= \"ht\" list \"{new string('[', 60)}\" | \"z\""));
        string text = "<";
        while (constrained.Read(Encoding.UTF8.GetBytes(text + "ht")) != false)
            text += "ht";
        Assert.InRange(text.Length, 300, 500);
        var shared = new MaskPlan(constrained.Automaton, Constrained.Trie, leastSteps: 0, mostShapeNodes: 0);
        var alone = new MaskPlan(constrained.Automaton, Constrained.Trie, leastSteps: int.MaxValue, mostShapeNodes: 0);
        ulong[] above = MaskAfter(shared, "<h");
        Assert.Equal(MaskAfter(alone, "<h"), above);
        Assert.NotEqual(0, shared.Masks.Count);
        ulong[] below = MaskAfter(shared, text[..^1]);
        Assert.Equal(MaskAfter(alone, text[..^1]), below);
        Assert.NotEqual(above, below);
    }

    [Fact]
    public void StatesThatCountAreOfOneClassUntilTheEndIsNear()
    {
        Automaton automaton = Automaton.Compile(OutputConstraint.Regex("x{1,5000}").ToGrammar());
        int[] classes = StateClasses.Of(automaton, 24);
        Assert.Equal(5001, automaton.StateCount);
        Assert.InRange(classes.Distinct().Count(), 24, 28);
        // Each class by the definition: as many bytes as may follow, up to the depth.
        var lengths = new Dictionary<int, int>();
        for (int state = 0; state < automaton.StateCount; state++)
        {
            int length = 0;
            for (int at = state; length < 24 && automaton.NextOf(at)[automaton.ClassOf['x']] >= 0; length++)
                at = automaton.NextOf(at)[automaton.ClassOf['x']];
            lengths.TryAdd(classes[state], length);
            Assert.Equal(lengths[classes[state]], length);
        }
    }

    // Words enough that a walk comes by more sets of places than the table holds, so that it starts anew on the way, all below one beginning.
    [Fact]
    public void MasksOfManyPlacesAreExact()
    {
        var random = new Random(3);
        string[] words = [.. Enumerable.Range(0, 8000).Select(_ => "qu" + new string([.. Enumerable.Range(0, random.Next(3, 9)).Select(_ => (char)('a' + random.Next(26)))])).Distinct()];
        ReadOnlyMemory<byte>[] tokens = [.. words.Concat(words.Select(word => word + "!")).Select(word => (ReadOnlyMemory<byte>)Encoding.UTF8.GetBytes(word)), .. words.Select(word => (ReadOnlyMemory<byte>)Encoding.UTF8.GetBytes(word[..4]))];
        TokenTrie trie = TokenTrie.Of(tokens, []);
        Automaton automaton = Automaton.Compile(OutputConstraint.Regex("(" + string.Join('|', words.Where((_, i) => i % 3 != 0)) + ")[!]").ToGrammar());
        ulong[] allowed = new TokenConstraint(new MaskPlan(automaton, trie, int.MaxValue, 0), []).Allowed.ToArray();
        var walk = new ConstraintWalk(automaton, trie.Depth);
        int count = 0;
        for (int id = 0; id < tokens.Length; id++)
        {
            walk.Begin();
            int read = 0;
            while (read < tokens[id].Length && walk.Step(read, tokens[id].Span[read]))
                read++;
            Assert.Equal(read == tokens[id].Length, IsAllowed(allowed, id));
            count += IsAllowed(allowed, id) ? 1 : 0;
        }

        Assert.InRange(count, 9000, tokens.Length - 2000);
    }

    [Fact]
    public void TheEndIsAllowedWhereTheTextIsWhole()
    {
        var constrained = new Constrained(OutputConstraint.Regex("ab?"));
        var place = constrained.Begin();
        Assert.False(IsAllowed(place.Allowed, constrained.EndId));
        place.Accept('a');
        Assert.True(IsAllowed(place.Allowed, constrained.EndId));
        Assert.False(place.IsComplete);
        place.Accept('b');
        Assert.True(place.IsComplete);
        Assert.Equal([constrained.EndId], Enumerable.Range(0, Constrained.Tokenizer.VocabularySize).Where(id => IsAllowed(place.Allowed, id)));
    }

    [Fact]
    public void DraftsAreCountedWithoutMoving()
    {
        Constrained constrained = Constrained.Schema("""{"type":"object","properties":{"k":{"type":"array","items":{"type":"integer"}}},"required":["k"]}""");
        var place = constrained.Begin();
        int[] good = [.. "{\"k\":[[1"u8.ToArray().Select(b => (int)b)];
        ulong[] before = place.Allowed.ToArray();
        Assert.Equal(6, place.CountAllowed(good));
        Assert.Equal(before, place.Allowed.ToArray());
        foreach (int id in "{\"k\":["u8)
            place.Accept(id);
        ulong[] inside = place.Allowed.ToArray();
        Assert.Equal(4, place.CountAllowed([.. "12]}"u8.ToArray().Select(b => (int)b), 'x']));
        Assert.Equal(5, place.CountAllowed([.. "12]}"u8.ToArray().Select(b => (int)b), constrained.EndId, 'x']));
        Assert.Equal(inside, place.Allowed.ToArray());
        foreach (int id in "12]}"u8)
            place.Accept(id);
        Assert.True(place.IsWhole);
    }

    [Fact]
    public void SteadyStateAllocatesNothing()
    {
        Constrained constrained = Constrained.Schema("""{"type":"array","items":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"},"c":{"type":"object"}},"required":["a","b","c"]}}""");
        var place = constrained.Begin();
        byte[] item = """{"a": "some text", "b": 15, "c": {"x": [1, 2, {"y": null}]}},"""u8.ToArray();
        place.Accept('[');
        ulong sum = 0;
        void Once()
        {
            foreach (byte b in item)
            {
                sum += place.Allowed[0];
                place.Accept(b);
            }
        }

        for (int i = 0; i < 5; i++)
            Once();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 20; i++)
            Once();
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.NotEqual(0ul, sum);
    }

    private static ulong[] MaskAfter(MaskPlan plan, string text)
    {
        var place = new TokenConstraint(plan, []);
        foreach (char value in text)
            place.Accept(value);
        return place.Allowed.ToArray();
    }

    private static bool IsAllowed(ReadOnlySpan<ulong> allowed, int id) => (allowed[id >> 6] >> (id & 63) & 1) != 0;
}
