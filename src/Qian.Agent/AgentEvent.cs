namespace Qian.Agent;

// What an agent tells whoever watches it, in the order in which it happens. Nobody who watches can change what it does;
// the one question that is answered, a permission, goes through Permissions.Ask.
internal abstract record AgentEvent;

// More of the answer.
internal sealed record TextDelta(string Text) : AgentEvent;

// More of the thinking.
internal sealed record ReasoningDelta(string Text) : AgentEvent;

// The model calls a tool, with what it wrote as arguments.
internal sealed record ToolCalled(string CallId, string Tool, IReadOnlyDictionary<string, string> Arguments) : AgentEvent;

// The user is about to be asked.
internal sealed record PermissionAsked(PermissionRequest Request) : AgentEvent;

internal sealed record ToolAnswered(string CallId, string Tool, ToolResult Result) : AgentEvent;

// A reply was read and its calls are answered. Tokens of the prompt, how many of them were kept from before, tokens of the reply.
internal sealed record StepEnded(int StepCount, long PromptTokens, long CachedTokens, long OutputTokens) : AgentEvent;

// The first messages of the history, as many, gave way to a summary in the model's words.
internal sealed record HistoryCompacted(int MessageCount, string Summary) : AgentEvent;

internal sealed record Finished(AgentOutcome Outcome) : AgentEvent;

// How a task ended: with the model's last words, or with the reason why the agent gave up.
internal sealed record AgentOutcome(bool IsDone, string Text);
