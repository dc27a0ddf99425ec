using System.Text.Json;

namespace Qian.Inference.Chat.Output;

// A call in JSON: its name, and the text of its arguments object.
internal readonly record struct JsonCall(string Name, string ArgumentsJson);

// Reads calls that the model wrote as JSON: {"name": …, "arguments": {…}}, several of them or a list, and the lone arguments object
// of the mixed dialects. One closing bracket may be missing or too many.
internal static class JsonCalls
{
    // The calls in a stretch that JsonScan found; null when it is anything else. isDeclared says whether a name needs no arguments.
    public static List<JsonCall>? Read(string text, ToolSchemas tools)
    {
        var calls = new List<JsonCall>();
        int at = 0;
        while (at < text.Length)
        {
            var scan = new JsonScan(at);
            if (scan.FindEnd(text, isEnd: true, several: false, out int end, out char missing) != TagMatch.Yes)
            {
                return null;
            }

            string one = text[at..end] + (missing == '\0' ? string.Empty : missing);
            if (!AddCalls(one, tools, calls))
            {
                return null;
            }

            at = OutputTags.SkipSpace(text, end);
            at = at < text.Length && text[at] == ',' ? OutputTags.SkipSpace(text, at + 1) : at;
        }

        return calls.Count > 0 ? calls : null;
    }

    private static bool AddCalls(string json, ToolSchemas tools, List<JsonCall> calls)
    {
        if (ArgumentText.KindOf(json) is not (JsonValueKind.Object or JsonValueKind.Array))
        {
            return false;
        }

        using JsonDocument document = JsonDocument.Parse(json);
        if (document.RootElement.ValueKind == JsonValueKind.Object)
        {
            return AddCall(document.RootElement, tools, calls);
        }

        foreach (JsonElement call in document.RootElement.EnumerateArray())
        {
            if (!AddCall(call, tools, calls))
            {
                return false;
            }
        }

        return true;
    }

    private static bool AddCall(JsonElement call, ToolSchemas tools, List<JsonCall> calls)
    {
        if (call.ValueKind != JsonValueKind.Object
            || !call.TryGetProperty("name", out JsonElement name)
            || name.ValueKind != JsonValueKind.String
            || name.GetString()!.Trim() is not { Length: > 0 } tool)
        {
            return false;
        }

        if (!call.TryGetProperty("arguments", out JsonElement arguments) && !call.TryGetProperty("parameters", out arguments))
        {
            // A declared tool without parameters needs none.
            calls.Add(new JsonCall(tool, "{}"));
            return tools.IsDeclared(tool);
        }

        string? text = arguments.ValueKind switch
        {
            JsonValueKind.Object => arguments.GetRawText(),
            JsonValueKind.Null => "{}",
            JsonValueKind.String => arguments.GetString()!.Trim() is { Length: > 0 } inner ? inner : "{}",
            _ => null,
        };
        if (text is null || ArgumentText.KindOf(text) != JsonValueKind.Object)
        {
            return false;
        }

        calls.Add(new JsonCall(tool, text));
        return true;
    }
}
