using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Inference.Chat;

// Tool arguments as they come back in a history, made into the object that the template needs.
internal static class ToolArguments
{
    private static readonly JsonDocumentOptions s_tolerant = new() { AllowTrailingCommas = true, MaxDepth = 64 };

    public static JsonElement ToObject(JsonElement arguments)
    {
        // Some clients encode twice; more often than that is no accident that we undo.
        for (int i = 0; i < 2 && arguments.ValueKind == JsonValueKind.String; i++)
        {
            string text = MessageJson.String(arguments);
            if (string.IsNullOrWhiteSpace(text))
            {
                return JsonSerializer.SerializeToElement(new JsonObject());
            }

            if (Parse(text) is not { } parsed)
            {
                break;
            }

            arguments = parsed;
        }

        return arguments.ValueKind switch
        {
            JsonValueKind.Object => arguments,
            JsonValueKind.Undefined or JsonValueKind.Null => JsonSerializer.SerializeToElement(new JsonObject()),
            JsonValueKind.String when Parse(CloseOpenParts(MessageJson.String(arguments))) is { ValueKind: JsonValueKind.Object } closed => closed,
            JsonValueKind.String => JsonSerializer.SerializeToElement(new JsonObject { ["arguments"] = MessageJson.String(arguments) }),
            _ => JsonSerializer.SerializeToElement(new JsonObject { ["arguments"] = JsonNode.Parse(arguments.GetRawText()) }),
        };
    }

    private static JsonElement? Parse(string text)
    {
        try
        {
            using var document = JsonDocument.Parse(text, s_tolerant);
            return document.RootElement.Clone();
        }
        catch (Exception broken) when (broken is JsonException or ArgumentException)
        {
            return null;
        }
    }

    // Completes the argument text of a call that was cut by the length limit: the string and the brackets that are open are closed.
    // Where that is no JSON yet (a key without value, half an escape), the last member goes too.
    private static string CloseOpenParts(string text)
    {
        var open = new Stack<char>();
        bool isInString = false;
        int lastComplete = 0;
        for (int i = 0; i < text.Length; i++)
        {
            char c = text[i];
            if (isInString)
            {
                i += c == '\\' ? 1 : 0;
                isInString = c != '"';
                continue;
            }

            switch (c)
            {
                case '"':
                    isInString = true;
                    break;
                case '{' or '[':
                    open.Push(c == '{' ? '}' : ']');
                    lastComplete = i + 1;
                    break;
                case '}' or ']':
                    open.TryPop(out _);
                    break;
                case ',':
                    lastComplete = i;
                    break;
            }
        }

        string closers = new([.. open]);
        string closed = text + (isInString ? "\"" : string.Empty) + closers;
        return Parse(closed) is null ? text[..lastComplete] + closers : closed;
    }
}
