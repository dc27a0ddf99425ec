namespace Qian.Inference.Runtime;

// Where in a prompt states are kept. Always: after the first message (what conversations share) and before the last one's
// beginning, where the reply starts (what a retry, a fork, or a template that drops thinking goes on from). Between them at
// message borders, and inside long messages, no closer than an interval: a state costs as much memory as so many tokens, and
// those of one prompt may take half of the store.
internal sealed class KeepPlan
{
    private const int ShortestInterval = 256;
    private const int ReplyStart = 64;   // a message that begins so close before the prompt's end is the reply's own

    private readonly int _messageStartId;
    private readonly long _stateBytes;
    private readonly long _tokenBytes;
    private readonly long _budgetBytes;

    // `messageStartId`: the token that begins a message, -1 when there is none.
    public KeepPlan(int messageStartId, long stateBytes, long tokenBytes, long budgetBytes)
    {
        _messageStartId = messageStartId;
        _stateBytes = stateBytes;
        _tokenBytes = Math.Max(1, tokenBytes);
        _budgetBytes = budgetBytes;
    }

    // Places of `tokens` behind `first`, rising: states after so many tokens. Those inside of messages are minor.
    public List<KeepPlace> Places(ReadOnlySpan<int> tokens, int first)
    {
        var places = new List<KeepPlace>();
        if (_budgetBytes < _stateBytes)
            return places;
        int interval = Interval(tokens.Length);
        int lastStart = tokens.LastIndexOf(_messageStartId);
        bool endsInReply = lastStart > 0 && tokens.Length - lastStart <= ReplyStart;
        int end = endsInReply ? lastStart : tokens.Length;
        int latest = first;
        bool isFirst = true;
        for (int index = NextStart(tokens, 0); ; index = NextStart(tokens, index))
        {
            bool isLast = index >= end;
            int place = Math.Min(index, end);
            for (; place - latest > 2 * interval; latest += interval)
                places.Add(new KeepPlace(latest + interval, IsMinor: true));
            if (place > latest && (isFirst || isLast || place - latest >= interval))
            {
                places.Add(new KeepPlace(place, IsMinor: false));
                latest = place;
            }

            if (isLast)
                return places;
            isFirst = false;
        }
    }

    private int Interval(int tokenCount)
    {
        double interval = Math.Max(_stateBytes / (double)_tokenBytes, 2.0 * _stateBytes * tokenCount / _budgetBytes);
        return (int)Math.Clamp(interval, ShortestInterval, 1 << 24);
    }

    // Where the next message begins after `index`, the end when none does.
    private int NextStart(ReadOnlySpan<int> tokens, int index)
    {
        if (index + 1 >= tokens.Length)
            return tokens.Length;
        int offset = tokens[(index + 1)..].IndexOf(_messageStartId);
        return offset < 0 ? tokens.Length : index + 1 + offset;
    }
}

internal readonly record struct KeepPlace(int TokenCount, bool IsMinor);
