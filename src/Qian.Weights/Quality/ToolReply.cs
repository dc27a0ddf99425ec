using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;

namespace Qian.Weights;

// What one model did with one tool prompt: the calls that came whole, and whether all of it was exactly in the form that the
// template asks for (nothing bridged, nothing cut, declared tools only, every required parameter there).
internal sealed record ToolReply(IReadOnlyList<ToolCall> Calls, bool IsWellFormed, string Text)
{
    private const int ShownLength = 300;

    public static ToolReply From(AssistantOutput output, string text, FinishReason? finish, IReadOnlyList<ToolDefinition> tools)
    {
        ToolCall[] calls = [.. output.ToolCalls.Where(call => call.IsComplete).Select(call => new ToolCall("", call.Name, call.Arguments))];
        bool isWellFormed = finish == FinishReason.Stop && calls.Length > 0 && !output.IsRepaired
            && output.ToolCalls.All(call => call.IsComplete && call.IsClosedByTag && call.IsDeclared)
            && calls.All(call => HasRequired(call, tools));
        return new ToolReply(calls, isWellFormed, text.Length > ShownLength ? text[..ShownLength] + "…" : text);
    }

    public static bool SameNames(IReadOnlyList<ToolCall> left, IReadOnlyList<ToolCall> right) =>
        left.Select(call => call.Name).SequenceEqual(right.Select(call => call.Name), StringComparer.Ordinal);

    // As JSON values: the order of keys and the spelling of numbers do not count.
    public static bool SameCalls(IReadOnlyList<ToolCall> left, IReadOnlyList<ToolCall> right) =>
        SameNames(left, right) && left.Zip(right).All(pair => JsonElement.DeepEquals(pair.First.Arguments, pair.Second.Arguments));

    private static bool HasRequired(ToolCall call, IReadOnlyList<ToolDefinition> tools)
    {
        JsonElement schema = tools.First(tool => tool.Name == call.Name).Parameters;
        if (schema.ValueKind != JsonValueKind.Object || !schema.TryGetProperty("required", out JsonElement required) || required.ValueKind != JsonValueKind.Array)
            return true;
        return required.EnumerateArray().All(name => name.ValueKind != JsonValueKind.String || call.Arguments.TryGetProperty(MessageJson.String(name), out _));
    }
}
