using System.Text.Json;
using Qian.Inference.Chat;

namespace Qian.Training;

// A conversation to learn from, whatever form its line had. TurnIsTaught: one entry per assistant message, in order.
internal sealed record Conversation(IReadOnlyList<Message> Messages, IReadOnlyList<ToolDefinition>? Tools, IReadOnlyList<bool> TurnIsTaught)
{
    // Null: the template's own default, which is to think.
    public bool? EnableThinking { get; init; }

    public bool? PreserveThinking { get; init; }

    // Further variables of the template: an object, or undefined.
    public JsonElement TemplateVariables { get; init; }
}
