using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Qian.Inference.Text;

namespace Qian.Inference.Chat;

// The tokens of replies that the model gave, found again by what clients send back of them: their text without white space at the
// ends, their tool calls as JSON whatever its spelling. So the history of a conversation is what the model wrote, not what a
// tokenizer makes of an echo, and its state can be continued. What a client does not send back (thinking) is only added where the
// very prompt comes again that the reply answered: a reply must not carry another conversation's thoughts.
internal sealed class ReplyMemory
{
    private const int MaxReplies = 8192;
    private const int MaxTokens = 16 << 20;

    private readonly Lock _lock = new();
    private readonly Dictionary<string, List<KnownReply>> _byKey = [];
    private readonly Queue<KnownReply> _oldest = new();
    private long _tokenCount;

    // Replies in the order in which they came.
    public KnownReply[] All
    {
        get
        {
            lock (_lock)
                return [.. _oldest];
        }
    }

    public void Add(KnownReply reply)
    {
        lock (_lock)
        {
            if (!_byKey.TryGetValue(reply.Key, out List<KnownReply>? same))
                _byKey.Add(reply.Key, same = []);
            if (same.Exists(known => known.PromptHash.AsSpan().SequenceEqual(reply.PromptHash) && known.Tokens.AsSpan().SequenceEqual(reply.Tokens)))
                return;
            same.Add(reply);
            _oldest.Enqueue(reply);
            _tokenCount += reply.Tokens.Length;
            while (_oldest.Count > MaxReplies || _tokenCount > MaxTokens)
                Remove(_oldest.Dequeue());
        }
    }

    // Replies that this message may be, latest first. `scope`: replies to others are none of it.
    public KnownReply[] Find(Message message, string scope = "")
    {
        if (message.Role != MessageRole.Assistant)
            return [];
        string key = KeyOf(message, scope);
        lock (_lock)
            return _byKey.TryGetValue(key, out List<KnownReply>? same) ? [.. Enumerable.Reverse(same)] : [];
    }

    // A message's identity: what stays the same of it on its way through clients.
    public static string KeyOf(Message message, string scope = "")
    {
        var text = new StringBuilder(message.Text.ReplaceLineEndings("\n").Trim());
        foreach (ToolCall call in message.ToolCalls)
        {
            text.Append('\u0001').Append(call.Name).Append('\u0002');
            WriteCanonical(text, ToolArguments.ToObject(call.Arguments), depth: 0);
        }

        if (scope.Length > 0)
            text.Append('\u0003').Append(scope);
        return Convert.ToHexString(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }

    // Takes in a reply of `message` that was generated after `prompt`. `isThinking`: it broke off inside of the thinking.
    public void Add(Tokenizer tokenizer, ReadOnlySpan<int> prompt, ReadOnlySpan<int> reply, Message message, bool thinks, bool isThinking, IReadOnlyCollection<int> endIds, string scope = "")
    {
        // A turn that ended in another way than templates write it has no end yet.
        if (reply.Length > 0 && endIds.Contains(reply[^1]) && !(tokenizer.TryGetId("<|im_end|>", out int turnEnd) && reply[^1] == turnEnd))
            reply = reply[..^1];
        if (reply.Length == 0)
            return;
        int content = thinks ? -1 : 0;
        if (thinks && tokenizer.TryGetId("</think>", out int close) && reply.IndexOf(close) is >= 0 and int closed)
        {
            content = closed + 1;
            while (content < reply.Length && string.IsNullOrWhiteSpace(tokenizer.Decode([reply[content]])))
                content++;
            if (content == reply.Length || char.IsWhiteSpace(tokenizer.Decode([reply[content]])[0]))
                content = -1;
        }

        Add(new KnownReply(KeyOf(message, scope), HashOf(prompt), reply.ToArray(), content, thinks, (message.ReasoningContent ?? "").Trim()) { HasAnswer = !isThinking });
    }

    public static byte[] HashOf(ReadOnlySpan<int> tokens) => SHA256.HashData(MemoryMarshal.AsBytes(tokens));

    private void Remove(KnownReply reply)
    {
        _tokenCount -= reply.Tokens.Length;
        List<KnownReply> same = _byKey[reply.Key];
        same.Remove(reply);
        if (same.Count == 0)
            _byKey.Remove(reply.Key);
    }

    // Members by name, numbers by value, strings without their escapes.
    private static void WriteCanonical(StringBuilder text, JsonElement json, int depth)
    {
        switch (json.ValueKind)
        {
            case JsonValueKind.Object when depth < 64:
                text.Append('{');
                foreach (JsonProperty member in json.EnumerateObject().OrderBy(member => member.Name, StringComparer.Ordinal))
                {
                    text.Append(member.Name.Length).Append(':').Append(member.Name).Append('=');
                    WriteCanonical(text, member.Value, depth + 1);
                }

                text.Append('}');
                break;
            case JsonValueKind.Array when depth < 64:
                text.Append('[');
                foreach (JsonElement item in json.EnumerateArray())
                    WriteCanonical(text, item, depth + 1);
                text.Append(']');
                break;
            case JsonValueKind.String:
                string value = MessageJson.String(json);
                text.Append('"').Append(value.Length).Append(':').Append(value);
                break;
            case JsonValueKind.Number when json.TryGetDouble(out double number):
                text.Append(number.ToString("R", CultureInfo.InvariantCulture)).Append(',');
                break;
            default:
                text.Append(json.GetRawText()).Append(',');
                break;
        }
    }
}

// A reply as it was generated. PromptHash: of the tokens that it answered. ContentIndex: the token that the visible part begins
// with, -1 where it begins inside of one or not at all. Reasoning: trimmed, "" where there was none.
internal sealed record KnownReply(string Key, byte[] PromptHash, int[] Tokens, int ContentIndex, bool Thinks, string Reasoning)
{
    // Whether the thinking was closed, or never opened.
    public bool HasAnswer { get; init; } = true;
}
