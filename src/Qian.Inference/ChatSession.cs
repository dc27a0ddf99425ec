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
    private readonly Engine _engine;
    private readonly Session _session;
    private readonly List<Message> _messages;
    private string _covered = "";   // rendered text that the session's tokens stand for

    /// <summary>A conversation, empty or continuing <paramref name="messages"/> (without its system message, which is a setting).</summary>
    public ChatSession(Engine engine, ChatSettings? settings = null, IReadOnlyList<Message>? messages = null)
    {
        ArgumentNullException.ThrowIfNull(engine);
        _engine = engine;
        _session = engine.NewSession();
        _messages = [.. messages ?? []];
        Settings = settings ?? new ChatSettings();
    }

    /// <summary>System message, thinking, tools; may be changed between replies.</summary>
    public ChatSettings Settings { get; set; }

    /// <summary>The conversation so far, without the system message of the settings.</summary>
    public IReadOnlyList<Message> Messages => _messages;

    // Text that the state stands for; what a new prompt shares with it costs nothing.
    internal string CoveredText => _covered;

    /// <summary>Sends a user message and streams the reply.</summary>
    /// <exception cref="BadRequestException">The template refuses the conversation, an option is out of range, or the context is too short.</exception>
    public IAsyncEnumerable<ChatDelta> SendAsync(string text, SamplingOptions? options = null, CancellationToken cancellationToken = default) =>
        SendAsync(new Message(MessageRole.User, text), options, cancellationToken);

    /// <summary>Sends a message (a user's, or a tool's result) and streams the reply.</summary>
    /// <exception cref="BadRequestException">The template refuses the conversation, an option is out of range, or the context is too short.</exception>
    public async IAsyncEnumerable<ChatDelta> SendAsync(Message message, SamplingOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        _messages.Add(message);
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
            // A message that was refused is not part of the conversation.
            if (!replied && !cancellationToken.IsCancellationRequested)
                _messages.RemoveAt(_messages.Count - 1);
        }
    }

    /// <summary>Answers the last user message once more.</summary>
    /// <exception cref="BadRequestException">Nothing was said yet.</exception>
    public IAsyncEnumerable<ChatDelta> RetryAsync(SamplingOptions? options = null, CancellationToken cancellationToken = default)
    {
        while (_messages.Count > 0 && _messages[^1].Role == MessageRole.Assistant)
            _messages.RemoveAt(_messages.Count - 1);
        if (_messages.Count == 0)
            throw new BadRequestException("Nothing was said yet.");
        return Reply(options, cancellationToken);
    }

    /// <summary>Replaces the conversation and streams the reply to its last message; what it shares with the one before is not computed again.</summary>
    /// <exception cref="BadRequestException">The template refuses the conversation, an option is out of range, or the context is too short.</exception>
    public IAsyncEnumerable<ChatDelta> ReplyAsync(IReadOnlyList<Message> messages, SamplingOptions? options = null, CancellationToken cancellationToken = default)
    {
        Message[] given = [.. messages];
        _messages.Clear();
        _messages.AddRange(given);
        return Reply(options, cancellationToken);
    }

    /// <summary>Gives the state's memory back.</summary>
    public void Dispose() => _session.Dispose();

    // The text that a conversation of these messages becomes, ready for the model to go on.
    internal string Render(IReadOnlyList<Message> messages) => PromptEncoder.Join(RenderSegments(messages, generationPrompt: true));

    private async IAsyncEnumerable<ChatDelta> Reply(SamplingOptions? options, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        IReadOnlyList<PromptSegment> prompt = RenderSegments(_messages, generationPrompt: true);
        string promptText = PromptEncoder.Join(prompt);
        bool continues = _covered.Length > 0 && promptText.StartsWith(_covered, StringComparison.Ordinal);
        if (!continues)
            _session.Clear();
        int cachedCount = _session.ComputedCount;
        List<int> added = PromptEncoder.Encode(_engine.Tokenizer, continues ? PromptEncoder.After(prompt, _covered.Length) : prompt);
        _covered = "";
        _session.Append([.. added]);
        int promptCount = _session.TokenCount;

        bool thinks = promptText.TrimEnd().EndsWith("<think>", StringComparison.Ordinal);
        var parser = new AssistantOutputParser(Settings.Tools, thinks);
        var reply = new ReplyBuilder(parser, thinks);
        FinishReason finish = FinishReason.Stop;
        await foreach (GeneratedToken token in _session.GenerateAsync(options, Settings.SamplingModeOf(thinks), thinks, cancellationToken).ConfigureAwait(false))
        {
            finish = token.Finish ?? finish;
            yield return reply.Add(token);
        }

        ChatDelta last = reply.End(isCut: finish != FinishReason.Stop);
        _messages.Add(reply.Message());
        Cover(promptText, finish);
        yield return last with { Finish = finish, Usage = new ChatUsage(promptCount, cachedCount, reply.TokenCount, reply.ReasoningTokenCount) };
    }

    // After a whole reply the state stands for the conversation as the template will render it next time, up to the end of
    // the assistant's turn. A cut reply, or one whose end the model did not write, stands for nothing that will come again.
    private void Cover(string promptText, FinishReason finish)
    {
        if (finish != FinishReason.Stop || !_engine.EndIds.Contains(_session.Tokens[^1]))
            return;
        string rendered = PromptEncoder.Join(RenderSegments(_messages, generationPrompt: false));
        string turn = rendered.TrimEnd('\n');
        // The template may have changed earlier turns (dropped their thinking): then the state belongs to another text.
        int shared = promptText.AsSpan().CommonPrefixLength(turn);
        int assistantStart = promptText.LastIndexOf("<|im_start|>", StringComparison.Ordinal);
        if (shared >= assistantStart && assistantStart >= 0 && turn.EndsWith("<|im_end|>", StringComparison.Ordinal))
            _covered = turn;
    }

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
