using System.Text;
using Qian.Inference;
using Qian.Inference.Chat.Output;

namespace Qian.Server.Replies;

// One choice of a reply, put together from its pieces for clients that want it whole.
internal sealed class ReplyDraft
{
    private readonly List<ReplyBlock> _blocks = [];
    private readonly List<GeneratedToken> _answerTokens = [];

    // Thinking, text and calls in the order in which they came.
    public IReadOnlyList<ReplyBlock> Blocks => _blocks;

    // Tokens of the answer with their log-probabilities, when those were asked for.
    public IReadOnlyList<GeneratedToken> AnswerTokens => _answerTokens;

    public IReadOnlyList<TokenScore>? PromptScores { get; private set; }

    public ReplyEnd? End { get; private set; }

    public string Content => Join(ReplyBlockKind.Text);

    public string Reasoning => Join(ReplyBlockKind.Thinking);

    public IEnumerable<ReplyBlock> Calls => _blocks.Where(block => block.Kind == ReplyBlockKind.Call);

    public void Add(in ReplyPiece piece)
    {
        foreach (OutputEvent step in piece.Events)
        {
            switch (step.Kind)
            {
                case OutputEventKind.Reasoning:
                    Append(ReplyBlockKind.Thinking, step.Text);
                    break;
                case OutputEventKind.Content:
                    Append(ReplyBlockKind.Text, step.Text);
                    break;
                case OutputEventKind.ToolCallStarted:
                    _blocks.Add(new ReplyBlock(ReplyBlockKind.Call) { CallName = step.Text });
                    break;
                case OutputEventKind.ToolCallArguments:
                    _blocks.FindLast(block => block.Kind == ReplyBlockKind.Call)!.Text.Append(step.Text);
                    break;
                case OutputEventKind.ToolCallCompleted:
                    _blocks.FindLast(block => block.Kind == ReplyBlockKind.Call)!.IsComplete = true;
                    break;
            }
        }

        if (piece is { IsAnswer: true, Token: { LogProbability: not null } token })
            _answerTokens.Add(token);
        PromptScores ??= piece.PromptScores;
        End ??= piece.End;
    }

    private void Append(ReplyBlockKind kind, string text)
    {
        if (_blocks.Count == 0 || _blocks[^1].Kind != kind)
            _blocks.Add(new ReplyBlock(kind));
        _blocks[^1].Text.Append(text);
    }

    private string Join(ReplyBlockKind kind) => string.Concat(_blocks.Where(block => block.Kind == kind).Select(block => block.Text));
}

internal enum ReplyBlockKind
{
    Thinking,
    Text,
    Call,
}

// Text of a call is the JSON of its arguments.
internal sealed class ReplyBlock(ReplyBlockKind kind)
{
    public ReplyBlockKind Kind => kind;

    public StringBuilder Text { get; } = new();

    public string CallName { get; init; } = "";

    public bool IsComplete { get; set; }
}
