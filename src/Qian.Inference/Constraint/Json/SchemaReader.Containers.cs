using System.Text;
using System.Text.Json;

namespace Qian.Inference.Constraint.Json;

// Objects and arrays.
internal sealed partial class SchemaReader
{
    // Items that are repeated more often are called, not copied.
    private const int MostCopies = 8;

    // Of a listed name, as far as other names are kept apart from it.
    private const int MostNameLength = 64;

    private static readonly Term s_open = new Term.Literal("{"), s_close = new Term.Literal("}"), s_colon = new Term.Literal(":");

    private static readonly CodePointSet s_nameCharacters = CodePointSet.Of((0, 0x1F)).Union(CodePointSet.Of("\"\\")).Negate();

    private Term AnyObject() => ObjectOf([], Term.Of(JsonText.FreeString, s_colon, JsonText.Blank, AnyValue));

    private Term AnyArray() => ArrayOf([], AnyValue, 0, null);

    private static Term ObjectOf(IReadOnlyList<Term.Member> members, Term? more) => Term.Of(
        s_open,
        new Term.Ordered(
            [.. members.Select(member => new Term.Member(Term.Of(JsonText.Space, member.Term), member.IsRequired))],
            JsonText.Comma,
            more is null ? null : Term.Of(JsonText.Space, more)),
        JsonText.Space,
        s_close);

    private Term ReadObject(JsonElement schema, string path, int depth)
    {
        HashSet<string> required = RequiredOf(schema, path);
        var members = new List<Term.Member>();
        var names = new HashSet<string>();
        bool lists = schema.TryGetProperty("properties", out JsonElement properties);
        if (lists && properties.ValueKind != JsonValueKind.Object)
            throw Bad($"{path}.properties", "expected an object");
        foreach (JsonProperty property in lists ? properties.EnumerateObject() : default)
        {
            if (!names.Add(property.Name))
                continue;
            Term value = Read(property.Value, $"{path}.properties.{Shorten(property.Name)}", depth + 1);
            members.Add(new Term.Member(PropertyOf(new Term.Literal(JsonText.Quote(property.Name)), value), required.Remove(property.Name)));
        }

        Term? others = ReadOthers(schema, path, lists, depth);
        foreach (string name in required)
        {
            // Required, but described nowhere: whatever others may be.
            if (others is null)
                throw Bad($"{path}.required", $"'{Shorten(name)}' is not among the properties, and others are not allowed");
            names.Add(name);
            members.Add(new Term.Member(PropertyOf(new Term.Literal(JsonText.Quote(name)), others), true));
        }

        CheckPropertyCounts(schema, path, members);
        return ObjectOf(members, others is null ? null : PropertyOf(JsonText.Quoted(NameExcept(names)), others));
    }

    private static Term PropertyOf(Term name, Term value) => Term.Of(name, s_colon, JsonText.Blank, value);

    private static HashSet<string> RequiredOf(JsonElement schema, string path)
    {
        var required = new HashSet<string>();
        if (!schema.TryGetProperty("required", out JsonElement names))
            return required;
        if (names.ValueKind != JsonValueKind.Array || names.EnumerateArray().Any(name => name.ValueKind != JsonValueKind.String))
            throw Bad($"{path}.required", "expected a list of names");
        foreach (JsonElement name in names.EnumerateArray())
            required.Add(name.GetString()!);
        return required;
    }

    // What properties that are not listed hold; null when there may be none.
    private Term? ReadOthers(JsonElement schema, string path, bool lists, int depth)
    {
        if (!schema.TryGetProperty("additionalProperties", out JsonElement others))
            return lists ? null : AnyValue;
        return others.ValueKind switch
        {
            JsonValueKind.False => null,
            JsonValueKind.True => AnyValue,
            _ => Read(others, $"{path}.additionalProperties", depth + 1),
        };
    }

    private void CheckPropertyCounts(JsonElement schema, string path, List<Term.Member> members)
    {
        if (_isLenient)
            return;
        if (CountOf(schema, "minProperties", path) is { } least && least > members.Count(member => member.IsRequired))
            throw Bad($"{path}.minProperties", "only as many as there are required properties are supported");
        if (CountOf(schema, "maxProperties", path) is { } most && (most < members.Count || schema.TryGetProperty("additionalProperties", out JsonElement others) && others.ValueKind != JsonValueKind.False || members.Count == 0))
            throw Bad($"{path}.maxProperties", "not supported: list the properties and set additionalProperties to false");
    }

    // Names of plain characters that are none of the given ones.
    private static Term NameExcept(HashSet<string> names) => NameExcept([.. names.Select(name => name.EnumerateRunes().Take(MostNameLength).ToArray())], 0);

    private static Term NameExcept(Rune[][] names, int at)
    {
        Term rest = new Term.Repeat(new Term.Chars(s_nameCharacters), 0, null);
        if (names.Length == 0)
            return rest;
        var choices = new List<Term>();
        // Longer than the names are told apart: nothing else may begin so.
        bool isTaken = Array.Exists(names, name => name.Length == at);
        if (isTaken && at == MostNameLength)
            return Term.Nothing;
        if (!isTaken)
            choices.Add(Term.Empty);
        CodePointSet next = CodePointSet.None;
        foreach (IGrouping<Rune, Rune[]> group in names.Where(name => name.Length > at).GroupBy(name => name[at]))
        {
            CodePointSet character = CodePointSet.Of((group.Key.Value, group.Key.Value));
            next = next.Union(character);
            // Characters that need escapes are in no free name, so there is nothing to keep apart.
            if (!character.Intersect(s_nameCharacters).IsEmpty)
                choices.Add(Term.Of(new Term.Chars(character), NameExcept([.. group], at + 1)));
        }

        choices.Add(Term.Of(new Term.Chars(s_nameCharacters.Except(next)), rest));
        return Term.AnyOf([.. choices]);
    }

    private Term ReadArray(JsonElement schema, string path, int depth)
    {
        if (!_isLenient && schema.TryGetProperty("uniqueItems", out JsonElement unique) && unique.ValueKind == JsonValueKind.True)
            throw Bad($"{path}.uniqueItems", "this keyword is not supported in structured output");
        int least = CountOf(schema, "minItems", path) ?? 0;
        int? most = CountOf(schema, "maxItems", path);
        if (most < least)
            throw Bad($"{path}.maxItems", "is below minItems");
        var first = new List<Term>();
        if (schema.TryGetProperty("prefixItems", out JsonElement prefix))
        {
            if (prefix.ValueKind != JsonValueKind.Array || prefix.GetArrayLength() > ConstraintLimits.MaxNesting)
                throw Bad($"{path}.prefixItems", $"expected an array of at most {ConstraintLimits.MaxNesting} schemas");
            int i = 0;
            foreach (JsonElement item in prefix.EnumerateArray())
                first.Add(Read(item, $"{path}.prefixItems[{i++}]", depth + 1));
        }

        Term? others = AnyValue;
        if (schema.TryGetProperty("items", out JsonElement items))
            others = items.ValueKind == JsonValueKind.False ? null : Read(items, $"{path}.items", depth + 1);
        if (others is null && least > first.Count)
            throw Bad($"{path}.minItems", "asks for more items than are described");
        if ((most ?? least) > MostCopies && others is not null)
            others = new Term.Call(new Rule($"{path}.items") { Body = others, StandsAlone = true });
        return ArrayOf(first, others, least, others is null ? Math.Min(most ?? first.Count, first.Count) : most);
    }

    private static Term ArrayOf(IReadOnlyList<Term> first, Term? others, int least, int? most)
    {
        Term inside = Term.Empty;
        // From the back: an item, and optionally what comes behind it.
        if (others is not null && (most is null || most > first.Count))
            inside = ItemsFrom(first.Count, others, least, most);
        for (int i = Math.Min(first.Count, most ?? first.Count) - 1; i >= 0; i--)
        {
            Term item = Term.Of(i > 0 ? JsonText.Comma : Term.Empty, JsonText.Space, first[i], inside);
            inside = i < least ? item : Term.Optional(item);
        }

        return Term.Of(new Term.Literal("["), inside, JsonText.Space, new Term.Literal("]"));
    }

    // The items from `index` on, each with its comma; the array's very first has none.
    private static Term ItemsFrom(int index, Term item, int least, int? most)
    {
        int min = Math.Max(0, least - index);
        int? max = most - index;
        Term next = Term.Of(JsonText.Comma, JsonText.Space, item);
        if (index > 0)
            return new Term.Repeat(next, min, max);
        Term all = Term.Of(JsonText.Space, item, new Term.Repeat(next, Math.Max(0, min - 1), max - 1));
        return min > 0 ? all : Term.Optional(all);
    }

    private static int? CountOf(JsonElement schema, string key, string path)
    {
        if (!schema.TryGetProperty(key, out JsonElement value))
            return null;
        if (value.ValueKind != JsonValueKind.Number || !value.TryGetDecimal(out decimal count) || count < 0 || count != decimal.Truncate(count))
            throw Bad($"{path}.{key}", "expected a whole number of 0 or more");
        return count <= ConstraintLimits.MaxRepeatCount ? (int)count : throw Bad($"{path}.{key}", $"at most {ConstraintLimits.MaxRepeatCount} is supported, found {count}");
    }
}
