namespace Qian.Inference.Runtime;

// How often each token occurs in a growing, or sliding, history: the distinct tokens side by side, so that a penalty costs the
// distinct tokens and not the vocabulary, and a slot per id to find them. Memory is reserved for the worst case at creation.

internal sealed class TokenCounts
{
    private readonly int[] _slots;
    private readonly Entry[] _entries;
    private readonly int[]? _window;
    private int _distinctCount;
    private long _length;

    /// <param name="vocabularySize">Ids are below this.</param>
    /// <param name="window">Tokens that count, the latest ones; 0 for all.</param>
    public TokenCounts(int vocabularySize, int window = 0)
    {
        _slots = new int[vocabularySize];
        _entries = new Entry[window == 0 ? vocabularySize : Math.Min(vocabularySize, window)];
        _window = window == 0 ? null : new int[window];
    }

    /// <summary>The distinct tokens and their counts, in no order that means anything.</summary>
    public ReadOnlySpan<Entry> Entries => _entries.AsSpan(0, _distinctCount);

    public void Add(int token)
    {
        if (_window is not null)
        {
            ref int oldest = ref _window[_length % _window.Length];
            if (_length >= _window.Length)
                Remove(oldest);
            oldest = token;
        }

        _length++;
        ref int slot = ref _slots[token];
        if (slot == 0)
        {
            _entries[_distinctCount] = new Entry(token, 0);
            slot = ++_distinctCount;
        }

        ref Entry entry = ref _entries[slot - 1];
        entry = new Entry(token, entry.Count + 1);
    }

    private void Remove(int token)
    {
        int index = _slots[token] - 1;
        Entry entry = _entries[index];
        if (entry.Count > 1)
        {
            _entries[index] = new Entry(token, entry.Count - 1);
            return;
        }

        Entry last = _entries[--_distinctCount];
        _entries[index] = last;
        _slots[last.Token] = index + 1;
        _slots[token] = 0;
    }

    /// <summary>A token and how often it occurs.</summary>
    internal readonly record struct Entry(int Token, int Count);
}
