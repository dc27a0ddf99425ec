namespace Qian.Inference.Runtime;

// DRY: for every earlier place where the history ends as it ends now, the token that followed there loses
// multiplier * base^(length - allowed), length being that of the common ending. The lengths are kept up as tokens arrive:
// the ending shared with place i grows by one when token i equals the new token, and is 1 where it did not match before. A chain per id
// leads to the places of a token, so a token costs its own earlier occurrences in range and no more.
// An ending never reaches over a breaker, nor past the range; a breaker is never penalised.

internal sealed class DryPenalty
{
    // The penalty of a loop of any length stays finite, so that a few banned tokens cannot turn into NaN.
    private const double MostPenalty = 1e30;

    private readonly DryOptions _options;
    private readonly int[] _history;
    private readonly int[] _previous;     // by place mod range: place of the same token before, or -1
    private readonly int[] _matchLength;  // by place mod range: ending shared with the whole history; valid where the token is the latest one
    private readonly int[] _latest;       // by id: its latest place, or -1
    private readonly int[] _longest;      // by id: longest ending it would continue; all 0 between calls
    private readonly int[] _touched;
    private readonly ulong[] _breakers;
    private int _length;

    /// <param name="options">Strength, base, lengths.</param>
    /// <param name="vocabularySize">Ids are below this.</param>
    /// <param name="capacity">Tokens that the history can ever hold: the range when the options set none.</param>
    /// <param name="breakers">Ids over which nothing matches.</param>
    public DryPenalty(DryOptions options, int vocabularySize, int capacity, ReadOnlySpan<int> breakers)
    {
        _options = options;
        int range = options.Range == 0 ? capacity : Math.Min(options.Range, capacity);
        _history = new int[range];
        _previous = new int[range];
        _matchLength = new int[range];
        _latest = new int[vocabularySize];
        Array.Fill(_latest, -1);
        _longest = new int[vocabularySize];
        _touched = new int[Math.Min(vocabularySize, range)];
        _breakers = new ulong[(vocabularySize + 63) / 64];
        foreach (int id in breakers)
            _breakers[id >> 6] |= 1UL << (id & 63);
    }

    public void Add(int token)
    {
        int range = _history.Length;
        bool afterBreaker = _length == 0 || IsBreaker(_history[(_length - 1) % range]);
        int before = _length == 0 ? -1 : _history[(_length - 1) % range];

        // From the latest place down, so that the length at place - 1 is still that of the step before. That one is valid: its
        // token is `before`, and the step before went through all places of `before` except its own, which lies above.
        if (!IsBreaker(token))
        {
            for (int place = _latest[token]; InRange(place, _length); place = _previous[place % range])
            {
                bool longer = !afterBreaker && InRange(place - 1, _length) && _history[(place - 1) % range] == before;
                _matchLength[place % range] = longer ? _matchLength[(place - 1) % range] + 1 : 1;
            }
        }

        _history[_length % range] = token;
        _previous[_length % range] = _latest[token];
        _latest[token] = _length;
        _length++;
    }

    public void Apply(Span<float> logits)
    {
        if (_length == 0)
            return;
        int range = _history.Length;
        int last = _history[(_length - 1) % range];
        if (IsBreaker(last))
            return;
        int start = Math.Max(0, _length - range);
        int touchedCount = 0;
        for (int place = _previous[(_length - 1) % range]; InRange(place, _length); place = _previous[place % range])
        {
            int next = _history[(place + 1) % range];
            int length = Math.Min(_matchLength[place % range], place - start + 1);
            if (length < _options.AllowedLength || IsBreaker(next))
                continue;
            if (_longest[next] == 0)
                _touched[touchedCount++] = next;
            _longest[next] = Math.Max(_longest[next], length);
        }

        for (int i = 0; i < touchedCount; i++)
        {
            int token = _touched[i];
            double penalty = _options.Multiplier * Math.Pow(_options.Base, _longest[token] - _options.AllowedLength);
            logits[token] -= (float)Math.Min(penalty, MostPenalty);
            _longest[token] = 0;
        }
    }

    // The history holds places length - range .. length - 1.
    private bool InRange(int place, int length) => place >= 0 && place >= length - _history.Length;

    private bool IsBreaker(int token) => (_breakers[token >> 6] >> (token & 63) & 1) != 0;
}
