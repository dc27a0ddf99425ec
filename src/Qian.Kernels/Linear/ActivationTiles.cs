namespace Qian.Kernels;

/// <summary>
/// Activations rounded to 8 bits, in the order in which the integer kernels read them. A tile holds up to <see cref="Width"/>
/// rows of x (the columns of the product); all tiles' parts of a block of K lie together, because that is how the kernels walk. For each group of
/// 32 values a tile stores, [w] meaning one entry per tile row:
///   float scale[w], float sum[w] (scale times the sum of the 32 integers), float first[w], second[w] (the same of either 16),
///   int firstBias[w], secondBias[w] (-32 times the sum of either 16 integers: what weights stored 32 too high add too much),
///   then 8 steps of dword[w], each dword 4 neighbouring integers.
/// A row's entries depend on that row alone, so the number of rows in a call never shows in a result.
/// </summary>
internal readonly unsafe struct ActivationTiles
{
    // The entries of a group, in units of w dwords.
    public const int Scale = 0, Sum = 1, FirstSum = 2, FirstBias = 4, FirstStep = 6;
    public const int GroupDwords = FirstStep + 8;

    // See FirstBias.
    public const int Bias = 32;

    private readonly byte* _data;
    private readonly int _paddedRows;

    public readonly int RowCount;
    public readonly int GroupCount;

    // Rows of a full tile: as many as the tier's registers take. The last tile is the next power of two that fits the rest.
    public readonly int Width;

    public ActivationTiles(byte* data, Isa isa, int rowCount, int columnCount)
    {
        _data = data;
        RowCount = rowCount;
        GroupCount = columnCount / PanelLayout.GroupColumns;
        Width = isa switch
        {
            Isa.Avx512 => 8,
            Isa.Avx2 or Isa.AvxVnni or Isa.Arm64 => 4,
            _ => 1,
        };
        _paddedRows = (TileCount - 1) * Width + WidthOf(TileCount - 1);
    }

    public int TileCount => (RowCount + Width - 1) / Width;

    public static long Bytes(int rowCount, int columnCount)
    {
        long groupCount = (columnCount + PanelLayout.GroupColumns - 1) / PanelLayout.GroupColumns;
        long rows = (rowCount + 7) & -8;
        return rows * groupCount * GroupDwords * sizeof(float);
    }

    public int RowsIn(int tile) => Math.Min(Width, RowCount - tile * Width);

    public int WidthOf(int tile)
    {
        int rest = RowsIn(tile);
        return rest > 4 ? 8 : rest > 2 ? 4 : rest;
    }

    // Where a group of a tile begins. The tile's next groups follow, to the end of the block.
    public float* Group(int tile, int group)
    {
        int inBlock = group % PanelLayout.BlockGroups;
        return (float*)(_data + (group - inBlock) * RowBytes * _paddedRows + tile * TileBytes(group)) + inBlock * GroupDwords * WidthOf(tile);
    }

    // From a full tile to the next, in the block of the group.
    public long TileBytes(int group) =>
        Width * RowBytes * Math.Min(PanelLayout.BlockGroups, GroupCount - group / PanelLayout.BlockGroups * PanelLayout.BlockGroups);

    // One group of one row.
    private static long RowBytes => GroupDwords * sizeof(float);
}
