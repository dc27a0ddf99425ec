using System.Globalization;
using System.Text;

namespace Qian.Inference.Constraint.Json;

// How JSON spells text, and the parts of JSON that every schema shares. Strings are written the short way: characters as they are, escapes only
// where JSON wants them (and \uXXXX and \/ where a string is free). Numbers and white space are bounded, so that no reply runs away in them.
internal static class JsonText
{
    // What a JSON string holds as it is.
    private static readonly CodePointSet s_plain = CodePointSet.Of((0, 0x1F)).Union(CodePointSet.Of("\"\\")).Negate();

    private static readonly CodePointSet s_shortEscapes = CodePointSet.Of("\"\\\b\f\n\r\t");

    private static readonly Term s_hex = new Term.Chars(CodePointSet.Of(('0', '9'), ('a', 'f'), ('A', 'F')));

    // Between tokens: nothing, a blank, or a new line with its indentation.
    public static Term Space { get; } = Term.AnyOf(
        Term.Empty,
        new Term.Literal(" "),
        Term.Of(new Term.Literal("\n"), Term.AnyOf(new Term.Repeat(new Term.Literal(" "), 0, 24), new Term.Repeat(new Term.Literal("\t"), 1, 12))));

    public static Term Blank { get; } = Term.Optional(new Term.Literal(" "));

    public static Term Comma { get; } = new Term.Literal(",");

    // Any character of a string, in any spelling. Halves of surrogate pairs are not: whoever reads them would find no text.
    public static Term FreeCharacter { get; } = Term.AnyOf(
        new Term.Chars(s_plain),
        Term.Of(new Term.Literal("\\"), Term.AnyOf(
            new Term.Chars(CodePointSet.Of("\"\\/bfnrt")),
            Term.Of(new Term.Literal("u"), Term.AnyOf(
                Term.Of(new Term.Chars(CodePointSet.Of(('0', '9'), ('a', 'c'), ('A', 'C'), ('e', 'f'), ('E', 'F'))), s_hex),
                Term.Of(new Term.Chars(CodePointSet.Of("dD")), new Term.Chars(CodePointSet.Of(('0', '7'))))), s_hex, s_hex))));

    // The same without \uXXXX, which would cost states for every place of a string with a length.
    public static Term CountedCharacter { get; } = Term.AnyOf(
        new Term.Chars(s_plain),
        Term.Of(new Term.Literal("\\"), new Term.Chars(CodePointSet.Of("\"\\/bfnrt"))));

    public static Term FreeString { get; } = Quoted(new Term.Repeat(FreeCharacter, 0, null));

    public static Term Integer { get; } = RegexReader.ReadWhole("-?(0|[1-9][0-9]{0,17})", "integer");

    public static Term Number { get; } = RegexReader.ReadWhole(@"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?", "number");

    public static Term Boolean { get; } = Term.AnyOf(new Term.Literal("true"), new Term.Literal("false"));

    public static Term Null { get; } = new Term.Literal("null");

    public static Term Quoted(Term inside) => Term.Of(new Term.Literal("\""), inside, new Term.Literal("\""));

    // A text as the one string that stands for it.
    public static string Quote(string text)
    {
        var quoted = new StringBuilder(text.Length + 2).Append('"');
        foreach (Rune rune in text.EnumerateRunes())
            quoted.Append(SpellingOf(rune.Value));
        return quoted.Append('"').ToString();
    }

    // Texts of a term as they stand between the quotes of a string.
    public static Term Escape(Term term) => term switch
    {
        Term.Literal literal => new Term.Literal(string.Concat(literal.Text.EnumerateRunes().Select(rune => SpellingOf(rune.Value)))),
        Term.Chars chars => EscapeSet(chars.Set),
        Term.Sequence sequence => new Term.Sequence([.. sequence.Items.Select(Escape)]),
        Term.Choice choice => new Term.Choice([.. choice.Items.Select(Escape)]),
        Term.Repeat repeat => new Term.Repeat(Escape(repeat.Item), repeat.Min, repeat.Max),
        _ => throw new ArgumentException($"A pattern holds no {term.GetType().Name}.", nameof(term)),
    };

    private static Term EscapeSet(CodePointSet set)
    {
        var spellings = new List<Term>();
        CodePointSet plain = set.Intersect(s_plain);
        if (!plain.IsEmpty)
            spellings.Add(new Term.Chars(plain));
        // Of wide classes the odd control characters are left out: they would only be written by accident.
        CodePointSet escaped = set.Except(s_plain);
        if (escaped.Count > 16)
            escaped = escaped.Intersect(s_shortEscapes);
        foreach ((int low, int high) in escaped.Ranges)
        {
            for (int value = low; value <= high; value++)
                spellings.Add(new Term.Literal(SpellingOf(value)));
        }

        return Term.AnyOf([.. spellings]);
    }

    private static string SpellingOf(int value) => value switch
    {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\b' => "\\b",
        '\f' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        < 0x20 => string.Create(CultureInfo.InvariantCulture, $"\\u{value:x4}"),
        _ => new Rune(value).ToString(),
    };
}
