using Microsoft.Extensions.AI;
using Qian.Inference;

namespace Qian.Agent;

// A task, worked on step by step. A step is: query the model, execute its calls. The history is linear and only grows, and it is
// the prompt: so a client that keeps the model's state reads every token once. Where it nears a length that was given, or somebody
// asks for it, the model's own summary takes the place of the older part, and it grows on from there. What happens is told as
// events; how it is shown is not known here, nor which model answers.
internal sealed class CodingAgent(IChatClient model, ToolBox tools, ChatOptions options, int mostSteps, long compactAtTokens = long.MaxValue)
{
    // A rough measure of what came since the model counted.
    private const int CharactersPerToken = 3;

    private readonly ChatOptions _options = Configured(options, tools);
    private readonly List<ChatMessage> _history = [];
    private string _task = "";
    private long _tokenCount;
    private bool _cannotCompact;

    public event Action<AgentEvent>? Happened;

    public IReadOnlyList<ChatMessage> History => _history;

    public int StepCount { get; private set; }

    // Works on a task, or on what the user says next. Cancelled, it leaves a history that can go on.
    public async Task<AgentOutcome> RunAsync(string task, CancellationToken cancellation = default)
    {
        _history.Add(new ChatMessage(ChatRole.User, task));
        _task = task;
        _tokenCount += task.Length / CharactersPerToken;
        _cannotCompact = false;
        AgentOutcome? outcome = null;
        try
        {
            for (int i = 0; outcome is null; i++)
                outcome = i < mostSteps ? await Step(cancellation).ConfigureAwait(false) : new AgentOutcome(false, $"not finished after {mostSteps} steps");
        }
        catch (BadRequestException error)
        {
            // The context is full, or the template refuses the conversation.
            outcome = new AgentOutcome(false, error.Message);
        }

        Happened?.Invoke(new Finished(outcome));
        return outcome;
    }

    // Replaces the older part of the history by a summary that the model is asked for. False, and nothing is changed, where there is
    // little to replace or the model gave none.
    public async Task<bool> CompactAsync(CancellationToken cancellation = default)
    {
        int olderCount = HistorySummary.OlderCount(_history);
        if (olderCount == 0)
            return false;
        // With the tools, although none is to be called: they are part of the prompt that has been read.
        ChatResponse reply = await model.GetResponseAsync(HistorySummary.Request(_history.Take(olderCount)), _options, cancellation).ConfigureAwait(false);
        string summary = reply.Text.Trim();
        if (summary.Length == 0 || reply.FinishReason == ChatFinishReason.Length)
            return false;
        bool isBegun = _history[^1].Role != ChatRole.User;
        _history.RemoveRange(0, olderCount);
        _history.Insert(0, HistorySummary.Replacement(isBegun ? _task : null, summary));
        // Counted anew with the next reply.
        _tokenCount = 0;
        Happened?.Invoke(new HistoryCompacted(olderCount, summary));
        return true;
    }

    private async Task<AgentOutcome?> Step(CancellationToken cancellation)
    {
        // A model that gives no summary is not asked again for this task: then the limit speaks.
        if (_tokenCount >= compactAtTokens && !_cannotCompact && HistorySummary.OlderCount(_history) > 0)
            _cannotCompact = !await CompactAsync(cancellation).ConfigureAwait(false);
        ChatResponse reply = await Query(cancellation).ConfigureAwait(false);
        AgentOutcome? outcome = await Execute(reply, cancellation).ConfigureAwait(false);
        StepCount++;
        UsageDetails? usage = reply.Usage;
        _tokenCount = (usage?.InputTokenCount ?? 0) + (usage?.OutputTokenCount ?? 0) + ResultLength() / CharactersPerToken;
        Happened?.Invoke(new StepEnded(StepCount, usage?.InputTokenCount ?? 0, usage?.CachedInputTokenCount ?? 0, usage?.OutputTokenCount ?? 0));
        return outcome;
    }

    private async Task<ChatResponse> Query(CancellationToken cancellation)
    {
        var updates = new List<ChatResponseUpdate>();
        try
        {
            await foreach (ChatResponseUpdate update in model.GetStreamingResponseAsync(_history, _options, cancellation).ConfigureAwait(false))
            {
                updates.Add(update);
                foreach (AIContent content in update.Contents)
                {
                    if (content is TextReasoningContent thought)
                        Happened?.Invoke(new ReasoningDelta(thought.Text));
                    else if (content is TextContent text)
                        Happened?.Invoke(new TextDelta(text.Text));
                }
            }
        }
        catch (OperationCanceledException)
        {
            // Somebody has read what came until then.
            ChatResponse partial = updates.ToChatResponse();
            _history.AddRange(partial.Messages);
            Answer(Calls(partial), []);
            throw;
        }

        ChatResponse response = updates.ToChatResponse();
        _history.AddRange(response.Messages);
        return response;
    }

    // Null while the model wants to go on.
    private async Task<AgentOutcome?> Execute(ChatResponse reply, CancellationToken cancellation)
    {
        FunctionCallContent[] calls = Calls(reply);
        if (calls.Length == 0)
        {
            return reply.FinishReason == ChatFinishReason.Length ? new AgentOutcome(false, "the reply was cut at the limit of its length")
                : reply.Text.Trim().Length == 0 ? new AgentOutcome(false, "the model neither answered nor called a tool")
                : new AgentOutcome(true, reply.Text.Trim());
        }

        var results = new List<string>();
        try
        {
            foreach (FunctionCallContent call in calls)
            {
                Dictionary<string, string> arguments = ToolBox.Spell(call.Arguments);
                Happened?.Invoke(new ToolCalled(call.CallId, call.Name, arguments));
                ToolResult result = await tools.RunAsync(call.Name, arguments, request => Happened?.Invoke(new PermissionAsked(request)), cancellation).ConfigureAwait(false);
                results.Add(result.Text);
                Happened?.Invoke(new ToolAnswered(call.CallId, call.Name, result));
            }
        }
        finally
        {
            Answer(calls, results);
        }

        return null;
    }

    // Every call gets an answer, whatever happened: a history with an open call could not go on.
    private void Answer(FunctionCallContent[] calls, List<string> results)
    {
        if (calls.Length > 0)
            _history.Add(new ChatMessage(ChatRole.Tool, [.. calls.Select((call, i) => new FunctionResultContent(call.CallId, i < results.Count ? results[i] : "error: interrupted by the user"))]));
    }

    private long ResultLength() => _history[^1].Contents.OfType<FunctionResultContent>().Sum(result => (result.Result as string)?.Length ?? 0);

    private static FunctionCallContent[] Calls(ChatResponse reply) => [.. reply.Messages.SelectMany(message => message.Contents).OfType<FunctionCallContent>()];

    private static ChatOptions Configured(ChatOptions options, ToolBox tools)
    {
        ChatOptions own = options.Clone();
        own.Tools = [.. tools.Declarations];
        return own;
    }
}
