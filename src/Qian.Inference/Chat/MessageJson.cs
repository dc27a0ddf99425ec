using System.Text.Json;

namespace Qian.Inference.Chat;

// Reads messages in the form of OpenAI's chat completions, as tolerantly as servers do: content as a string, a list of parts or null;
// images and videos under any of their spellings; calls wrapped in "function" or bare. What has no meaning for the model is passed over.
internal static class MessageJson
{
    public static IReadOnlyList<Message> Read(JsonElement json)
    {
        if (json.ValueKind != JsonValueKind.Array)
        {
            throw new BadRequestException($"\"messages\" must be a list, not {json.ValueKind}.");
        }

        var messages = new List<Message>();
        foreach (JsonElement message in json.EnumerateArray())
        {
            messages.Add(ReadMessage(message));
        }

        return messages;
    }

    public static IReadOnlyList<ToolDefinition>? ReadTools(JsonElement json)
    {
        if (json.ValueKind is JsonValueKind.Null or JsonValueKind.Undefined)
        {
            return null;
        }

        if (json.ValueKind != JsonValueKind.Array)
        {
            throw new BadRequestException($"\"tools\" must be a list, not {json.ValueKind}.");
        }

        var tools = new List<ToolDefinition>();
        foreach (JsonElement tool in json.EnumerateArray())
        {
            tools.Add(new ToolDefinition(tool));
        }

        return tools;
    }

    public static Message ReadMessage(JsonElement json)
    {
        if (json.ValueKind != JsonValueKind.Object || Text(json, "role") is not { } role)
        {
            throw new BadRequestException("Each message must be an object with a \"role\".");
        }

        return new Message(role, ReadContent(Member(json, "content")))
        {
            // vLLM renamed the field to "reasoning"; clients send back what they were sent.
            ReasoningContent = Text(json, "reasoning_content") ?? Text(json, "reasoning"),
            ToolCalls = ReadCalls(Member(json, "tool_calls")),
            ToolCallId = Text(json, "tool_call_id"),
            Name = Text(json, "name"),
        };
    }

    private static IReadOnlyList<ContentPart> ReadContent(JsonElement content)
    {
        switch (content.ValueKind)
        {
            case JsonValueKind.Undefined or JsonValueKind.Null:
                return [];
            case JsonValueKind.String:
                return [ContentPart.FromText(String(content))];
            case JsonValueKind.Array:
                var parts = new List<ContentPart>();
                foreach (JsonElement part in content.EnumerateArray())
                {
                    parts.Add(ReadPart(part));
                }

                return parts;
            default:
                throw new BadRequestException("Unexpected content type.");
        }
    }

    // In the template's order of precedence, with the further spellings that clients use.
    private static ContentPart ReadPart(JsonElement part)
    {
        if (part.ValueKind == JsonValueKind.String)
        {
            return ContentPart.FromText(String(part));
        }

        if (part.ValueKind == JsonValueKind.Object)
        {
            string? type = Text(part, "type");
            if (type is "image" or "image_url" or "input_image" || part.TryGetProperty("image", out _) || part.TryGetProperty("image_url", out _))
            {
                return ContentPart.FromImage(Location(part, "image", "image_url"));
            }

            if (type is "video" or "video_url" || part.TryGetProperty("video", out _) || part.TryGetProperty("video_url", out _))
            {
                return ContentPart.FromVideo(Location(part, "video", "video_url"));
            }

            if (Text(part, "text") is { } text)
            {
                return ContentPart.FromText(text);
            }
        }

        throw new BadRequestException("Unexpected item type in content.");
    }

    private static string? Location(JsonElement part, string name, string nameOfUrl)
    {
        JsonElement url = Member(part, nameOfUrl);
        return url.ValueKind == JsonValueKind.Object ? Text(url, "url") : Text(part, nameOfUrl) ?? Text(part, name);
    }

    private static List<ToolCall> ReadCalls(JsonElement json)
    {
        var calls = new List<ToolCall>();
        if (json.ValueKind != JsonValueKind.Array)
        {
            return calls;
        }

        foreach (JsonElement item in json.EnumerateArray())
        {
            JsonElement call = Member(item, "function") is { ValueKind: JsonValueKind.Object } function ? function : item;
            if (Text(call, "name") is not { } name)
            {
                throw new BadRequestException("Each tool call must have a \"name\".");
            }

            calls.Add(new ToolCall(Text(item, "id") ?? string.Empty, name, Member(call, "arguments")));
        }

        return calls;
    }

    private static JsonElement Member(JsonElement json, string name) =>
        json.ValueKind == JsonValueKind.Object && json.TryGetProperty(name, out JsonElement member) ? member : default;

    private static string? Text(JsonElement json, string name) =>
        Member(json, name) is { ValueKind: JsonValueKind.String } text ? String(text) : null;

    // An escaped half of a surrogate pair is valid JSON, yet no text.
    public static string String(JsonElement json)
    {
        try
        {
            return json.GetString()!;
        }
        catch (InvalidOperationException)
        {
            throw new BadRequestException("A string of the request holds half a surrogate pair.");
        }
    }
}
