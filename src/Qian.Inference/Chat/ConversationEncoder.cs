using System.Security.Cryptography;
using System.Runtime.InteropServices;
using System.Text;
using Qian.Inference.Text;

namespace Qian.Inference.Chat;

// A conversation to the tokens of its prompt. Replies that this engine gave keep the tokens that they were generated with. To find
// the places of messages in what an arbitrary template makes of them, they are rendered once more with marks (characters that no
// text has) around thinking and answer; where that would give any other text than without marks, nothing is replaced.
internal static class ConversationEncoder
{
    private const char MarkStart = '\uE0F0';
    private const char MarkEnd = '\uE0F1';
    private const string TurnEnd = "<|im_end|>";
    private const string ThinkingEnd = "</think>";

    // `messages` are normalized for the template; `scope`: whose replies may be known.
    public static EncodedPrompt Encode(
        Tokenizer tokenizer, ChatTemplate template, ReplyMemory replies, IReadOnlyList<Message> messages, IReadOnlyList<ToolDefinition>? tools, ChatTemplateOptions options, string scope = "")
    {
        // A template that prints the time must print the same one twice.
        options = options with { Now = options.Now ?? DateTimeOffset.Now };
        var known = new KnownReply[messages.Count][];
        bool anyKnown = false;
        for (int i = 0; i < known.Length; i++)
        {
            known[i] = messages[i].Content.All(part => part.Kind == ContentKind.Text) ? replies.Find(messages[i], scope) : [];
            anyKnown |= known[i].Length > 0;
        }

        messages = [.. messages.Select((message, i) => known[i].Length > 0 ? WithoutThinking(message) : message)];
        IReadOnlyList<PromptSegment> plain = template.RenderSegments(messages, tools, options);
        string text = PromptEncoder.Join(plain);
        if (anyKnown && !text.Contains(MarkStart, StringComparison.Ordinal) && !text.Contains(MarkEnd, StringComparison.Ordinal))
        {
            IReadOnlyList<PromptSegment> marked = template.RenderSegments([.. messages.Select((message, i) => known[i].Length > 0 ? Mark(message, i) : message)], tools, options);
            if (WithoutMarks(PromptEncoder.Join(marked)) == text)
                return new EncodedPrompt(new Splicer(tokenizer, messages, known).Run(marked), text);
        }

        return new EncodedPrompt([.. PromptEncoder.Encode(tokenizer, plain)], text);
    }

    // An answer of ours that quotes the end of thinking says so: templates look for thinking in the text of messages that have no
    // field for it, and would leave out what stands before the quote.
    private static Message WithoutThinking(Message message) =>
        message.ReasoningContent is null && message.Text.Contains(ThinkingEnd, StringComparison.Ordinal) ? message with { ReasoningContent = "" } : message;

    // Thinking is always marked, so that it can be put back where the client left it out; an empty answer is not, since templates
    // treat it differently.
    private static Message Mark(Message message, int index)
    {
        string content = message.Text.Trim();
        return message with
        {
            ReasoningContent = Open('r', index) + (message.ReasoningContent ?? "").Trim() + Close('r', index),
            Content = content.Length == 0 ? message.Content : [ContentPart.FromText(Open('c', index) + content + Close('c', index))],
        };
    }

    private static string Open(char part, int index) => FormattableString.Invariant($"{MarkStart}{part}{index}{MarkEnd}");

    private static string Close(char part, int index) => FormattableString.Invariant($"{MarkStart}/{part}{index}{MarkEnd}");

    private static string WithoutMarks(string text)
    {
        var rest = new StringBuilder(text.Length);
        for (int start = 0; start < text.Length;)
        {
            int mark = text.IndexOf(MarkStart, start);
            int end = mark < 0 ? -1 : text.IndexOf(MarkEnd, mark);
            if (end < 0)
            {
                rest.Append(text, start, text.Length - start);
                break;
            }

            rest.Append(text, start, mark - start);
            start = end + 1;
        }

        return rest.ToString();
    }

    // Goes through marked segments from left to right and puts known tokens in the place of text.
    private sealed class Splicer(Tokenizer tokenizer, IReadOnlyList<Message> messages, KnownReply[][] known)
    {
        private readonly List<int> _ids = [];
        private readonly StringBuilder _ordinary = new();
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private int _hashedCount;
        private int _skipTo = -1;        // message whose text is passed over, -1 outside
        private bool _skipsThinkingOnly;
        private int _openAnswer = -1;    // message whose thinking has ended, and whose answer has not begun

        public int[] Run(IReadOnlyList<PromptSegment> segments)
        {
            using (_hash)
            {
                foreach (PromptSegment segment in segments)
                {
                    ReadOnlySpan<char> text = segment.Text;
                    while (text.Length > 0)
                    {
                        int mark = text.IndexOf(MarkStart);
                        Text(mark < 0 ? text : text[..mark], segment.IsTemplateText);
                        if (mark < 0)
                            break;
                        int end = text.IndexOf(MarkEnd);
                        Pass(text[(mark + 1)..end]);
                        text = text[(end + 1)..];
                    }
                }

                Flush();
            }

            return [.. _ids];
        }

        private void Text(ReadOnlySpan<char> text, bool isTemplateText)
        {
            while (isTemplateText && tokenizer.TryFindAddedToken(text, out int start, out int length, out int id))
            {
                Ordinary(text[..start]);
                ReadOnlySpan<char> name = text.Slice(start, length);
                text = text[(start + length)..];
                if (_skipTo >= 0 && !_skipsThinkingOnly && name.SequenceEqual(TurnEnd))
                {
                    // The turn's end is the reply's own, where it has one.
                    _skipTo = -1;
                    if (_ids[^1] == id)
                        continue;
                }

                if (_skipTo >= 0)
                    continue;
                Flush();
                _ids.Add(id);
            }

            Ordinary(text);
        }

        private void Ordinary(ReadOnlySpan<char> text)
        {
            if (_skipTo >= 0)
                return;
            // An answer without text begins behind the blank lines after the thinking.
            if (_openAnswer >= 0 && text.StartsWith("\n\n") && messages[_openAnswer].Text.AsSpan().Trim().Length == 0)
            {
                _ordinary.Append("\n\n");
                text = text[2..];
                TrySplice(_openAnswer, reply => !reply.Thinks && IsPromptOf(reply));
                _openAnswer = -1;
                if (_skipTo >= 0)
                    return;
            }

            _ordinary.Append(text);
        }

        // A mark: "r3" before the thinking of message 3, "/r3" behind it, "c3" before its answer.
        private void Pass(ReadOnlySpan<char> mark)
        {
            bool isEnd = mark[0] == '/';
            char part = mark[isEnd ? 1 : 0];
            int index = int.Parse(mark[(isEnd ? 2 : 1)..], System.Globalization.CultureInfo.InvariantCulture);
            if (isEnd)
            {
                if (part == 'r' && _skipTo == index && _skipsThinkingOnly)
                    _skipTo = -1;
                if (part == 'r' && _skipTo < 0)
                    _openAnswer = index;
                return;
            }

            if (_skipTo >= 0)
                return;
            string given = (messages[index].ReasoningContent ?? "").Trim();
            if (part == 'r')
                TrySplice(index, reply => reply.Thinks && (given.Length == 0 || given == reply.Reasoning) && IsPromptOf(reply));
            else if (_openAnswer != index || !TrySplice(index, reply => !reply.Thinks && IsPromptOf(reply)))
                TrySplice(index, reply => reply.ContentIndex >= 0, answerOnly: true);
            if (part == 'c')
                _openAnswer = -1;
        }

        private bool TrySplice(int index, Func<KnownReply, bool> fits, bool answerOnly = false)
        {
            foreach (KnownReply reply in known[index])
            {
                if (!fits(reply))
                    continue;
                Flush();
                _ids.AddRange(answerOnly ? reply.Tokens.AsSpan(reply.ContentIndex) : reply.Tokens);
                _skipTo = index;
                _skipsThinkingOnly = !reply.HasAnswer;
                return true;
            }

            return false;
        }

        // Whether the reply was generated after exactly the tokens so far.
        private bool IsPromptOf(KnownReply reply)
        {
            Hash(CollectionsMarshal.AsSpan(_ids)[_hashedCount..]);
            _hashedCount = _ids.Count;
            if (_ordinary.Length == 0)
                return _hash.GetCurrentHash().AsSpan().SequenceEqual(reply.PromptHash);
            var rest = new List<int>(_ids);
            tokenizer.Encode(_ordinary.ToString(), matchAddedTokens: false, rest);
            return ReplyMemory.HashOf(CollectionsMarshal.AsSpan(rest)).AsSpan().SequenceEqual(reply.PromptHash);
        }

        private void Hash(ReadOnlySpan<int> ids) => _hash.AppendData(MemoryMarshal.AsBytes(ids));

        private void Flush()
        {
            tokenizer.Encode(_ordinary.ToString(), matchAddedTokens: false, _ids);
            _ordinary.Clear();
        }
    }
}

// A prompt as the model reads it, and the text that the template made.
internal sealed record EncodedPrompt(int[] Tokens, string Text)
{
    // It ends inside of the thinking.
    public bool Thinks { get; } = Text.AsSpan().TrimEnd().EndsWith("<think>", StringComparison.Ordinal);
}
