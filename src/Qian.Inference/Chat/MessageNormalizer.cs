using System.Text.Json;

namespace Qian.Inference.Chat;

// Brings a conversation into a form that the template accepts. What it accepts already is left alone and renders the same:
// - "developer" becomes "system" where the template does not know it;
// - several system messages at the head become one, a blank line between them;
// - a later system message becomes a user turn in its place, wrapped in <system-reminder>. Merged into the head it would change the
//   first tokens of the prompt, and with them all that is cached of the conversation;
// - tool arguments become objects: JSON text is parsed, text that a length limit cut off is closed, and anything else is passed
//   under the key "arguments", so that no turn of the history is ever lost.
// A conversation without a user message stays as it is: the template's own error is the best answer.
internal static class MessageNormalizer
{
    public static IReadOnlyList<Message> Normalize(IReadOnlyList<Message> messages, ChatTemplateSummary template)
    {
        var normalized = new List<Message>(messages.Count);
        foreach (Message message in messages)
        {
            Message next = WithObjectArguments(message);
            if (next.Role == MessageRole.Developer && !template.AcceptsDeveloperRole)
            {
                next = next with { Role = MessageRole.System };
            }

            if (next.Role != MessageRole.System || normalized.Count == 0 || template.AcceptsLateSystemMessage)
            {
                normalized.Add(next);
            }
            else if (normalized.Count == 1 && normalized[0].Role == MessageRole.System)
            {
                normalized[0] = Merge(normalized[0], next);
            }
            else
            {
                normalized.Add(AsUserTurn(next));
            }
        }

        return normalized;
    }

    private static Message Merge(Message first, Message second)
    {
        IReadOnlyList<ContentPart> gap = IsBlank(first) || IsBlank(second) ? [] : [ContentPart.FromText("\n\n")];
        return first with { Content = [.. first.Content, .. gap, .. second.Content] };
    }

    private static bool IsBlank(Message message)
    {
        foreach (ContentPart part in message.Content)
        {
            if (part.Kind != ContentKind.Text || !string.IsNullOrWhiteSpace(part.Text))
            {
                return false;
            }
        }

        return true;
    }

    private static Message AsUserTurn(Message message) => message with
    {
        Role = MessageRole.User,
        Content =
        [
            ContentPart.FromText("<system-reminder>\n"),
            .. message.Content,
            ContentPart.FromText("\n</system-reminder>"),
        ],
    };

    private static Message WithObjectArguments(Message message)
    {
        bool isNormal = true;
        foreach (ToolCall call in message.ToolCalls)
        {
            isNormal &= call.Arguments.ValueKind is JsonValueKind.Object or JsonValueKind.Undefined;
        }

        if (isNormal)
        {
            return message;
        }

        var calls = new ToolCall[message.ToolCalls.Count];
        for (int i = 0; i < calls.Length; i++)
        {
            calls[i] = message.ToolCalls[i] with { Arguments = ToolArguments.ToObject(message.ToolCalls[i].Arguments) };
        }

        return message with { ToolCalls = calls };
    }
}
