namespace Qian.Kernels;

/// <summary>Work of one key/value head (backward) or query head (forward) of one sample that a thread does by itself.</summary>
internal struct CausalUnit
{
    public int FirstRow, EndRow;

    /// <summary>The tile in the sample; unused where the unit is a whole sample.</summary>
    public int TileIndex;

    public CausalPart Part;
}

/// <summary>What a unit of the backward computes.</summary>
internal enum CausalPart
{
    /// <summary>Every gradient of the sample: five products per pair of tiles.</summary>
    All,

    /// <summary>dk and dv of one tile of keys.</summary>
    Keys,

    /// <summary>dq of one tile of queries.</summary>
    Queries,
}

// How a call is cut into units. Forward: a tile of queries. Backward: a whole sample, or, where that is more than a thread's fair
// share of the call, its tiles of keys and its tiles of queries apart, which computes scores twice (seven products instead of
// five) but lets threads share the sample. The cut never shows in the bits: either way an output tile gets the same products
// in the same order. Long samples come first, and in them the tiles with most to do, so that threads end together.
public static unsafe partial class CausalAttention
{
    /// <summary>Rows of a tile: of queries as of keys.</summary>
    internal const int TileRows = 64;

    internal const int UnitsPerRow = 2;

    private static int TileCount(int rowCount) => (rowCount + TileRows - 1) / TileRows;

    private static int ForwardUnits(ReadOnlySpan<int> borders, CausalAttentionScratch scratch)
    {
        ReadOnlySpan<ulong> order = LongestFirst(borders, scratch);
        int count = 0;
        foreach (ulong key in order)
        {
            CausalUnit unit = Sample(borders, key);
            for (unit.TileIndex = TileCount(unit.EndRow - unit.FirstRow) - 1; unit.TileIndex >= 0; unit.TileIndex--)
                scratch.Units[count++] = unit;
        }

        return count;
    }

    private static int BackwardUnits(ReadOnlySpan<int> borders, CausalAttentionScratch scratch, int threadCount)
    {
        ReadOnlySpan<ulong> order = LongestFirst(borders, scratch);
        double total = 0;
        foreach (ulong key in order)
            total += PairCount(Sample(borders, key));
        double share = total * scratch.Shape.KvHeads / threadCount;

        int count = 0;
        foreach (ulong key in order)
        {
            CausalUnit unit = Sample(borders, key);
            int tileCount = TileCount(unit.EndRow - unit.FirstRow);
            if (PairCount(unit) <= share || tileCount == 1)
            {
                scratch.Units[count++] = unit;
                continue;
            }

            for (int i = 0; i < tileCount; i++)
            {
                scratch.Units[count++] = unit with { Part = CausalPart.Keys, TileIndex = i };
                scratch.Units[count++] = unit with { Part = CausalPart.Queries, TileIndex = tileCount - 1 - i };
            }
        }

        return count;
    }

    private static double PairCount(in CausalUnit sample)
    {
        double rowCount = sample.EndRow - sample.FirstRow;
        return rowCount * (rowCount + 1);
    }

    private static CausalUnit Sample(ReadOnlySpan<int> borders, ulong key)
    {
        int sample = (int)(uint)key;
        return new CausalUnit { FirstRow = borders[sample], EndRow = borders[sample + 1] };
    }

    // Sort keys: the length, turned round so that ascending is longest first, above the sample's index.
    private static ReadOnlySpan<ulong> LongestFirst(ReadOnlySpan<int> borders, CausalAttentionScratch scratch)
    {
        int count = 0;
        for (int sample = 0; sample + 1 < borders.Length; sample++)
        {
            int rowCount = borders[sample + 1] - borders[sample];
            if (rowCount > 0)
                scratch.Order[count++] = (ulong)(int.MaxValue - rowCount) << 32 | (uint)sample;
        }

        var order = new Span<ulong>(scratch.Order, count);
        order.Sort();
        return order;
    }
}
