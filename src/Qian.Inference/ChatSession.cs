using System.Runtime.CompilerServices;
using System.Text;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;
using Qian.Inference.Text;

namespace Qian.Inference;

/// <summary>
/// A conversation over one <see cref="Session"/>. Each turn renders the checkpoint's template and computes only what is new:
/// where the rendered text continues what the state already stands for, nothing is read twice. The state holds the very
/// tokens that the model produced, not a re-encoding of them. One reply at a time.
/// </summary>
public sealed class ChatSession : IDisposable
{
    private const string TurnEnd = "<|im_end|>";
    private const string ThinkingEnd = "\n</think>\n\n";

    private readonly Engine _engine;
    private Session _session;
    private readonly List<Message> _messages;
    private string _covered = "";   // rendered text that the session's tokens stand for

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

    // Text that the state stands for; what a new prompt shares with it costs nothing.
    internal string CoveredText => _covered;

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
    internal string Render(IReadOnlyList<Message> messages) => PromptEncoder.Join(RenderSegments(messages, generationPrompt: true));

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
        IReadOnlyList<PromptSegment> prompt = RenderSegments(_messages, generationPrompt: true);
        string promptText = PromptEncoder.Join(prompt);
        bool isSameAdapter = _session.Adapter == Settings.Adapter;
        bool continues = isSameAdapter && _covered.Length > 0 && promptText.StartsWith(_covered, StringComparison.Ordinal);
        bool thinks = promptText.TrimEnd().EndsWith("<think>", StringComparison.Ordinal);
        _engine.NewConstraint(options, thinks);
        List<int> added = PromptEncoder.Encode(_engine.Tokenizer, continues ? PromptEncoder.After(prompt, _covered.Length) : prompt);
        if (!isSameAdapter)
        {
            Session other = _engine.NewSession(Settings.Adapter);
            _session.Dispose();
            _session = other;
        }

        if (!continues)
        {
            _session.Clear();
            _covered = "";
        }

        int cachedCount = _session.ComputedCount;
        _session.Append([.. added]);
        _covered = "";
        int promptCount = _session.TokenCount;

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
                KeepCancelled(reply, promptText, promptCount);
        }

        bool isCut = finish != FinishReason.Stop;
        ChatDelta last = reply.End(isCut);
        _messages.Add(reply.Message());
        Cover(reply, promptText, promptCount, isCut);
        yield return last with { Finish = finish, Usage = new ChatUsage(promptCount, cachedCount, reply.TokenCount, reply.ReasoningTokenCount, reply.DraftedCount, reply.AcceptedCount) };
    }

    // Somebody has read what came until then, and the next message may speak of it. When nothing came, the state stands for the
    // prompt (as far as it was read), which RetryAsync continues.
    private void KeepCancelled(ReplyBuilder reply, string promptText, int promptCount)
    {
        if (reply.TokenCount > 0)
        {
            reply.End(isCut: true);
            _messages.Add(reply.Message());
            Cover(reply, promptText, promptCount, isCut: true);
        }
        else if (_session.TokenCount == promptCount)
        {
            _covered = promptText;
        }
    }

    // After a reply the state stands for the conversation as the template will render it next time: after a whole reply up to
    // the end of the assistant's turn, after a cut one up to where it was cut, so that the turn's end is still to be read.
    // A reply that a stop string ended stands for nothing that will come again: the string is in the state, not in the message.
    private void Cover(ReplyBuilder reply, string promptText, int promptCount, bool isCut)
    {
        // A consumer that left early has not seen every token.
        if (_session.TokenCount != promptCount + reply.TokenCount)
            return;
        string turn = PromptEncoder.Join(RenderSegments(_messages, generationPrompt: false)).TrimEnd('\n');
        // The template may have changed earlier turns (dropped their thinking): then the state belongs to another text.
        int shared = promptText.AsSpan().CommonPrefixLength(turn);
        int assistantStart = promptText.LastIndexOf("<|im_start|>", StringComparison.Ordinal);
        if (assistantStart < 0 || shared < assistantStart || !turn.EndsWith(TurnEnd, StringComparison.Ordinal))
            return;
        if (IsToken(_session.Tokens[^1], TurnEnd))
            _covered = turn;
        else if (isCut && !reply.HasCalls)
            _covered = turn[..^UnwrittenLength(turn, promptText, promptCount)];
    }

    // What the template adds to a cut reply that the model has not written: the turn's end, and where the cut fell into the
    // thinking also its end. All of the turn when that cannot be told: </think> was written, but nothing after it.
    private int UnwrittenLength(string turn, string promptText, int promptCount)
    {
        // A prompt for an answer at once ends behind the thinking already.
        int thoughtLength = turn.Length - ThinkingEnd.Length - TurnEnd.Length;
        if (thoughtLength < promptText.Length || !turn.EndsWith(ThinkingEnd + TurnEnd, StringComparison.Ordinal))
            return TurnEnd.Length;
        for (int i = promptCount; i < _session.TokenCount; i++)
        {
            if (IsToken(_session.Tokens[i], "</think>"))
                return turn.Length;
        }

        return turn.Length - thoughtLength;
    }

    private bool IsToken(int id, string name) => _engine.Tokenizer.TryGetId(name, out int named) && id == named;

    private IReadOnlyList<PromptSegment> RenderSegments(IReadOnlyList<Message> messages, bool generationPrompt)
    {
        List<Message> all = Settings.System is { } system ? [new Message(MessageRole.System, system), .. messages] : [.. messages];
        var options = new ChatTemplateOptions
        {
            AddGenerationPrompt = generationPrompt,
            EnableThinking = Settings.Think ? null : false,
            PreserveThinking = Settings.PreserveThinking ? true : null,
        };
        if (all.Exists(message => message.Content.Any(part => part.Kind != ContentKind.Text)))
            throw new BadRequestException("A message holds an image or a video; this version reads text only.");
        ChatTemplate template = _engine.Template;
        return template.RenderSegments(MessageNormalizer.Normalize(all, template.Summary), Settings.Tools, options);
    }
}
