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
    public void SchemaMasksAreExact(string schema, string text) => Constrained.Schema(schema).CheckMasks(text);

    [Theory]
    [InlineData("[a-z]{1,30}", "abcdefghijkl")]
    [InlineData("[a-zA-Z ]{5,8}\\.", "Hello W.")]
    [InlineData("[^<]*</p>", "a b\nc </p>")]
    [InlineData("(\\w+, )*\\w+!", "abc, def!")]
    public void RegexMasksAreExact(string pattern, string text) => new Constrained(OutputConstraint.Regex(pattern)).CheckMasks(text);

    [Fact]
    public void GrammarMasksAreExact() =>
        new Constrained(OutputConstraint.Grammar("root ::= list\nlist ::= \"(\" (word (\" \" word)*)? \")\"\nword ::= [a-z]+ | list | \"né\" | \"a\" word \"b\"")).CheckMasks("(abc (né aab) x)");

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

    private static bool IsAllowed(ReadOnlySpan<ulong> allowed, int id) => (allowed[id >> 6] >> (id & 63) & 1) != 0;
}
