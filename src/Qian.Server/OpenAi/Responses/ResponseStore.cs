using Qian.Inference.Chat;

namespace Qian.Server.OpenAi.Responses;

// Responses that later requests may refer to, in memory: the latest ones, bounded in number and in bytes, and each only for
// the key that made it. They hold text, not model state.
internal sealed class ResponseStore(int mostResponses, long mostBytes)
{
    private readonly Lock _lock = new();
    private readonly Dictionary<string, LinkedListNode<StoredResponse>> _byId = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (string Owner, ResponseItem Item)> _items = new(StringComparer.Ordinal);
    private readonly LinkedList<StoredResponse> _byAge = new();
    private long _bytes;

    public int Count
    {
        get
        {
            lock (_lock)
                return _byId.Count;
        }
    }

    // A response too large to be kept is not, and pushes out no other.
    public void Add(StoredResponse response)
    {
        if (response.Bytes > mostBytes)
            return;
        lock (_lock)
        {
            _byId[response.Id] = _byAge.AddLast(response);
            _bytes += response.Bytes;
            foreach (ResponseItem item in response.Items)
                _items[item.Id] = (response.Owner, item);
            while (_bytes > mostBytes || _byId.Count > mostResponses)
                Remove(_byAge.First!);
        }
    }

    // Null for a stranger's response too: nobody learns that it exists.
    public StoredResponse? Find(string owner, string id)
    {
        lock (_lock)
            return _byId.TryGetValue(id, out LinkedListNode<StoredResponse>? node) && node.Value.Owner == owner ? node.Value : null;
    }

    public ResponseItem? FindItem(string owner, string id)
    {
        lock (_lock)
            return _items.TryGetValue(id, out (string Owner, ResponseItem Item) found) && found.Owner == owner ? found.Item : null;
    }

    public bool Remove(string owner, string id)
    {
        lock (_lock)
        {
            if (!_byId.TryGetValue(id, out LinkedListNode<StoredResponse>? node) || node.Value.Owner != owner)
                return false;
            Remove(node);
            return true;
        }
    }

    private void Remove(LinkedListNode<StoredResponse> node)
    {
        _byAge.Remove(node);
        _byId.Remove(node.Value.Id);
        _bytes -= node.Value.Bytes;
        foreach (ResponseItem item in node.Value.Items)
            _items.Remove(item.Id);
    }
}

// History is the whole conversation up to and with this response, without instructions; Json is the response as it was sent.
internal sealed record StoredResponse(string Owner, string Id, IReadOnlyList<Message> History, IReadOnlyList<ResponseItem> Items, byte[] Json)
{
    private const int MessageBytes = 200;

    // Texts that several responses of a conversation share are counted for each: more than is taken, never less.
    public long Bytes { get; } = Json.Length + History.Sum(BytesOf) + Items.Sum(item => MessageBytes + (2L * item.Text.Length));

    private static long BytesOf(Message message) =>
        MessageBytes + (2L * ((message.ReasoningContent?.Length ?? 0) + message.Content.Sum(part => (long)part.Text.Length) + message.ToolCalls.Sum(call => MessageBytes + (long)call.Arguments.GetRawText().Length)));
}
