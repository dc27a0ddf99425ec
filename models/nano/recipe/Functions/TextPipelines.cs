namespace Qian.Nano;

// Functions over the characters of a text: which characters, what is done with them, and what follows.
internal static class TextPipelines
{
    private sealed record Kind(string Key, string Plural, string One, string CSharp, string Python, Func<char, bool> Holds);

    private sealed record Use(string Key, string Name, string[] Phrases, string CSharp, string Python, Func<string, Func<char, bool>, object> Apply, Sort Result, string Plan);

    private sealed record After(string Key, string Name, string Phrase, Func<string, string> CSharp, string Python, Func<string, string> Apply, string Plan);

    private const string Vowels = "\"aeiouAEIOU\"";

    private static readonly Kind[] s_kinds =
    [
        new("vowel", "vowels", "a vowel", $"{Vowels}.Contains({{c}})", $"{{c}} in {Vowels}", c => c is 'a' or 'e' or 'i' or 'o' or 'u' or 'A' or 'E' or 'I' or 'O' or 'U'),
        new("consonant", "consonants", "a consonant", $"char.IsLetter({{c}}) && !{Vowels}.Contains({{c}})", $"{{c}}.isalpha() and {{c}} not in {Vowels}", c => char.IsAsciiLetter(c) && "aeiou".IndexOf(char.ToLowerInvariant(c), StringComparison.Ordinal) < 0),
        new("digit", "digits", "a digit", "char.IsDigit({c})", "{c}.isdigit()", c => c is >= '0' and <= '9'),
        new("letter", "letters", "a letter", "char.IsLetter({c})", "{c}.isalpha()", c => char.IsAsciiLetter(c)),
        new("upper", "uppercase letters", "an uppercase letter", "char.IsUpper({c})", "{c}.isupper()", c => c is >= 'A' and <= 'Z'),
        new("lower", "lowercase letters", "a lowercase letter", "char.IsLower({c})", "{c}.islower()", c => c is >= 'a' and <= 'z'),
        new("space", "spaces", "a space", "{c} == ' '", "{c} == \" \"", c => c == ' '),
        new("comma", "commas", "a comma", "{c} == ','", "{c} == \",\"", c => c == ','),
        new("alnum", "letters and digits", "a letter or digit", "char.IsLetterOrDigit({c})", "{c}.isalnum()", c => char.IsAsciiLetterOrDigit(c)),
    ];

    private static readonly Use[] s_uses =
    [
        new("count", "count {k}", ["the number of {k} in $0", "how many {k} $0 has", "the count of {k} in $0"], "return {t}.Count({c} => {p});", "return sum(1 for {c} in {t} if {p})", (t, p) => (long)t.Count(p), Sort.Int, "count the characters that are {k}"),
        new("keep", "only {k}", ["only the {k} of $0", "the {k} of $0 as a string", "$0 with only its {k} kept"], "return new string({t}.Where({c} => {p}).ToArray());", "return \"\".join({c} for {c} in {t} if {p})", (t, p) => Filter(t, p), Sort.Text, "keep the {k}"),
        new("drop", "without {k}", ["$0 without its {k}", "$0 with all {k} removed", "$0 without {k}"], "return new string({t}.Where({c} => !({p})).ToArray());", "return \"\".join({c} for {c} in {t} if not ({p}))", (t, p) => Filter(t, c => !p(c)), Sort.Text, "drop the {k}"),
        new("any", "has {k}", ["$0 contains {o}", "there is {o} in $0", "$0 has any {k}"], "return {t}.Any({c} => {p});", "return any({p} for {c} in {t})", (t, p) => t.Any(p), Sort.Bool, "look for {o}"),
        new("all", "is only {k}", ["$0 consists only of {k}", "every character of $0 is {o}"], "return {t}.All({c} => {p});", "return all({p} for {c} in {t})", (t, p) => t.All(p), Sort.Bool, "check that each character is {o}"),
        new("first", "first {k}", ["the first of the {k} in $0 as a string"], "return {t}.First({c} => {p}).ToString();", "return next({c} for {c} in {t} if {p})", (t, p) => t.First(p).ToString(), Sort.Text, "find the first that is {o}"),
    ];

    private static readonly After[] s_afters =
    [
        new("upper", "upper", "{s}, in upper case", e => $"{e}.ToUpper()", ".upper()", t => t.ToUpperInvariant(), "turn it to upper case"),
        new("lower", "lower", "{s}, in lower case", e => $"{e}.ToLower()", ".lower()", t => t.ToLowerInvariant(), "turn it to lower case"),
        new("reverse", "reversed", "{s}, reversed", e => e.EndsWith(".ToArray())", StringComparison.Ordinal) ? $"{e[..^".ToArray())".Length]}.Reverse().ToArray())" : e, "[::-1]", t => new string([.. Enumerable.Range(1, t.Length).Select(i => t[^i])]), "reverse it"),
        new("twice", "twice", "{s}, repeated twice", e => $"string.Concat(Enumerable.Repeat({e}, 2))", " * 2", t => t + t, "repeat it"),
    ];

    private static readonly string[] s_texts = ["Hello World", "abc 123", "The Cat, the Dog", "A1b2C3", "", "xyz", "Banana", "42", "RHYTHM", "one, two, three", "Ok Go 9", "aeiou", "UPPER lower", "q", "Room 101, Floor 7", "Zebra Apple", "m,n,o"];

    public static Routine Draw(Dice dice, Split split, Language language)
    {
        while (true)
        {
            Kind kind = dice.Pick(s_kinds);
            Use use = dice.Pick(s_uses);
            After? after = use.Key is "keep" or "drop" && dice.Chance(45) ? dice.Pick(s_afters) : null;
            string key = string.Join('<', new[] { after?.Key, use.Key, kind.Key, "text" }.OfType<string>());
            if (!split.Admits("composition", key))
                continue;
            return Build(dice, split, language, kind, use, after, key);
        }
    }

    private static Routine Build(Dice dice, Split split, Language language, Kind kind, Use use, After? after, string key)
    {
        string text = Names.Parameter(dice, split, "text");
        string c = dice.Pick("c", "c", "ch");
        string condition = (language == Language.CSharp ? kind.CSharp : kind.Python).Replace("{c}", c, StringComparison.Ordinal);
        string body = (language == Language.CSharp ? use.CSharp : use.Python).Replace("{t}", text, StringComparison.Ordinal).Replace("{c}", c, StringComparison.Ordinal).Replace("{p}", condition, StringComparison.Ordinal);
        if (!condition.Contains("&&", StringComparison.Ordinal))
            body = body.Replace($"!({condition})", condition.Contains("==", StringComparison.Ordinal) ? condition.Replace("==", "!=", StringComparison.Ordinal) : "!" + condition, StringComparison.Ordinal);
        if (!condition.Contains(" and ", StringComparison.Ordinal))
            body = body.Replace($"not ({condition})", condition.Contains("==", StringComparison.Ordinal) ? condition.Replace("==", "!=", StringComparison.Ordinal) : condition.Contains(" in ", StringComparison.Ordinal) ? condition.Replace(" in ", " not in ", StringComparison.Ordinal) : "not " + condition, StringComparison.Ordinal);
        string phrase = dice.Pick(use.Phrases);
        string plan = use.Plan;
        if (after is not null)
        {
            body = language == Language.CSharp ? $"return {after.CSharp(body["return ".Length..^1])};" : body + after.Python;
            phrase = after.Phrase.Replace("{s}", phrase, StringComparison.Ordinal);
            plan += ", then " + after.Plan;
        }

        string core = (use.Name + (after is null ? "" : " " + after.Name)).Replace("{k}", kind.Plural, StringComparison.Ordinal);
        return new Routine
        {
            Key = key,
            PartCount = after is null ? 2 : 3,
            Language = language,
            Parameters = [new(text, Sort.Text)],
            Result = use.Result,
            Phrase = Words(phrase, kind),
            Plan = Words(plan, kind),
            Body = body,
            Name = Names.Function(dice, split, core),
            Evaluate = arguments =>
            {
                object value = use.Apply((string)arguments[0], kind.Holds);
                return after is null ? value : after.Apply((string)value);
            },
            Arguments = inner => [inner.Pick(s_texts)],
        };
    }

    private static string Words(string text, Kind kind) => text.Replace("{k}", kind.Plural, StringComparison.Ordinal).Replace("{o}", kind.One, StringComparison.Ordinal);

    private static string Filter(string text, Func<char, bool> holds)
    {
        var kept = new System.Text.StringBuilder();
        foreach (char c in text)
        {
            if (holds(c))
                kept.Append(c);
        }

        return kept.ToString();
    }
}
