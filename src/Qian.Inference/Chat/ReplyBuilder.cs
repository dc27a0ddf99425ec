using System.Text;
using Qian.Inference.Chat.Output;

namespace Qian.Inference.Chat;

// From sampled tokens to the pieces of a reply that a client sees, and to the message that joins the conversation. A tool
// call is handed out when it is whole, with an id of its own.
internal sealed class ReplyBuilder
{
    private readonly AssistantOutputParser _parser;
    private readonly StringBuilder _text = new();
    private readonly StringBuilder _reasoning = new();
    private readonly List<string> _callIds = [];

    public ReplyBuilder(AssistantOutputParser parser) => _parser = parser;

    public int TokenCount { get; private set; }

    public int ReasoningTokenCount { get; private set; }

    public long DraftedCount { get; private set; }

    public long AcceptedCount { get; private set; }

    // Whether the model began a call, whole or not.
    public bool HasCalls => _parser.Output.ToolCalls.Count > 0;

    // Whether all of what came is in the message: no call broke off.
    public bool IsWhole => _parser.Output.IsWhole;

    public bool IsThinking => _parser.IsReasoning;

    public ChatDelta Add(GeneratedToken token)
    {
        TokenCount++;
        (DraftedCount, AcceptedCount) = (token.DraftedCount, token.AcceptedCount);
        ChatDelta delta = Piece(_parser.Feed(token.Text), tokenCount: 1);
        // After the piece: the token that closes the thinking is none of it.
        ReasoningTokenCount += _parser.IsReasoning ? 1 : 0;
        return delta;
    }

    public ChatDelta End(bool isCut) => Piece(_parser.Finish(isCut), tokenCount: 0);

    // The assistant's message as parsed.
    public Message Message() => _parser.Output.ToMessage(IdOf);

    private ChatDelta Piece(IReadOnlyList<OutputEvent> events, int tokenCount)
    {
        _text.Clear();
        _reasoning.Clear();
        List<ToolCall>? completed = null;
        foreach (OutputEvent step in events)
        {
            switch (step.Kind)
            {
                case OutputEventKind.Reasoning:
                    _reasoning.Append(step.Text);
                    break;
                case OutputEventKind.Content:
                    _text.Append(step.Text);
                    break;
                case OutputEventKind.ToolCallCompleted:
                    ParsedToolCall call = _parser.Output.ToolCalls[step.CallIndex];
                    (completed ??= []).Add(new ToolCall(IdOf(step.CallIndex), call.Name, call.Arguments));
                    break;
            }
        }

        return new ChatDelta(_text.ToString(), _reasoning.ToString(), completed ?? [], tokenCount);
    }

    private string IdOf(int callIndex)
    {
        while (_callIds.Count <= callIndex)
            _callIds.Add("call_" + Guid.NewGuid().ToString("N")[..24]);
        return _callIds[callIndex];
    }
}
