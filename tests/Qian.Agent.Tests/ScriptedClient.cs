using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;

namespace Qian.Agent.Tests;

// Answers with what it was told, one reply per request, and keeps the requests.
internal sealed class ScriptedClient(params AIContent[][] replies) : IChatClient
{
    private int _nextIndex;

    public List<ChatMessage[]> Requests { get; } = [];

    // Called before each piece goes out.
    public Action<AIContent> Sending { get; init; } = _ => { };

    // Null: stop, or tool calls.
    public ChatFinishReason? Finish { get; init; }

    public static TextContent Say(string text) => new(text);

    public static TextReasoningContent Think(string text) => new(text);

    public static FunctionCallContent Call(string tool, params (string Name, object? Value)[] arguments) =>
        new($"call_{Guid.NewGuid():N}", tool, arguments.ToDictionary(argument => argument.Name, argument => argument.Value));

    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        Requests.Add([.. messages]);
        AIContent[] reply = replies[Math.Min(_nextIndex++, replies.Length - 1)];
        foreach (AIContent content in reply)
        {
            Sending(content);
            cancellationToken.ThrowIfCancellationRequested();
            await Task.Yield();
            yield return new ChatResponseUpdate(ChatRole.Assistant, [content]) { FinishReason = content == reply[^1] ? Finish ?? ChatFinishReason.Stop : null };
        }
    }

    public Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        GetStreamingResponseAsync(messages, options, cancellationToken).ToChatResponseAsync(cancellationToken);

    public object? GetService(Type serviceType, object? serviceKey = null) => null;

    public void Dispose()
    {
    }
}
