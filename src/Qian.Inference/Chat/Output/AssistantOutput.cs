using System.Text;
using System.Text.Json;

namespace Qian.Inference.Chat.Output;

internal enum OutputEventKind : byte
{
    Reasoning,
    Content,

    // Text is the tool's name.
    ToolCallStarted,

    // Text continues the arguments' JSON text.
    ToolCallArguments,

    // The arguments are whole. A call that was cut by the length limit never gets here.
    ToolCallCompleted,
}

// One step of a reply as a client sees it. CallIndex counts the calls of the reply from 0; it is -1 for text.
internal readonly record struct OutputEvent(OutputEventKind Kind, string Text, int CallIndex = -1);

// What a reply came to. Finish is "length", "tool_calls" or "stop". IsRepaired: the text departed from the template's form and was
// bridged. Tool calls are in the order in which they were made; only the last can be incomplete.
internal sealed record AssistantOutput(
    string Reasoning, string Content, IReadOnlyList<ParsedToolCall> ToolCalls, string Finish, bool IsRepaired)
{
    // Whether a message holds all of it: no call broke off.
    public bool IsWhole => ToolCalls.All(call => call.IsComplete);

    // The assistant's message, with the calls that are whole; `idOf` names a call by its place.
    public Message ToMessage(Func<int, string> idOf) => new(MessageRole.Assistant, Content)
    {
        ReasoningContent = Reasoning.Length > 0 ? Reasoning : null,
        ToolCalls = [.. ToolCalls.Index().Where(call => call.Item.IsComplete).Select(call => new ToolCall(idOf(call.Index), call.Item.Name, call.Item.Arguments))],
    };
}

// A call as parsed so far. Its argument text is JSON that only ever grows; of an incomplete call it stays open, so that no client
// can take it for a finished one.
internal sealed class ParsedToolCall
{
    private readonly StringBuilder _arguments = new();

    public ParsedToolCall(string name, bool isDeclared)
    {
        Name = name;
        IsDeclared = isDeclared;
    }

    public string Name { get; }

    public bool IsDeclared { get; }

    public bool IsComplete { get; set; }

    // Whether the model itself ended the call, rather than the end of the text.
    public bool IsClosedByTag { get; set; }

    public bool HasOpenString { get; set; }

    public List<string> ParameterNames { get; } = [];

    public string ArgumentsText => _arguments.ToString();

    // The arguments as an object: all of a complete call; of an incomplete one the closed values and the open string so far.
    public JsonElement Arguments
    {
        get
        {
            string closer = IsComplete ? string.Empty : HasOpenString ? "\"}" : "}";
            using JsonDocument document = JsonDocument.Parse(_arguments + closer, new JsonDocumentOptions { MaxDepth = 256 });
            return document.RootElement.Clone();
        }
    }

    public void Append(string text) => _arguments.Append(text);
}
