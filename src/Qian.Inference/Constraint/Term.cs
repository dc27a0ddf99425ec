namespace Qian.Inference.Constraint;

// What every way of writing a constraint (regex, grammar, JSON schema, tools) becomes: a tree of terms over Unicode text, with rules for what
// recurs. Terms only describe; NfaBuilder gives them states. A tree may be shared, and is never changed once its rules have bodies.
internal abstract record Term
{
    public static Term Empty { get; } = new Literal("");

    // Matches no text at all.
    public static Term Nothing { get; } = new Choice([]);

    public static Term Of(params Term[] items) => items.Length == 1 ? items[0] : new Sequence(items);

    public static Term AnyOf(params Term[] items) => items.Length == 1 ? items[0] : new Choice(items);

    public static Term Optional(Term item) => new Repeat(item, 0, 1);

    // Code points out of a set, one of them.
    internal sealed record Chars(CodePointSet Set) : Term;

    internal sealed record Literal(string Text) : Term;

    internal sealed record Sequence(IReadOnlyList<Term> Items) : Term;

    internal sealed record Choice(IReadOnlyList<Term> Items) : Term;

    // Max null: any number.
    internal sealed record Repeat(Term Item, int Min, int? Max) : Term;

    internal sealed record Call(Rule Rule) : Term;

    // Texts that match both; neither may call rules that recur.
    internal sealed record Both(Term Left, Term Right) : Term;

    // Items in the given order, optional ones left out at will, with the separator between those that are there; then any number of More.
    internal sealed record Ordered(IReadOnlyList<Member> Items, Term Separator, Term? More) : Term;

    // Each item at most once in any order, the required ones all. For few items: there is a state for every subset.
    internal sealed record AnyOrder(IReadOnlyList<Member> Items) : Term
    {
        public const int MostItems = 8;
    }

    // States of its own over bytes: state 0 is the start, To is -1 for the term's end.
    internal sealed record Graph(int StateCount, IReadOnlyList<Edge> Edges, IReadOnlyList<int> Accepting) : Term;

    internal readonly record struct Member(Term Term, bool IsRequired);

    internal readonly record struct Edge(int From, byte Low, byte High, int To);
}

// A named part of a grammar, which may call itself. Identity counts, not contents.
internal sealed class Rule(string name)
{
    public string Name { get; } = name;

    public Term Body { get; set; } = Term.Nothing;

    // Never copied into its callers: for large bodies that are called from many places.
    public bool StandsAlone { get; init; }
}

// A grammar to be compiled. MaxDepth bounds how deep rules that were not copied into their callers may nest while text is read.
internal sealed record Grammar(Term Root, int MaxDepth)
{
    // Text of the model's markup, such as <tool_call>, may be written as the tokens that stand for it.
    public bool UsesMarkup { get; init; }
}
