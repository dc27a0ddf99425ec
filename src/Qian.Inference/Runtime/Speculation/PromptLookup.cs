namespace Qian.Inference.Runtime;

// Drafts from the context itself: where the latest tokens occurred before, what followed them then is guessed to follow now.
// Agents repeat code, and a model in a loop repeats itself. Places are found through chains of equal hashes of three tokens,
// newest first; a token costs one hash and one store, a search at most CandidateLimit comparisons. The longest match wins.
internal sealed class PromptLookup
{
    // Tokens that must match at least, and beyond which a longer match is no better.
    public const int ShortestMatch = 3;
    public const int LongestMatch = 24;

    private const int CandidateLimit = 32;

    private readonly int[] _latest;    // by hash: 1 + the latest place whose three tokens end there
    private readonly int _hashShift;
    private int[] _previous;           // by place: 1 + the place before it with the same hash
    private int _indexedCount;

    // Room for `capacity` tokens; more are taken in too.
    public PromptLookup(int capacity)
    {
        int bits = Math.Clamp(32 - System.Numerics.BitOperations.LeadingZeroCount((uint)capacity), 10, 18);
        _latest = new int[1 << bits];
        _hashShift = 32 - bits;
        _previous = new int[Math.Max(capacity, 16)];
    }

    // Fills `drafts` with the tokens that followed the longest earlier match of the end of `tokens`; 0 when there is none.
    // `tokens` are those of the call before, and more.
    public int Draft(ReadOnlySpan<int> tokens, Span<int> drafts, out int matchLength)
    {
        matchLength = 0;
        int end = tokens.Length - 1;
        Index(tokens, end);
        if (end < ShortestMatch)
            return 0;
        int best = -1;
        int place = _latest[Hash(tokens, end)] - 1;
        for (int i = 0; place >= 0 && i < CandidateLimit && matchLength < LongestMatch; i++)
        {
            int length = CommonEnding(tokens, place, end);
            if (length > matchLength)
            {
                matchLength = length;
                best = place;
            }

            place = _previous[place] - 1;
        }

        if (matchLength < ShortestMatch)
        {
            matchLength = 0;
            return 0;
        }

        // What follows the match may run into the end of the text: then it repeats itself from there on.
        for (int i = 0; i < drafts.Length; i++)
        {
            int source = best + 1 + i;
            drafts[i] = source <= end ? tokens[source] : drafts[source - end - 1];
        }

        return drafts.Length;
    }

    // Places before `end`; the end itself is what is looked for.
    private void Index(ReadOnlySpan<int> tokens, int end)
    {
        if (_previous.Length < end)
            Array.Resize(ref _previous, Math.Max(end, 2 * _previous.Length));
        for (int place = Math.Max(_indexedCount, ShortestMatch - 1); place < end; place++)
        {
            ref int latest = ref _latest[Hash(tokens, place)];
            _previous[place] = latest;
            latest = place + 1;
        }

        _indexedCount = Math.Max(_indexedCount, end);
    }

    private int Hash(ReadOnlySpan<int> tokens, int place)
    {
        unchecked
        {
            uint hash = (uint)tokens[place] * 0x9E3779B1u;
            hash = (hash ^ (uint)tokens[place - 1]) * 0x85EBCA77u;
            hash = (hash ^ (uint)tokens[place - 2]) * 0xC2B2AE3Du;
            return (int)(hash >> _hashShift);
        }
    }

    private static int CommonEnding(ReadOnlySpan<int> tokens, int place, int end)
    {
        int longest = Math.Min(place + 1, LongestMatch), length = 0;
        while (length < longest && tokens[place - length] == tokens[end - length])
            length++;
        return length;
    }
}
