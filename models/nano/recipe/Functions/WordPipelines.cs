namespace Qian.Nano;

// Functions over words: those of a list, or of a sentence that has to be split first. Filter, map and fold as for numbers.
internal static class WordPipelines
{
    private sealed record Filter(string Key, string Name, string[] Phrases, string CSharp, string Python, Func<string, bool> Holds, string Plan);

    private sealed record Map(string Key, string Name, string Phrase, string CSharp, string Python, Func<string, string> Apply, string Plan);

    // {s} the C# sequence or the Python generator, {l} a Python list.
    private sealed record Fold(string Key, string Name, string[] Phrases, string CSharp, string Python, Func<string[], object> Apply, Sort Result, string Plan, bool NeedsStep = false);

    private static readonly Filter[] s_filters =
    [
        .. new[] { 2, 3, 4, 5 }.Select(k => new Filter($"longer{k}", $"longer than {k}", [$"words longer than {k} letters", $"words with more than {k} characters"], $"{{w}}.Length > {k}", $"len({{w}}) > {k}", w => w.Length > k, $"keep words longer than {k}")),
        .. new[] { 4, 5, 6 }.Select(k => new Filter($"shorter{k}", $"shorter than {k}", [$"words shorter than {k} letters", $"words with fewer than {k} characters"], $"{{w}}.Length < {k}", $"len({{w}}) < {k}", w => w.Length < k, $"keep words shorter than {k}")),
        .. "abst".Select(c => new Filter($"starts{c}", $"starting with {c}", [$"words that start with '{c}'", $"words beginning with '{c}'"], $"{{w}}.StartsWith(\"{c}\")", $"{{w}}.startswith(\"{c}\")", w => w.Length > 0 && w[0] == c, $"keep words that start with {c}")),
        .. "esy".Select(c => new Filter($"ends{c}", $"ending with {c}", [$"words that end with '{c}'", $"words ending in '{c}'"], $"{{w}}.EndsWith(\"{c}\")", $"{{w}}.endswith(\"{c}\")", w => w.Length > 0 && w[^1] == c, $"keep words that end with {c}")),
        .. "eao".Select(c => new Filter($"contains{c}", $"with letter {c}", [$"words that contain '{c}'", $"words with the letter '{c}'"], $"{{w}}.Contains('{c}')", $"\"{c}\" in {{w}}", w => w.Any(d => d == c), $"keep words that contain {c}")),
        new("evenlength", "even length", ["words of even length"], "{w}.Length % 2 == 0", "len({w}) % 2 == 0", w => w.Length % 2 == 0, "keep words of even length"),
    ];

    private static readonly Map[] s_maps =
    [
        new("upper", "upper", "{s}, in upper case", "{w}.ToUpper()", "{w}.upper()", w => w.ToUpperInvariant(), "turn each to upper case"),
        new("reverse", "reversed words", "{s}, each reversed", "new string(Enumerable.Reverse({w}).ToArray())", "{w}[::-1]", w => string.Concat(Enumerable.Range(1, w.Length).Select(i => w[^i])), "reverse each"),
        new("initial", "first letters", "the first letters of {s}", "{w}.Substring(0, 1)", "{w}[0]", w => w[0].ToString(), "take the first letter of each"),
        new("exclaim", "with marks", "{s}, each followed by '!'", "{w} + \"!\"", "{w} + \"!\"", w => w + "!", "add a mark to each"),
    ];

    private static readonly Fold[] s_folds =
    [
        new("count", "count", ["the number of {p}", "how many {p} there are"], "return {s}.Count();", "return len({l})", w => (long)w.Length, Sort.Int, "count them", true),
        new("list", "list", ["a list of {s}"], "return {s}.ToList();", "return {l}", w => w, Sort.Texts, "collect them", true),
        new("spaced", "joined", ["{s}, joined by spaces", "a string of {s} with spaces between"], "return string.Join(\" \", {s});", "return \" \".join({g})", w => string.Join(' ', w), Sort.Text, "join them with spaces"),
        new("dashed", "dashed", ["{s}, joined by dashes", "a string of {s} with dashes between"], "return string.Join(\"-\", {s});", "return \"-\".join({g})", w => string.Join('-', w), Sort.Text, "join them with dashes"),
        new("longest", "longest of", ["the longest of {s}"], "return {s}.OrderByDescending({w} => {w}.Length).First();", "return max({g}, key=len)", w => Extreme(w, (a, b) => a.Length > b.Length), Sort.Text, "take the longest"),
        new("shortest", "shortest of", ["the shortest of {s}"], "return {s}.OrderBy({w} => {w}.Length).First();", "return min({g}, key=len)", w => Extreme(w, (a, b) => a.Length < b.Length), Sort.Text, "take the shortest"),
        new("sorted", "sorted", ["{s}, in alphabetical order", "{s}, sorted"], "return {s}.OrderBy({w} => {w}, StringComparer.Ordinal).ToList();", "return sorted({g})", w => { var copy = (string[])w.Clone(); Array.Sort(copy, string.CompareOrdinal); return copy; }, Sort.Texts, "sort them"),
        new("letters", "total length of", ["the total length of {s}", "the sum of the lengths of {s}"], "return {s}.Sum({w} => {w}.Length);", "return sum(len({w}) for {w} in {l})", w => (long)string.Concat(w).Length, Sort.Int, "add up their lengths"),
        new("last", "last of", ["the last of {s}"], "return {s}.Last();", "return {l}[-1]", w => w[^1], Sort.Text, "take the last"),
        new("first", "first of", ["the first of {s}"], "return {s}.First();", "return {l}[0]", w => w[0], Sort.Text, "take the first"),
    ];

    private static readonly string[] s_words = ["apple", "sky", "tree", "banana", "sea", "blue", "table", "as", "nine", "story", "bee", "dog", "mouse", "a", "system", "easy", "toy", "salt", "to", "bread", "area", "yes", "stone", "bridge", "sailor", "active", "orange", "silence"];

    public static Routine Draw(Dice dice, Split split, Language language)
    {
        while (true)
        {
            Fold fold = dice.Pick(s_folds);
            Filter? filter = dice.Chance(65) ? dice.Pick(s_filters) : null;
            Map? map = fold.Key is not ("count" or "letters" or "longest" or "shortest") && dice.Chance(40) ? dice.Pick(s_maps) : null;
            bool isSentence = dice.Chance(40);
            if (fold.NeedsStep && filter is null && map is null && !isSentence)
                continue;
            int partCount = (filter is null ? 0 : 1) + (map is null ? 0 : 1) + (fold.Key == "list" ? 0 : 1) + (isSentence ? 1 : 0);
            string key = string.Join('<', new[] { fold.Key, map?.Key, filter?.Key, isSentence ? "sentence" : "words" }.OfType<string>());
            if (partCount == 1 ? split == Split.HeldOut : !split.Admits("composition", key))
                continue;
            return Build(dice, split, language, fold, map, filter, isSentence, key, partCount);
        }
    }

    private static Routine Build(Dice dice, Split split, Language language, Fold fold, Map? map, Filter? filter, bool isSentence, string key, int partCount)
    {
        string name = Names.Parameter(dice, split, isSentence ? "text" : "words");
        string w = dice.Pick<string>([.. new[] { "w", "w", "word" }.Where(one => one != name)]);
        bool isCSharp = language == Language.CSharp;
        string source = isSentence ? isCSharp ? $"{name}.Split(' ')" : $"{name}.split()" : name;
        string sequence = source;
        string generator = source;
        if (filter is not null)
            sequence += $".Where({w} => {filter.CSharp})";
        if (map is not null)
            sequence += $".Select({w} => {map.CSharp})";
        if (filter is not null || map is not null)
            generator = $"{map?.Python ?? "{w}"} for {w} in {source}{(filter is null ? "" : " if " + filter.Python)}";
        string list = generator == source ? source : $"[{generator}]";
        if (fold.Key is "longest" or "shortest" && generator != source)
            generator = $"({generator})";
        if (fold.Key == "count" && filter is null)
            sequence = source;
        string body = (isCSharp ? fold.CSharp : fold.Python).Replace("{s}", sequence, StringComparison.Ordinal).Replace("{g}", generator, StringComparison.Ordinal).Replace("{l}", list, StringComparison.Ordinal).Replace("{w}", w, StringComparison.Ordinal);

        string place = dice.Pick("in $0", "of $0");
        string bare = $"{(filter is null ? "words" : dice.Pick(filter.Phrases))} {place}";
        string all = map is null ? "the " + bare : map.Phrase.Replace("{s}", "the " + bare, StringComparison.Ordinal);
        List<string> plan = [.. new[] { isSentence ? "split the sentence at the spaces" : null, filter?.Plan, map?.Plan, fold.Plan }.OfType<string>()];
        string noun = $"{filter?.Name} words {map?.Name}".Trim();
        return new Routine
        {
            Key = key,
            PartCount = partCount,
            Language = language,
            Parameters = [new(name, isSentence ? Sort.Text : Sort.Texts, dice.Pick(Holder.Array, Holder.List))],
            Result = fold.Result,
            ResultHolder = Holder.List,
            Phrase = dice.Pick(fold.Phrases).Replace("{s}", all, StringComparison.Ordinal).Replace("{p}", bare, StringComparison.Ordinal),
            Plan = string.Join(", ", plan.Take(plan.Count - 1)) + (plan.Count > 1 ? ", then " : "") + plan[^1],
            Body = body,
            Name = Names.Function(dice, split, $"{(fold.Key == "list" ? "" : fold.Name)} {noun}".Trim()),
            Evaluate = arguments => Evaluate(fold, map, filter, arguments[0]),
            Arguments = inner =>
            {
                string[] words = [.. Enumerable.Range(0, inner.Between(1, 6)).Select(_ => Word(inner, filter))];
                return [isSentence ? string.Join(' ', words) : words];
            },
        };
    }

    // About half of the words pass the filter.
    private static string Word(Dice dice, Filter? filter)
    {
        string word = dice.Pick(s_words);
        for (int tries = 0; filter is not null && dice.Chance(60) && !filter.Holds(word) && tries < 20; tries++)
            word = dice.Pick(s_words);
        return word;
    }

    private static object Evaluate(Fold fold, Map? map, Filter? filter, object argument)
    {
        var kept = new List<string>();
        foreach (string word in argument as string[] ?? ((string)argument).Split(' '))
        {
            if (filter is null || filter.Holds(word))
                kept.Add(map is null ? word : map.Apply(word));
        }

        return fold.Apply([.. kept]);
    }

    private static string Extreme(string[] words, Func<string, string, bool> beats)
    {
        string best = words[0];
        foreach (string word in words)
        {
            if (beats(word, best))
                best = word;
        }

        return best;
    }
}
