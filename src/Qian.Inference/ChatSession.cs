using System.Runtime.CompilerServices;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;
using Qian.Inference.Text;

namespace Qian.Inference;

/// <summary>
/// A conversation over one <see cref="Session"/>. Each turn renders the checkpoint's template and computes only what is new:
/// where the prompt continues what the state stands for, or what the engine's prefix store holds, nothing is read twice. Replies
/// stay the very tokens that the model produced, not a re-encoding of them. One reply at a time.
/// </summary>
public sealed class ChatSession : IDisposable
{
    private readonly Engine _engine;
    private Session _session;
    private readonly List<Message> _messages;

    /// <summary>A conversation, empty or continuing <paramref name="messages"/> (without its system message, which is a setting).</summary>
    public ChatSession(Engine engine, ChatSettings? settings = null, IReadOnlyList<Message>? messages = null)
    {
        ArgumentNullException.ThrowIfNull(engine);
        _engine = engine;
        Settings = settings ?? new ChatSettings();
        _session = engine.NewSession(Settings.Adapter);
        _messages = [.. messages ?? []];
    }

    /// <summary>System message, thinking, tools, adapter; may be changed between replies.</summary>
    public ChatSettings Settings { get; set; }

    /// <summary>The conversation so far, without the system message of the settings.</summary>
    public IReadOnlyList<Message> Messages => _messages;

    // For whoever shows how far a long prompt has been read.
    internal (int Computed, int Total) Progress => (_session.ComputedCount, _session.TokenCount);

    // What the state was computed with.
    internal Adapter? StateAdapter => _session.Adapter;

    // The tokens of the state.
    internal IReadOnlyList<int> Tokens => _session.Tokens;

    /// <summary>Sends a user message and streams the reply.</summary>
    /// <exception cref="BadRequestException">The template refuses the conversation, an option is out of range, or the context is too short.</exception>
    public IAsyncEnumerable<ChatDelta> SendAsync(string text, SamplingOptions? options = null, CancellationToken cancellationToken = default) =>
        SendAsync(new Message(MessageRole.User, text), options, cancellationToken);

    /// <summary>
    /// Sends a message (a user's, or a tool's result) and streams the reply. A message that is refused does not join the
    /// conversation; of a reply that is cancelled, what came stays in it.
    /// </summary>
    /// <exception cref="BadRequestException">The template refuses the conversation, an option is out of range, or the context is too short.</exception>
    public IAsyncEnumerable<ChatDelta> SendAsync(Message message, SamplingOptions? options = null, CancellationToken cancellationToken = default) =>
        ReplyTo([.. _messages, message], options, cancellationToken);

    /// <summary>Answers once more what the last reply answered.</summary>
    /// <exception cref="BadRequestException">Nothing was said yet.</exception>
    public IAsyncEnumerable<ChatDelta> RetryAsync(SamplingOptions? options = null, CancellationToken cancellationToken = default)
    {
        int count = _messages.Count;
        while (count > 0 && _messages[count - 1].Role == MessageRole.Assistant)
            count--;
        if (count == 0)
            throw new BadRequestException("Nothing was said yet.");
        return ReplyTo([.. _messages.Take(count)], options, cancellationToken);
    }

    /// <summary>Replaces the conversation and streams the reply to its last message; what it shares with the one before is not computed again.</summary>
    /// <exception cref="BadRequestException">The template refuses the conversation, an option is out of range, or the context is too short.</exception>
    public IAsyncEnumerable<ChatDelta> ReplyAsync(IReadOnlyList<Message> messages, SamplingOptions? options = null, CancellationToken cancellationToken = default) =>
        ReplyTo([.. messages], options, cancellationToken);

    /// <summary>Gives the state's memory back.</summary>
    public void Dispose() => _session.Dispose();

    // The text that a conversation of these messages becomes, ready for the model to go on.
    internal string Render(IReadOnlyList<Message> messages) => Encode(messages).Text;

    // Tokens that a conversation of these messages would not have to compute, because this one's state stands for them.
    internal int SharedCount(IReadOnlyList<Message> messages)
    {
        int shared = SharedWith(Encode(messages).Tokens);
        return shared >= _session.ComputedCount ? _session.ComputedCount : 0;
    }

    // The conversation becomes `messages`, and its reply joins it. What is refused leaves the conversation as it was.
    private async IAsyncEnumerable<ChatDelta> ReplyTo(Message[] messages, SamplingOptions? options, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        Message[] before = [.. _messages];
        _messages.Clear();
        _messages.AddRange(messages);
        bool replied = false;
        try
        {
            await foreach (ChatDelta delta in Reply(options, cancellationToken).ConfigureAwait(false))
            {
                replied = true;
                yield return delta;
            }
        }
        finally
        {
            if (!replied && !cancellationToken.IsCancellationRequested)
            {
                _messages.Clear();
                _messages.AddRange(before);
            }
        }
    }

    private async IAsyncEnumerable<ChatDelta> Reply(SamplingOptions? options, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        // Whatever can be refused is refused before the state is touched: it may stand for a long conversation.
        options?.Validate();
        options = (options ?? new SamplingOptions()) with { Constraint = ToolUse.Constrain(Settings, options?.Constraint) };
        EncodedPrompt prompt = Encode(_messages);
        if (prompt.Tokens.Length > _engine.ContextLength)
            throw new BadRequestException($"the context holds {_engine.ContextLength} tokens: the conversation has become {prompt.Tokens.Length}. Shorten it, or load the model with a longer context.");
        _engine.NewConstraint(options, prompt.Thinks);
        if (_session.Adapter != Settings.Adapter)
        {
            Session other = _engine.NewSession(Settings.Adapter);
            _session.Dispose();
            _session = other;
        }

        int shared = SharedWith(prompt.Tokens);
        if (!_session.TryTruncate(shared))
        {
            _session.Clear();
            shared = 0;
        }

        _session.Append(prompt.Tokens.AsSpan(shared));
        int promptCount = _session.TokenCount;

        bool thinks = prompt.Thinks;
        var parser = new AssistantOutputParser(Settings.Tools, thinks);
        var reply = new ReplyBuilder(parser);
        FinishReason? finish = null;
        try
        {
            await foreach (GeneratedToken token in _session.GenerateAsync(options, Settings.SamplingModeOf(thinks), thinks, cancellationToken).ConfigureAwait(false))
            {
                finish = token.Finish;
                yield return reply.Add(token);
            }
        }
        finally
        {
            if (finish is null && cancellationToken.IsCancellationRequested)
                KeepCancelled(reply, promptCount, thinks);
        }

        ChatDelta last = Join(reply, promptCount, thinks, finish);
        yield return last with
        {
            Finish = finish,
            Usage = new ChatUsage(promptCount, _session.CachedCount, reply.TokenCount, reply.ReasoningTokenCount, reply.DraftedCount, reply.AcceptedCount, _session.PrefixUse),
        };
    }

    // Somebody has read what came until then, and the next message may speak of it.
    private void KeepCancelled(ReplyBuilder reply, int promptCount, bool thinks)
    {
        if (reply.TokenCount > 0)
            Join(reply, promptCount, thinks, finish: null);
    }

    // The reply joins the conversation, and the engine remembers the tokens that it was made of.
    private ChatDelta Join(ReplyBuilder reply, int promptCount, bool thinks, FinishReason? finish)
    {
        bool isThinking = reply.IsThinking;
        ChatDelta last = reply.End(isCut: finish != FinishReason.Stop);
        Message message = reply.Message();
        _messages.Add(message);
        // A consumer that left early has not seen every token.
        if (_session.TokenCount == promptCount + reply.TokenCount && reply.IsWhole)
            _engine.Remember(_session.Tokens, promptCount, reply.TokenCount, message, thinks, isThinking, finish);
        return last;
    }

    private int SharedWith(int[] prompt)
    {
        IReadOnlyList<int> tokens = _session.Tokens;
        int shared = 0, limit = Math.Min(tokens.Count, prompt.Length);
        while (shared < limit && tokens[shared] == prompt[shared])
            shared++;
        return shared;
    }

    private EncodedPrompt Encode(IReadOnlyList<Message> messages)
    {
        List<Message> all = Settings.System is { } system ? [new Message(MessageRole.System, system), .. messages] : [.. messages];
        var options = new ChatTemplateOptions
        {
            EnableThinking = Settings.Think ? null : false,
            PreserveThinking = Settings.PreserveThinking ? true : null,
        };
        if (all.Exists(message => message.Content.Any(part => part.Kind != ContentKind.Text)))
            throw new BadRequestException("A message holds an image or a video; this version reads text only.");
        return _engine.EncodeChat(all, Settings.Tools, options);
    }
}
