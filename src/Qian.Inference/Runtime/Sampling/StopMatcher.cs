using System.Text;

namespace Qian.Inference.Runtime;

// Finds stop strings in text that arrives in pieces, and lets through only text that can no longer become part of one. Each stop
// string runs its own Knuth-Morris-Pratt automaton over the stream; the longest prefix that any of them is in is what is held back.
// The stop that ends first wins, the longest of those that end together, so the answer does not depend on how the text was cut.

internal sealed class StopMatcher
{
    private readonly string[] _stops;
    private readonly int[][] _fallback;
    private readonly int[] _matched;
    private readonly char[] _held;
    private int _heldCount;

    /// <param name="stops">Not empty strings; none at all lets everything through.</param>
    public StopMatcher(IReadOnlyList<string> stops)
    {
        _stops = [.. stops];
        _matched = new int[_stops.Length];
        _fallback = new int[_stops.Length][];
        int longest = 1;
        for (int i = 0; i < _stops.Length; i++)
        {
            ArgumentException.ThrowIfNullOrEmpty(_stops[i]);
            _fallback[i] = Fallback(_stops[i]);
            longest = Math.Max(longest, _stops[i].Length);
        }

        _held = new char[longest - 1];
    }

    /// <summary>The stop string found, or null.</summary>
    public string? Match { get; private set; }

    /// <summary>Takes in text; appends to <paramref name="shown"/> what is safe to show. Returns true when a stop string is complete: the text ends before it.</summary>
    public bool Feed(ReadOnlySpan<char> text, StringBuilder shown)
    {
        if (Match is not null)
            return true;
        for (int i = 0; i < text.Length; i++)
        {
            if (Advance(text[i]) is { } match)
            {
                Match = match;
                Show(text[..(i + 1)], match.Length, shown);
                _heldCount = 0;
                return true;
            }
        }

        int hold = 0;
        foreach (int matched in _matched)
            hold = Math.Max(hold, matched);
        Show(text, hold, shown);
        return false;
    }

    /// <summary>At the end of generation: what was held back is text after all.</summary>
    public void Flush(StringBuilder shown)
    {
        shown.Append(_held, 0, _heldCount);
        _heldCount = 0;
        Array.Clear(_matched);
    }

    // Shows all of held + text but the last `keep` characters, and holds those.
    private void Show(ReadOnlySpan<char> text, int keep, StringBuilder shown)
    {
        int show = _heldCount + text.Length - keep;
        int fromHeld = Math.Min(show, _heldCount), fromText = show - fromHeld;
        shown.Append(_held, 0, fromHeld).Append(text[..fromText]);
        if (Match is not null)
            return;
        _held.AsSpan(fromHeld, _heldCount - fromHeld).CopyTo(_held);
        _heldCount -= fromHeld;
        text[fromText..].CopyTo(_held.AsSpan(_heldCount));
        _heldCount = keep;
    }

    private string? Advance(char c)
    {
        string? match = null;
        for (int i = 0; i < _stops.Length; i++)
        {
            string stop = _stops[i];
            int matched = _matched[i];
            while (matched > 0 && stop[matched] != c)
                matched = _fallback[i][matched - 1];
            if (stop[matched] == c)
                matched++;
            _matched[i] = matched;
            if (matched == stop.Length && (match is null || stop.Length > match.Length))
                match = stop;
        }

        return match;
    }

    // [i]: length of the longest proper prefix of stop[..(i + 1)] that is also its suffix.
    private static int[] Fallback(string stop)
    {
        var result = new int[stop.Length];
        for (int i = 1, matched = 0; i < stop.Length; i++)
        {
            while (matched > 0 && stop[i] != stop[matched])
                matched = result[matched - 1];
            if (stop[i] == stop[matched])
                matched++;
            result[i] = matched;
        }

        return result;
    }
}
