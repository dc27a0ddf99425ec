using System.Runtime.CompilerServices;
using System.Text.Json;
using Microsoft.Extensions.AI;
using Qian.Inference.Chat;

namespace Qian.Inference;

/// <summary>
/// A loaded model as an <see cref="IChatClient"/> of Microsoft.Extensions.AI: streaming, reasoning as
/// <see cref="TextReasoningContent"/>, tool calls and results, usage. A few conversations keep their model state, so that a
/// request which continues one of them reads only what is new; <see cref="ChatResponse.ConversationId"/> is left to callers.
/// A request is computed with a LoRA adapter of the engine when <see cref="ChatOptions.ModelId"/> is the adapter's name (any other
/// id means the model itself), or when <see cref="ChatOptions.AdditionalProperties"/> holds its name under "adapter", where a name
/// that is not loaded is refused.
/// </summary>
public sealed class QianChatClient : IChatClient
{
    private readonly Engine _engine;
    private readonly ChatClientMetadata _metadata;
    private readonly Lock _lock = new();
    private readonly List<ChatSession> _idle = [];   // least recently used first
    private readonly int _keptSessions;
    private bool _disposed;

    /// <summary>A client of <paramref name="engine"/>, which must outlive it. <paramref name="keptSessions"/> conversations keep their state.</summary>
    public QianChatClient(Engine engine, int keptSessions = 2)
    {
        ArgumentNullException.ThrowIfNull(engine);
        ArgumentOutOfRangeException.ThrowIfLessThan(keptSessions, 1);
        _engine = engine;
        _keptSessions = keptSessions;
        _metadata = new ChatClientMetadata("qian", defaultModelId: engine.Config.Name);
    }

    /// <inheritdoc/>
    /// <exception cref="BadRequestException">The template refuses the conversation, or an option is out of range.</exception>
    public Task<ChatResponse> GetResponseAsync(IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default) =>
        GetStreamingResponseAsync(messages, options, cancellationToken).ToChatResponseAsync(cancellationToken);

    /// <inheritdoc/>
    /// <exception cref="BadRequestException">The template refuses the conversation, or an option is out of range.</exception>
    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        IReadOnlyList<Message> conversation = ExtensionsMessages.Read(messages, options);
        ChatSettings settings = ExtensionsMessages.Settings(options) with { Adapter = AdapterOf(options) };
        SamplingOptions sampling = ExtensionsMessages.Sampling(options);
        string responseId = "chat_" + Guid.NewGuid().ToString("N");
        DateTimeOffset created = DateTimeOffset.UtcNow;
        ChatSession session = Take(conversation, settings);
        bool calledTools = false;
        try
        {
            await foreach (ChatDelta delta in session.ReplyAsync(conversation, sampling, cancellationToken).ConfigureAwait(false))
            {
                calledTools |= delta.ToolCalls.Count > 0;
                if (ExtensionsMessages.Contents(delta) is not { Count: > 0 } contents)
                    continue;
                yield return new ChatResponseUpdate(ChatRole.Assistant, contents)
                {
                    ResponseId = responseId,
                    MessageId = responseId,
                    ModelId = settings.Adapter?.Name ?? _engine.Config.Name,
                    CreatedAt = created,
                    FinishReason = delta.Finish is { } finish ? ExtensionsMessages.Finish(finish, calledTools) : null,
                };
            }
        }
        finally
        {
            GiveBack(session);
        }
    }

    /// <inheritdoc/>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        if (serviceKey is not null)
            return null;
        if (serviceType == typeof(ChatClientMetadata))
            return _metadata;
        return serviceType.IsInstanceOfType(this) ? this : serviceType.IsInstanceOfType(_engine) ? _engine : null;
    }

    /// <summary>Frees the kept conversations; the engine stays.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            _disposed = true;
            foreach (ChatSession session in _idle)
                session.Dispose();
            _idle.Clear();
        }
    }

    private Adapter? AdapterOf(ChatOptions? options)
    {
        if (options?.AdditionalProperties is { } more && more.TryGetValue("adapter", out object? value) && value is not null)
        {
            string name = value switch
            {
                string text => text,
                JsonElement { ValueKind: JsonValueKind.String } element => element.GetString()!,
                _ => throw new BadRequestException($"adapter: expected the name of a loaded adapter, found {value}."),
            };
            return _engine.FindAdapter(name) ?? throw new BadRequestException($"adapter: no adapter called '{name}' is loaded.");
        }

        return options?.ModelId is { } id ? _engine.FindAdapter(id) : null;
    }

    // The idle conversation that this one continues furthest, else a new one (the least recently used makes room).
    private ChatSession Take(IReadOnlyList<Message> conversation, ChatSettings settings)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            ChatSession? best = null;
            int most = 0;
            foreach (ChatSession session in _idle)
            {
                session.Settings = settings;
                if (session.StateAdapter != settings.Adapter || session.SharedCount(conversation) is var shared && shared <= most)
                    continue;
                best = session;
                most = shared;
            }

            if (best is null && _idle.Count > 0 && (_idle.Count >= _keptSessions || _idle[0].Tokens.Count == 0))
                best = _idle[0];
            if (best is null)
                return new ChatSession(_engine, settings);
            _idle.Remove(best);
            best.Settings = settings;
            return best;
        }
    }

    private void GiveBack(ChatSession session)
    {
        lock (_lock)
        {
            if (_disposed)
            {
                session.Dispose();
                return;
            }

            // A state that nothing can continue is the first to make room, then the least recently used.
            _idle.Insert(session.Tokens.Count == 0 ? 0 : _idle.Count, session);
            if (_idle.Count > _keptSessions)
            {
                _idle[0].Dispose();
                _idle.RemoveAt(0);
            }
        }
    }
}
