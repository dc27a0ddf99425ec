using Qian.Inference.Runtime;

namespace Qian.Training;

// Finds files that nearly repeat an earlier one. A file is the set of its lines, without white space at their ends and without lines of
// fewer than four characters; two files are near duplicates when they share at least 85 % of the lines that either has (Jaccard). Candidates are the
// earlier files with which one of eight min-hashes agrees: a pair at the threshold is missed with a chance of 0.15^8. Files of fewer than
// eight such lines are never near duplicates: they say too little to tell.
internal sealed class NearDuplicates
{
    private const double Threshold = 0.85;
    private const int FewestLines = 8;
    private const int ShortestLine = 4;
    private const int MinHashCount = 8;

    // A hash that many files share (a licence, a table of imports) tells nothing; it must not make the search quadratic.
    private const int MostCandidates = 16;

    private readonly List<ulong[]> _kept = [];
    private readonly Dictionary<(int Index, ulong MinHash), List<int>> _filesOf = [];

    // Whether an earlier file is nearly the same; if not, this one joins them.
    public bool IsNearDuplicate(ReadOnlySpan<byte> text)
    {
        ulong[] lines = LineHashes(text);
        if (lines.Length < FewestLines)
            return false;
        Span<ulong> minHashes = stackalloc ulong[MinHashCount];
        for (int i = 0; i < MinHashCount; i++)
        {
            minHashes[i] = ulong.MaxValue;
            foreach (ulong line in lines)
                minHashes[i] = Math.Min(minHashes[i], CounterRandom.Bits(line, i));
            if (_filesOf.TryGetValue((i, minHashes[i]), out List<int>? candidates) && candidates.Exists(file => Jaccard(_kept[file], lines) >= Threshold))
                return true;
        }

        for (int i = 0; i < MinHashCount; i++)
        {
            if (!_filesOf.TryGetValue((i, minHashes[i]), out List<int>? files))
                _filesOf.Add((i, minHashes[i]), files = []);
            if (files.Count < MostCandidates)
                files.Add(_kept.Count);
        }

        _kept.Add(lines);
        return false;
    }

    // Sorted, each once.
    private static ulong[] LineHashes(ReadOnlySpan<byte> text)
    {
        var hashes = new SortedSet<ulong>();
        foreach (Range range in text.Split((byte)'\n'))
        {
            ReadOnlySpan<byte> line = text[range].Trim(" \t\r"u8);
            if (line.Length >= ShortestLine)
                hashes.Add(Hash(line));
        }

        return [.. hashes];
    }

    // FNV-1a, mixed at its first use.
    private static ulong Hash(ReadOnlySpan<byte> bytes)
    {
        ulong hash = 0xCBF29CE484222325;
        foreach (byte value in bytes)
            hash = unchecked((hash ^ value) * 0x100000001B3);
        return hash;
    }

    private static double Jaccard(ulong[] a, ulong[] b)
    {
        int shared = 0;
        for (int i = 0, j = 0; i < a.Length && j < b.Length;)
        {
            shared += a[i] == b[j] ? 1 : 0;
            (i, j) = a[i] == b[j] ? (i + 1, j + 1) : a[i] < b[j] ? (i + 1, j) : (i, j + 1);
        }

        return (double)shared / (a.Length + b.Length - shared);
    }
}
