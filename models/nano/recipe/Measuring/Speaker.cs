using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat;

namespace Qian.Nano;

// What the model wrote: parsed, and as its very tokens spell it.
internal sealed record Reply(string Text, string Reasoning, IReadOnlyList<ToolCall> Calls, string Raw, int[] Tokens, int PromptCount, bool IsWhole, int TokensUntilAnswer);

// Asks the model, greedily and without any grammar; many conversations at a time. mostTokens shortens every reply, for tests.
internal sealed class Speaker(Engine engine, int mostTokens = int.MaxValue)
{
    private const int SideBySide = 16;

    public static IReadOnlyList<Message> Messages(IReadOnlyList<Turn> turns) => [.. turns.Select(ToMessage)];

    public static IReadOnlyList<ToolDefinition>? Definitions(ToolBox? tools)
    {
        if (tools is null)
            return null;
        using JsonDocument document = JsonDocument.Parse(tools.Json);
        return MessageJson.ReadTools(document.RootElement.Clone());
    }

    // One answer to each conversation, which ends with a user's or a tool's turn.
    public IReadOnlyList<Reply> AskAll(IReadOnlyList<(IReadOnlyList<Turn> Turns, ToolBox? Tools, bool Thinks)> conversations, int maxTokens)
    {
        var replies = new Reply[conversations.Count];
        Parallel.ForAsync(0, conversations.Count, new ParallelOptions { MaxDegreeOfParallelism = SideBySide }, async (i, cancellation) =>
        {
            (IReadOnlyList<Turn> turns, ToolBox? tools, bool thinks) = conversations[i];
            using var session = new ChatSession(engine, new ChatSettings { Think = thinks, Tools = Definitions(tools) });
            replies[i] = await Ask(session, Messages(turns), maxTokens, cancellation).ConfigureAwait(false);
        }).GetAwaiter().GetResult();
        return replies;
    }

    private async Task<Reply> Ask(ChatSession session, IReadOnlyList<Message> messages, int maxTokens, CancellationToken cancellation)
    {
        var text = new StringBuilder();
        var reasoning = new StringBuilder();
        List<ToolCall> calls = [];
        int tokenCount = 0;
        int untilAnswer = int.MaxValue;
        ChatDelta last = default;
        await foreach (ChatDelta delta in session.ReplyAsync(messages, SamplingOptions.Greedy with { MaxTokens = Math.Min(maxTokens, mostTokens) }, cancellation).ConfigureAwait(false))
        {
            text.Append(delta.Text);
            reasoning.Append(delta.Reasoning);
            calls.AddRange(delta.ToolCalls);
            tokenCount += delta.TokenCount;
            if (untilAnswer == int.MaxValue && (delta.Text.Trim().Length > 0 || delta.ToolCalls.Count > 0))
                untilAnswer = tokenCount;
            last = delta;
        }

        int promptCount = last.Usage!.PromptTokens;
        int[] tokens = [.. session.Tokens];
        string raw = engine.Tokenizer.Decode(tokens.AsSpan(promptCount));
        return new Reply(text.ToString(), reasoning.ToString(), calls, raw, tokens, promptCount, last.Finish == FinishReason.Stop, untilAnswer);
    }

    private static Message ToMessage(Turn turn)
    {
        ToolCall[] calls = turn.Call is { } call
            ? [new ToolCall("", call.Tool, JsonSerializer.SerializeToElement(call.Arguments.ToDictionary(argument => argument.Name, argument => argument.Value)))]
            : [];
        return new Message(turn.Role, turn.Content) { ReasoningContent = turn.Reasoning, ToolCalls = calls };
    }
}
