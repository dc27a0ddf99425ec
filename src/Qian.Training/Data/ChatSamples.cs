using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Text;

namespace Qian.Training;

// Which tokens of a conversation the loss counts.
internal enum LossTokens
{
    // What the model itself would produce: the assistant's turns.
    Assistant,

    // Every token.
    All,
}

// Turns conversations into samples through the checkpoint's own chat template. The text is the final rendering, as a server would hold it
// at the end of the conversation: reasoning of turns before the last question is gone unless preserve_thinking says otherwise.
// An assistant turn runs from <|im_start|>assistant to its <|im_end|>; both are control tokens, which only the template can write, so the
// scan cannot be fooled by what the text spells. Of the turn, what the server would have put there (the generation prompt with its
// <think>, or the whole empty think block when thinking is off) is prompt, and the rest, <|im_end|> included, is taught.
internal sealed class ChatSamples
{
    private static readonly Message[] s_probe = [new Message(MessageRole.User, "probe")];

    private readonly Tokenizer _tokenizer;
    private readonly ChatTemplate _template;
    private readonly ChatTemplateSummary _summary;
    private readonly int _startId;
    private readonly int _endId;

    // What stands between <|im_start|> and the first token of the model's own, longest first.
    private readonly int[][] _openings;

    public ChatSamples(Tokenizer tokenizer, ChatTemplate template)
    {
        _tokenizer = tokenizer;
        _template = template;
        _summary = template.Summary;
        _startId = RequireId(tokenizer, "<|im_start|>");
        _endId = RequireId(tokenizer, "<|im_end|>");
        int[] header = tokenizer.Encode("assistant\n");
        int[][] openings = [Opening(true, header), Opening(false, header), header];
        _openings = [.. openings.OrderByDescending(opening => opening.Length)];
    }

    // Null when the conversation teaches nothing. Throws BadRequestException where the template refuses it.
    public Sample? ToSample(Conversation conversation, LossTokens loss, string source)
    {
        List<int> tokens = PromptEncoder.Encode(_tokenizer, _template.RenderSegments(Prepare(conversation), conversation.Tools, Options(conversation, prompt: false)));
        var isTarget = new bool[tokens.Count];
        if (loss == LossTokens.All)
            Array.Fill(isTarget, true);
        else
            MarkTurns(tokens, conversation.TurnIsTaught, isTarget);
        return Sample.FromTokens([.. tokens], isTarget, source);
    }

    public static int RequireId(Tokenizer tokenizer, string token) => tokenizer.TryGetId(token, out int id)
        ? id
        : throw new BadRequestException($"The model's tokenizer has no token {token}, which this data needs; expected it among the added tokens.");

    private static ChatTemplateOptions Options(Conversation conversation, bool prompt) => new()
    {
        AddGenerationPrompt = prompt,
        EnableThinking = conversation.EnableThinking,
        PreserveThinking = conversation.PreserveThinking,
        ExtraVariables = conversation.TemplateVariables,
        // A date in the prompt must not depend on the day of training.
        Now = DateTimeOffset.UnixEpoch,
    };

    private IReadOnlyList<Message> Prepare(Conversation conversation)
    {
        IReadOnlyList<Message> messages = MessageNormalizer.Normalize(conversation.Messages, _summary);
        if (messages.Any(message => message.Content.Any(part => part.Kind != ContentKind.Text)))
            throw new BadRequestException("expected text, found an image or a video in a message; training knows text only");
        if (conversation.EnableThinking != false)
            return messages;
        // Without thinking the template's empty block stands where the reasoning was: the prompt of a server with thinking off.
        return [.. messages.Select(message => message is { Role: MessageRole.Assistant, ReasoningContent: not null } ? message with { ReasoningContent = string.Empty } : message)];
    }

    private void MarkTurns(List<int> tokens, IReadOnlyList<bool> turnIsTaught, bool[] isTarget)
    {
        int turn = 0;
        for (int i = 0; i < tokens.Count; i++)
        {
            if (tokens[i] != _startId || FindOpening(tokens, i + 1) is not int length)
                continue;
            int start = i + 1 + length;
            int end = tokens.IndexOf(_endId, start);
            if (end < 0)
                throw new BadRequestException("expected <|im_end|> after an assistant's turn, found none in what the template wrote");
            if (turn >= turnIsTaught.Count)
                throw new BadRequestException($"expected {turnIsTaught.Count} assistant turns in what the template wrote, found more");
            if (turnIsTaught[turn++])
                isTarget.AsSpan(start..(end + 1)).Fill(true);
            i = end;
        }

        if (turn != turnIsTaught.Count)
            throw new BadRequestException($"expected {turnIsTaught.Count} assistant turns in what the template wrote, found {turn}");
    }

    private int? FindOpening(List<int> tokens, int start)
    {
        foreach (int[] opening in _openings)
        {
            if (start + opening.Length <= tokens.Count && System.Runtime.InteropServices.CollectionsMarshal.AsSpan(tokens).Slice(start, opening.Length).SequenceEqual(opening))
                return opening.Length;
        }

        return null;
    }

    // The tokens that a server puts after <|im_start|> to make the model speak.
    private int[] Opening(bool thinking, int[] header)
    {
        var conversation = new Conversation(s_probe, null, []) { EnableThinking = thinking };
        List<int> bare = PromptEncoder.Encode(_tokenizer, _template.RenderSegments(s_probe, null, Options(conversation, prompt: false)));
        List<int> prompted = PromptEncoder.Encode(_tokenizer, _template.RenderSegments(s_probe, null, Options(conversation, prompt: true)));
        int[] added = [.. prompted.Skip(bare.Count)];
        return prompted.Take(bare.Count).SequenceEqual(bare) && added.Length > 0 && added[0] == _startId && added.AsSpan(1).StartsWith(header)
            ? added[1..]
            : throw new BadModelFileException("The chat template's generation prompt does not begin with <|im_start|>assistant and a line break; expected a template of the Qwen family.");
    }
}
