namespace Qian.Nano;

// Identifiers. Every name is on one side of the partition, as words, so that PascalCase and snake_case fall together.
internal static class Names
{
    // In training, so many in a hundred names are words that can only be copied.
    private const int InventedShare = 25;

    private static readonly string[] s_verbs = ["", "get", "compute", "calculate", "find", "return", "make", "the", "to", "do"];
    private static readonly string[] s_tails = ["", "of", "from", "in", "for", "value", "result"];

    private static readonly Dictionary<string, string[]> s_pools = new()
    {
        ["numbers"] = ["numbers", "values", "nums", "items", "data", "array", "elements", "input", "xs", "scores", "integers", "amounts", "sizes", "ages", "points", "lengths", "weights", "marks", "prices", "levels", "readings", "samples", "ranks", "grades", "temperatures", "distances", "heights", "costs", "sales", "votes", "digits", "rows", "coins", "years", "series", "source", "collection", "sequence", "entries", "measures"],
        ["text"] = ["text", "s", "str1", "input", "word", "line", "phrase", "message", "source", "content", "title", "label", "sentence", "name", "value", "txt", "caption", "token", "comment", "note", "query", "password", "sample", "original"],
        ["words"] = ["words", "names", "items", "lines", "strings", "values", "texts", "labels", "tokens", "entries", "titles", "cities", "tags", "fruits", "terms", "keys", "animals", "users", "colors", "files", "parts"],
        ["number"] = ["n", "number", "value", "num", "input", "x", "amount", "k", "integer", "val", "size", "id", "code", "m", "arg", "given", "start", "units"],
        ["limit"] = ["limit", "threshold", "bound", "minimum", "cutoff", "floor", "mark", "border", "edge", "boundary", "lowest", "barrier"],
        ["letter"] = ["letter", "target", "c", "symbol", "character", "wanted", "mark", "sign", "needle", "key"],
        ["count"] = ["count", "k", "length", "amount", "size", "howMany", "quantity", "take", "times"],
        ["item"] = ["target", "value", "item", "wanted", "needle", "element", "key", "goal", "search", "sought"],
        ["second"] = ["other", "second", "right", "b", "next", "more", "extra", "tail", "others", "rest"],
        ["first"] = ["a", "first", "left", "p", "one", "head", "front", "u"],
    };

    // A Python function of such a name would hide what its own body calls.
    private static readonly HashSet<string> s_builtIn = ["sum", "max", "min", "abs", "len", "sorted", "reversed", "all", "any", "round", "pow", "range", "list", "set", "filter", "map", "zip", "return", "reverse", "count", "make"];

    public static string Parameter(Dice dice, Split split, string pool, params ReadOnlySpan<string> taken)
    {
        while (true)
        {
            string name = split == Split.Training && dice.Chance(InventedShare) ? Invented.Word(dice, split) : dice.Pick(s_pools[pool]);
            // Small pools may have no held-out name: a number makes one.
            if (dice.Chance(split == Split.HeldOut ? 30 : 3))
                name += dice.Between(1, 3);
            if (!taken.Contains(name) && split.Admits("name", name))
                return name;
        }
    }

    // Words of the function's name from the words that say what it does.
    public static string Function(Dice dice, Split split, string core)
    {
        bool isQuestion = core.StartsWith("is ", StringComparison.Ordinal) || core.StartsWith("has ", StringComparison.Ordinal) || core.StartsWith("are ", StringComparison.Ordinal);
        while (true)
        {
            string verb = dice.Chance(55) || isQuestion ? "" : dice.Pick(s_verbs);
            string tail = dice.Chance(75) ? "" : dice.Pick(s_tails);
            string name = $"{verb} {core} {tail}".Trim().Replace("  ", " ", StringComparison.Ordinal);
            if (split == Split.HeldOut ? dice.Chance(20) : dice.Chance(4))
                name += " " + dice.Between(1, 9);
            else if (split == Split.Training && dice.Chance(InventedShare / 2))
                name += " " + Invented.Word(dice, split);
            if (!s_builtIn.Contains(name) && split.Admits("name", name))
                return name;
        }
    }

    public static string Pascal(string words) => string.Concat(words.Split(' ').Select(word => char.ToUpperInvariant(word[0]) + word[1..]));

    public static string Snake(string words) => words.Replace(' ', '_');
}
