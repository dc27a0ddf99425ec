namespace Qian.Inference.Tests.Constraint;

public sealed class GrammarTests
{
    private const string Arithmetic = """
        # sums and products
        root   ::= sum "\n"?
        sum    ::= product (("+" | "-") product)*
        product ::= atom ([*/] atom)*
        atom   ::= [0-9]{1,3} | "(" sum ")" | name
        name   ::= [a-zé_] [a-z0-9]*
        """;

    [Theory]
    [InlineData("1", true)]
    [InlineData("1+2*(3-x)", true)]
    [InlineData("((((((7))))))\n", true)]
    [InlineData("é1*2", true)]
    [InlineData("1+", false)]
    [InlineData("1234", false)]
    [InlineData("(1", false)]
    [InlineData("1)", false)]
    public void RecursiveRulesAreFollowed(string text, bool matches) => Assert.Equal(matches, new Constrained(OutputConstraint.Grammar(Arithmetic)).Matches(text));

    [Fact]
    public void ListsWrittenAsRecursionDoNotNest()
    {
        var constrained = new Constrained(OutputConstraint.Grammar("root ::= item | item \",\" root\nitem ::= \"a\" | \"(\" item \")\""));
        Assert.True(constrained.Matches(string.Join(',', Enumerable.Repeat("a", 3000))));
        Assert.True(constrained.Matches(new string('(', 150) + "a" + new string(')', 150)));
        Assert.False(constrained.Matches(new string('(', 300) + "a" + new string(')', 300)));
    }

    [Fact]
    public void WhatIsDrawnMatches()
    {
        var constrained = new Constrained(OutputConstraint.Grammar(Arithmetic));
        var random = new Random(1);
        int whole = 0;
        for (int i = 0; i < 50; i++)
        {
            if (constrained.Draw(random) is not { } text)
                continue;
            whole++;
            Assert.True(constrained.Matches(text), text);
        }

        Assert.True(whole > 25);
    }

    [Theory]
    [InlineData("root ::= root \"a\" | \"b\"", "root")]
    [InlineData("root ::= a\na ::= b? root | \"x\"\nb ::= \"y\"?", "left recursion")]
    [InlineData("root ::= a", "there is no rule 'a'")]
    [InlineData("x ::= \"a\"", "there is no rule 'root'")]
    [InlineData("root ::= \"a", "not closed")]
    [InlineData("root ::= (\"a\"", "not closed")]
    [InlineData("root ::= [a", "not closed")]
    [InlineData("root = \"a\"", "expected '::='")]
    [InlineData("root ::= \"a\"\nroot ::= \"b\"", "twice")]
    [InlineData("root ::= a\na ::= \"(\" a \")\"", "no text")]
    [InlineData("root ::= *", "nothing to repeat")]
    [InlineData("root ::= \"a\"{9999999}", "a count")]
    [InlineData("", "no rule 'root'")]
    [InlineData("§", "expected the name")]
    public void BadGrammarsAreRefused(string grammar, string says)
    {
        BadRequestException refusal = Assert.Throws<BadRequestException>(() => new Constrained(OutputConstraint.Grammar(grammar)));
        Assert.Contains(says, refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AmbiguityIsBounded()
    {
        var constrained = new Constrained(OutputConstraint.Grammar("root ::= s\ns ::= \"a\" s s? | \"a\" | \"a\" s \"a\""));
        Assert.True(constrained.Matches(new string('a', 60)));
    }

    // 2^30 if every rule were copied into the next.
    [Fact]
    public void RulesThatDoubleAreCalled()
    {
        string grammar = "root ::= r30\nr0 ::= \"a\"?\n" + string.Join('\n', Enumerable.Range(1, 30).Select(i => $"r{i} ::= r{i - 1} r{i - 1}"));
        var constrained = new Constrained(OutputConstraint.Grammar(grammar));
        Assert.True(constrained.Automaton.StateCount < 200_000);
    }
}
