using System.Text.Json;

namespace Qian.Inference.Constraint.Json;

// A JSON schema (draft 2020-12) as a grammar of the texts that fulfil it. The grammar may be narrower than the schema, never wider: properties come in
// the order in which the schema lists them, an object that lists properties has no others unless it says so, white space and digits are bounded.
// What is only a note is passed over; a keyword that restricts and is not supported is refused by name and place. Parts by kind of value.
internal sealed partial class SchemaReader
{
    // Nesting that readers of JSON commonly accept.
    private const int MostJsonDepth = 60;

    private const int MostSchemas = 20_000;

    private const long MostMergedLength = 1 << 23;

    private static readonly HashSet<string> s_notes =
    [
        "title", "description", "default", "examples", "example", "$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "deprecated", "readOnly", "writeOnly",
        "contentEncoding", "contentMediaType", "contentSchema", "nullable", "strict", "discriminator", "externalDocs", "xml",
    ];

    private static readonly string[] s_unsupported =
    [
        "not", "if", "then", "else", "patternProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems", "dependentRequired", "dependentSchemas",
        "dependencies", "contains", "minContains", "maxContains", "$dynamicRef", "$recursiveRef",
    ];

    private readonly JsonElement _root;
    private readonly bool _isLenient;
    private readonly Dictionary<string, Rule> _references = [];
    private readonly Rule _anyValue = new("any JSON value");
    private int _schemaCount;
    private long _mergedLength;
    private int _deepest = 1;

    private SchemaReader(JsonElement root, bool isLenient)
    {
        _root = root;
        _isLenient = isLenient;
        _anyValue.Body = Term.AnyOf(AnyObject(), AnyArray(), JsonText.FreeString, JsonText.Number, JsonText.Boolean, JsonText.Null);
    }

    // The values that fulfil a schema. What is refused is named below `path`.
    public static Grammar Read(JsonElement schema, string path)
    {
        var reader = new SchemaReader(schema, isLenient: false);
        Term root = reader.Read(schema, path, 0);
        return new Grammar(root, reader.MaxDepth);
    }

    // Any object: what json_object asks for.
    public static Grammar AnyObjectGrammar()
    {
        var reader = new SchemaReader(default, isLenient: false);
        return new Grammar(reader.AnyObject(), MostJsonDepth);
    }

    // For schemas that describe rather than demand (parameters of tools): what is not supported is passed over. `root` is what references look into.
    public static Term ReadLeniently(JsonElement schema, JsonElement root, out int maxDepth)
    {
        var reader = new SchemaReader(root, isLenient: true);
        Term term = reader.Read(schema, "schema", 1);
        maxDepth = reader.MaxDepth;
        return term;
    }

    private int MaxDepth => Math.Max(8, MostJsonDepth / _deepest);

    private Term AnyValue => new Term.Call(_anyValue);

    private Term Read(JsonElement schema, string path, int depth)
    {
        if (depth > ConstraintLimits.MaxNesting / 2)
            throw Bad(path, $"schemas may nest {ConstraintLimits.MaxNesting / 2} deep at most");
        if (++_schemaCount > MostSchemas)
            throw Bad(path, $"at most {MostSchemas} schemas are supported");
        _deepest = Math.Max(_deepest, depth + 1);
        if (schema.ValueKind == JsonValueKind.True)
            return AnyValue;
        if (schema.ValueKind == JsonValueKind.False)
            return Term.Nothing;
        if (schema.ValueKind != JsonValueKind.Object)
            throw Bad(path, $"expected a schema (an object or a boolean), found {schema.ValueKind}");
        RefuseUnsupported(schema, path);
        if (schema.TryGetProperty("$ref", out JsonElement reference))
            return ReadReference(schema, reference, path, depth);
        foreach (string key in (ReadOnlySpan<string>)["allOf", "anyOf", "oneOf"])
        {
            if (schema.TryGetProperty(key, out JsonElement members))
                return ReadCombination(schema, key, members, path, depth);
        }

        if (schema.TryGetProperty("const", out JsonElement constant))
            return ReadValues([constant], schema, path);
        if (schema.TryGetProperty("enum", out JsonElement values))
        {
            if (values.ValueKind != JsonValueKind.Array || values.GetArrayLength() == 0)
                throw Bad($"{path}.enum", "expected an array with at least one value");
            return ReadValues([.. values.EnumerateArray()], schema, path);
        }

        string[] types = TypesOf(schema, path);
        return types.Length == 0 ? AnyValue : Term.AnyOf([.. types.Select(type => ReadType(type, schema, path, depth))]);
    }

    private Term ReadType(string type, JsonElement schema, string path, int depth) => type switch
    {
        "null" => JsonText.Null,
        "boolean" => JsonText.Boolean,
        "integer" => ReadNumber(schema, path, isInteger: true),
        "number" => ReadNumber(schema, path, isInteger: false),
        "string" => ReadString(schema, path),
        "array" => ReadArray(schema, path, depth),
        "object" => ReadObject(schema, path, depth),
        _ => throw Bad($"{path}.type", $"'{Shorten(type)}' is no type of JSON schema"),
    };

    // Empty for any type. Without "type", keywords that speak of one kind of value are taken to mean it.
    private static string[] TypesOf(JsonElement schema, string path)
    {
        if (schema.TryGetProperty("type", out JsonElement type))
        {
            string[] types = type.ValueKind switch
            {
                JsonValueKind.String => [type.GetString()!],
                JsonValueKind.Array when type.GetArrayLength() > 0 && type.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String) => [.. type.EnumerateArray().Select(item => item.GetString()!).Distinct()],
                _ => throw Bad($"{path}.type", "expected the name of a type or a list of names"),
            };
            // OpenAPI's way of allowing null.
            return schema.TryGetProperty("nullable", out JsonElement nullable) && nullable.ValueKind == JsonValueKind.True && !types.Contains("null") ? [.. types, "null"] : types;
        }

        foreach ((string kind, string[] keys) in (ReadOnlySpan<(string, string[])>)
        [
            ("object", ["properties", "required", "additionalProperties", "minProperties", "maxProperties"]),
            ("array", ["items", "prefixItems", "minItems", "maxItems", "uniqueItems"]),
            ("string", ["pattern", "format", "minLength", "maxLength"]),
            ("number", ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
        ])
        {
            if (Array.Exists(keys, key => schema.TryGetProperty(key, out _)))
                return [kind];
        }

        return [];
    }

    private void RefuseUnsupported(JsonElement schema, string path)
    {
        if (_isLenient)
            return;
        foreach (string key in s_unsupported)
        {
            if (schema.TryGetProperty(key, out JsonElement value) && !(key.StartsWith("unevaluated", StringComparison.Ordinal) && value.ValueKind == JsonValueKind.True))
                throw Bad($"{path}.{key}", "this keyword is not supported in structured output");
        }
    }

    private Term ReadReference(JsonElement schema, JsonElement reference, string path, int depth)
    {
        if (reference.ValueKind != JsonValueKind.String)
            throw Bad($"{path}.$ref", "expected a string");
        string pointer = reference.GetString()!;
        foreach (JsonProperty beside in schema.EnumerateObject())
        {
            if (beside.Name != "$ref" && !s_notes.Contains(beside.Name) && !_isLenient)
                return Read(Merge(WithoutReference(schema), Resolve(pointer, path), path), path, depth + 1);
        }

        return ReferenceTo(pointer, path, depth);
    }

    private Term ReferenceTo(string pointer, string path, int depth)
    {
        if (_references.TryGetValue(pointer, out Rule? rule))
            return new Term.Call(rule);
        rule = new Rule(pointer);
        _references.Add(pointer, rule);
        JsonElement target = Resolve(pointer, path);
        rule.Body = Read(target, pointer, depth);
        return new Term.Call(rule);
    }

    private static JsonElement WithoutReference(JsonElement schema)
    {
        var rest = new Dictionary<string, JsonElement>();
        foreach (JsonProperty property in schema.EnumerateObject())
        {
            if (property.Name != "$ref")
                rest[property.Name] = property.Value;
        }

        return SchemaMerge.ToElement(rest);
    }

    private JsonElement Resolve(string pointer, string path)
    {
        if (!pointer.StartsWith('#'))
            throw Bad($"{path}.$ref", $"'{Shorten(pointer)}' points out of this schema; only references that begin with '#' are supported");
        JsonElement at = _root;
        if (pointer.Length > 1 && pointer[1] != '/')
            throw Bad($"{path}.$ref", $"'{Shorten(pointer)}' is no path; write #/$defs/NAME");
        foreach (string part in pointer.Length <= 2 ? [] : pointer[2..].Split('/'))
        {
            string name = Uri.UnescapeDataString(part).Replace("~1", "/", StringComparison.Ordinal).Replace("~0", "~", StringComparison.Ordinal);
            if (at.ValueKind == JsonValueKind.Object && at.TryGetProperty(name, out JsonElement next))
                at = next;
            else if (at.ValueKind == JsonValueKind.Array && int.TryParse(name, out int index) && index >= 0 && index < at.GetArrayLength())
                at = at[index];
            else
                throw Bad($"{path}.$ref", $"'{Shorten(pointer)}' points to nothing");
        }

        return at;
    }

    private Term ReadCombination(JsonElement schema, string key, JsonElement members, string path, int depth)
    {
        if (members.ValueKind != JsonValueKind.Array || members.GetArrayLength() == 0)
            throw Bad($"{path}.{key}", "expected an array with at least one schema");
        var beside = new Dictionary<string, JsonElement>();
        foreach (JsonProperty property in schema.EnumerateObject())
        {
            if (property.Name != key && !s_notes.Contains(property.Name))
                beside[property.Name] = property.Value;
        }

        JsonElement[] choices = [.. members.EnumerateArray()];
        if (key == "allOf")
        {
            JsonElement merged = beside.Count > 0 || choices.Length == 0 ? SchemaMerge.ToElement(beside) : Followed(choices[0], path);
            for (int i = beside.Count > 0 ? 0 : 1; i < choices.Length; i++)
                merged = Merge(merged, Followed(choices[i], $"{path}.allOf[{i}]"), $"{path}.allOf[{i}]");
            // A lone reference stays one, so that it may recur.
            return beside.Count == 0 && choices.Length == 1 ? Read(choices[0], $"{path}.allOf[0]", depth + 1) : Read(merged, path, depth + 1);
        }

        if (key == "oneOf" && !_isLenient)
            SchemaDisjointness.Require([.. choices.Select((choice, i) => Followed(choice, $"{path}.oneOf[{i}]"))], $"{path}.oneOf");
        var terms = new Term[choices.Length];
        for (int i = 0; i < choices.Length; i++)
        {
            string place = $"{path}.{key}[{i}]";
            terms[i] = beside.Count == 0 || _isLenient && beside.Count == 1 && beside.ContainsKey("type")
                ? Read(choices[i], place, depth + 1)
                : Read(Merge(SchemaMerge.ToElement(beside), Followed(choices[i], place), place), place, depth + 1);
        }

        return Term.AnyOf(terms);
    }

    // What a schema that is only a reference stands for.
    private JsonElement Followed(JsonElement schema, string path)
    {
        for (int i = 0; i < 16; i++)
        {
            if (schema.ValueKind != JsonValueKind.Object || !schema.TryGetProperty("$ref", out JsonElement reference) || reference.ValueKind != JsonValueKind.String)
                return schema;
            JsonElement target = Resolve(reference.GetString()!, path);
            JsonElement rest = WithoutReference(schema);
            bool isAlone = rest.EnumerateObject().All(property => s_notes.Contains(property.Name));
            schema = isAlone ? target : Merge(rest, target, path);
        }

        throw Bad(path, "references lead to references without end");
    }

    // Merging copies, and may be asked for again and again.
    private JsonElement Merge(JsonElement a, JsonElement b, string path)
    {
        _mergedLength += a.GetRawText().Length + b.GetRawText().Length;
        return _mergedLength <= MostMergedLength ? SchemaMerge.Of(a, b, path) : throw Bad(path, "combining schemas here (allOf, or keywords beside $ref and anyOf) makes too much of them");
    }

    private static Term ReadValues(JsonElement[] values, JsonElement schema, string path)
    {
        string[] types = schema.TryGetProperty("type", out _) ? TypesOf(schema, path) : [];
        Term[] literals = [.. values.Where(value => types.Length == 0 || Array.Exists(types, type => Fits(value, type))).Select(value => new Term.Literal(JsonLiteral.Write(value)))];
        return literals.Length > 0 ? Term.AnyOf(literals) : throw Bad($"{path}.enum", "none of the values has the type that is asked for");
    }

    private static bool Fits(JsonElement value, string type) => value.ValueKind switch
    {
        JsonValueKind.String => type == "string",
        JsonValueKind.Number => type == "number" || (type == "integer" && value.TryGetDecimal(out decimal number) && number == decimal.Truncate(number)),
        JsonValueKind.True or JsonValueKind.False => type == "boolean",
        JsonValueKind.Null => type == "null",
        JsonValueKind.Array => type == "array",
        _ => type == "object",
    };

    private static string Shorten(string text) => text.Length <= 60 ? text : text[..60] + "…";

    private static BadRequestException Bad(string path, string problem) => new($"{path}: {problem}.");
}
