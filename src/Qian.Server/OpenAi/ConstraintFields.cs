using System.Text.Json;
using Qian.Inference;
using Qian.Server.Http;

namespace Qian.Server.OpenAi;

// What a reply must look like: the official response_format (text.format for responses), and the fields that local servers have added (vLLM's guided_*, and its
// structured_outputs that holds them all; llama.cpp's grammar and json_schema). At most one may be given.
internal static class ConstraintFields
{
    // The official field's name, for those who have to speak of it.
    public const string ChatFormat = "response_format", ResponsesFormat = "text.format";

    // Of chat completions and completions; `path` is the field that says it.
    public static OutputConstraint? Read(JsonFields body, out string path) => Read(body, ChatFormat, OfFormat(body.Object("response_format"), isFlat: false), out path);

    // Of responses, which have the schema right in the format.
    public static OutputConstraint? ReadResponses(JsonFields body, out string path)
    {
        if (body.Has("response_format"))
            throw RequestFault.Bad("response_format", "Unsupported parameter: 'response_format'. In the Responses API, this parameter has moved to 'text.format'.", "unsupported_parameter");
        return Read(body, ResponsesFormat, OfFormat(body.Object("text")?.Object("format"), isFlat: true), out path);
    }

    private static OutputConstraint? Read(JsonFields body, string officialName, OutputConstraint? official, out string path)
    {
        OutputConstraint? found = null;
        string? first = null;
        Add(officialName, official);
        foreach (string name in (ReadOnlySpan<string>)["json_schema", "guided_json"])
            Add(name, Schema(body, name));
        foreach (string name in (ReadOnlySpan<string>)["grammar", "guided_grammar"])
            Add(name, Of(body, name, OutputConstraint.Grammar));
        foreach (string name in (ReadOnlySpan<string>)["regex", "guided_regex"])
            Add(name, Of(body, name, OutputConstraint.Regex));
        Add("guided_choice", Choice(body, "guided_choice"));
        if (body.Object("structured_outputs") is { } outputs)
        {
            Add("structured_outputs.json", Schema(outputs, "json"));
            Add("structured_outputs.regex", Of(outputs, "regex", OutputConstraint.Regex));
            Add("structured_outputs.grammar", Of(outputs, "grammar", OutputConstraint.Grammar));
            Add("structured_outputs.choice", Choice(outputs, "choice"));
            Add("structured_outputs.json_object", outputs.Flag("json_object") == true ? OutputConstraint.JsonObject : null);
        }

        path = first ?? officialName;
        return found;

        void Add(string name, OutputConstraint? constraint)
        {
            if (constraint is null)
                return;
            if (found is not null)
                throw RequestFault.Bad(name, $"Invalid '{name}': '{first}' says already what the reply must look like; give only one.", "invalid_value");
            (found, first) = (constraint, name);
        }
    }

    private static OutputConstraint? OfFormat(JsonFields? given, bool isFlat)
    {
        if (given is not { } format)
            return null;
        switch (format.RequiredText("type"))
        {
            case "text":
                return null;
            case "json_object":
                return format.Has("schema") ? Schema(format, "schema") : OutputConstraint.JsonObject;
            case "json_schema":
                JsonFields named = isFlat ? format : format.Object("json_schema") ?? throw format.Missing("json_schema");
                return Schema(named, "schema") ?? throw named.Missing("schema");
            case "regex":
                return Of(format, "pattern", OutputConstraint.Regex) ?? throw format.Missing("pattern");
            case "grammar":
                return Of(format, "grammar", OutputConstraint.Grammar) ?? throw format.Missing("grammar");
            default:
                throw format.Invalid("type", "expected 'text', 'json_object' or 'json_schema'.");
        }
    }

    // A schema, or its text.
    private static OutputConstraint? Schema(JsonFields fields, string name)
    {
        JsonElement schema = fields.Any(name);
        return schema.ValueKind == JsonValueKind.Undefined ? null : At(fields.PathOf(name), () => schema.ValueKind == JsonValueKind.String ? OutputConstraint.JsonSchema(schema.GetString()!) : OutputConstraint.JsonSchema(schema));
    }

    private static OutputConstraint? Of(JsonFields fields, string name, Func<string, OutputConstraint> read) =>
        fields.Text(name) is { Length: > 0 } text ? At(fields.PathOf(name), () => read(text)) : null;

    private static OutputConstraint? Choice(JsonFields fields, string name)
    {
        if (fields.List(name, 4096) is not { Length: > 0 } items)
            return null;
        string[] texts = [.. items.Select((item, i) => JsonFields.AsText(item, $"{fields.PathOf(name)}[{i}]"))];
        return At(fields.PathOf(name), () => OutputConstraint.Choice(texts));
    }

    private static OutputConstraint At(string path, Func<OutputConstraint> read)
    {
        try
        {
            return read();
        }
        catch (BadRequestException refusal)
        {
            throw RequestFault.Bad(path, $"Invalid '{path}': {refusal.Message}", "invalid_value");
        }
    }
}
