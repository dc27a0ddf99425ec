using System.Text.Json;
using Qian.Inference.Constraint.Json;

namespace Qian.Inference.Constraint;

// Tool calls in the form of the model's template: a declared function, declared parameters (the required ones all, up to eight in any order), each
// value closed. Values of strings are free text up to their closer; others are JSON by their schema. A value may quote calls: inside an opener that
// it quotes, a closer is taken both ways, as text and as the end.
internal static class ToolCallGrammar
{
    private const int Plain = 0, InCall = 1, InFunction = 2, InParameter = 3;

    private static readonly string[] s_valueMarkers =
        ["\n</parameter>", "<tool_call>", "</tool_call>", "<function=", "</function>", "<parameter=", "</parameter>"];

    private static readonly Rule s_textValue = new("the text of a parameter")
    {
        StandsAlone = true,
        Body = TextScan.Build(s_valueMarkers, 4, OnValue, mayStop: false),
    };

    // Everything of a call behind its opener.
    public static Rule CallOf(IReadOnlyList<CallableTool> tools, out int maxDepth)
    {
        var functions = new List<Term>();
        maxDepth = 8;
        foreach (CallableTool tool in tools)
        {
            functions.Add(Term.Of(new Term.Literal($"{tool.Name}>\n"), new Term.Call(ParametersOf(tool, out int depth))));
            maxDepth = Math.Max(maxDepth, depth + 4);
        }

        return new Rule("a tool call")
        {
            StandsAlone = true,
            Body = Term.Of(new Term.Literal("\n<function="), Term.AnyOf([.. functions]), new Term.Literal("</function>\n</tool_call>")),
        };
    }

    private static Rule ParametersOf(CallableTool tool, out int maxDepth)
    {
        maxDepth = 8;
        JsonElement schema = tool.Parameters;
        JsonElement properties = default;
        bool lists = schema.ValueKind == JsonValueKind.Object && schema.TryGetProperty("properties", out properties) && properties.ValueKind == JsonValueKind.Object;
        HashSet<string> required = [];
        if (lists && schema.TryGetProperty("required", out JsonElement names) && names.ValueKind == JsonValueKind.Array)
            required = [.. names.EnumerateArray().Where(name => name.ValueKind == JsonValueKind.String).Select(name => name.GetString()!)];
        var members = new List<Term.Member>();
        foreach (JsonProperty property in lists ? properties.EnumerateObject() : default)
        {
            // A name that the form cannot spell is never given.
            if (property.Name.AsSpan().ContainsAny('<', '>', '\n') || property.Name.Length == 0)
                continue;
            Term value = ValueOf(property.Value, schema, out int depth);
            maxDepth = Math.Max(maxDepth, depth);
            var rule = new Rule(property.Name) { StandsAlone = true, Body = Term.Of(new Term.Literal($"<parameter={property.Name}>\n"), value, new Term.Literal("\n")) };
            members.Add(new Term.Member(new Term.Call(rule), required.Contains(property.Name)));
        }

        Term body = members.Count <= Term.AnyOrder.MostItems ? new Term.AnyOrder(members) : new Term.Ordered(members, Term.Empty, null);
        if (TakesOthers(schema, lists))
            body = Term.Of(body, new Term.Repeat(OtherParameter, 0, null));
        return new Rule($"the parameters of {tool.Name}") { StandsAlone = true, Body = body };
    }

    private static Term OtherParameter { get; } = Term.Of(
        new Term.Literal("<parameter="),
        new Term.Repeat(new Term.Chars(CodePointSet.Of("<>\n").Negate()), 1, 64),
        new Term.Literal(">\n"),
        new Term.Call(s_textValue),
        new Term.Literal("\n"));

    private static bool TakesOthers(JsonElement schema, bool lists)
    {
        if (schema.ValueKind != JsonValueKind.Object)
            return schema.ValueKind is JsonValueKind.Undefined or JsonValueKind.True or JsonValueKind.Null;
        return schema.TryGetProperty("additionalProperties", out JsonElement others) ? others.ValueKind != JsonValueKind.False : !lists;
    }

    // A value with its closer.
    private static Term ValueOf(JsonElement schema, JsonElement root, out int maxDepth)
    {
        maxDepth = 0;
        if (ToolValueKind.Of(schema, root) == ToolValueKind.Kind.Text)
            return new Term.Call(s_textValue);
        if (ToolValueKind.Choices(schema) is { } choices)
            return Term.Of(Term.AnyOf([.. choices.Select(choice => new Term.Literal(choice))]), new Term.Literal("\n</parameter>"));
        try
        {
            return Term.Of(SchemaReader.ReadLeniently(schema, root, out maxDepth), new Term.Literal("\n</parameter>"));
        }
        catch (BadRequestException)
        {
            // A schema that cannot be read constrains nothing.
            return new Term.Call(s_textValue);
        }
    }

    private static int[] OnValue(int mode, int marker) => (mode, marker) switch
    {
        (Plain, 0) => [TextScan.End],
        (Plain, 6) => [Plain, TextScan.End],
        (Plain, 1) => [InCall],
        (Plain, 3) => [InFunction],
        (Plain, 5) => [InParameter],
        (InCall, 2) => [Plain],
        (InFunction, 4) => [Plain],
        (InParameter, 0) => [Plain, TextScan.End],
        (InParameter, 6) => [Plain],
        (_, 0) => [mode, TextScan.End],
        _ => [mode],
    };
}

// A tool as a constraint sees it. Parameters: its JSON schema, undefined when there is none.
internal readonly record struct CallableTool(string Name, JsonElement Parameters);
