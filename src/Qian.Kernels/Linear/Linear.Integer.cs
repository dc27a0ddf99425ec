using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Qian.Kernels;

// The integer products of the vector tiers: a panel at a time, block by block of K, each block unpacked once for all tiles of
// activations in reach of the second cache.
public static unsafe partial class Linear
{
    // Bytes of activations that should stay in the second cache while a chunk's panels pass.
    private const long TileCacheBytes = 640 << 10;
    private const int MaxTileColumns = 128;

    [SkipLocalsInit]
    private static void IntegerRows(Isa isa, Part* part, int first, int end, in ActivationTiles tiles)
    {
        byte* memory = stackalloc byte[UnpackedBlock.Bytes + MaxTileColumns * PanelLayout.PanelRows * sizeof(float) + 64];
        memory = (byte*)((nint)memory + 63 & -64);
        var block = new UnpackedBlock(memory);
        float* acc = (float*)(memory + UnpackedBlock.Bytes);

        long tileBytes = (long)tiles.Width * tiles.GroupCount * ActivationTiles.GroupDwords * sizeof(float);
        int reach = (int)Math.Clamp(TileCacheBytes / tileBytes, 2, MaxTileColumns / tiles.Width);
        for (int tile = 0; tile < tiles.TileCount; tile += reach)
        {
            int tileEnd = Math.Min(tile + reach, tiles.TileCount);
            for (int row = first; row < end; row += PanelLayout.PanelRows)
            {
                NativeMemory.Clear(acc, (nuint)((tileEnd - tile) * tiles.Width * PanelLayout.PanelRows * sizeof(float)));
                Panel(isa, part->Weight, row, block, tiles, tile, tileEnd, acc);
                Store(part, row, Math.Min(PanelLayout.PanelRows, part->Weight.RowCount - row), tiles, tile, tileEnd, acc);
            }
        }
    }

    private static void Panel(Isa isa, in WeightRows weight, int row, in UnpackedBlock block, in ActivationTiles tiles, int tile, int tileEnd, float* acc)
    {
        int groupCount = weight.ColumnCount / PanelLayout.GroupColumns;
        for (int group = 0; group < groupCount; group += PanelLayout.BlockGroups)
        {
            int count = Math.Min(PanelLayout.BlockGroups, groupCount - group);
            DotKind kind = weight.IsPacked ? weight.Layout.Kind : DotKind.U8By16;
            if (!weight.IsPacked)
                RowInterleaving.Unpack(weight, row, group, count, block);
            else if (isa == Isa.Avx512)
                PanelUnpackAvx512.Unpack(weight, row / PanelLayout.PanelRows, group / PanelLayout.BlockGroups, count, block);
            else
                PanelUnpackAvx2.Unpack(weight, row / PanelLayout.PanelRows, group / PanelLayout.BlockGroups, count, block);

            switch (kind)
            {
                case DotKind.U4:
                    Dot<U4>(isa, block, tiles, tile, tileEnd, group, count, acc);
                    break;
                case DotKind.U5:
                    Dot<U5>(isa, block, tiles, tile, tileEnd, group, count, acc);
                    break;
                case DotKind.U6:
                    Dot<U6>(isa, block, tiles, tile, tileEnd, group, count, acc);
                    break;
                case DotKind.U8:
                    Dot<U8>(isa, block, tiles, tile, tileEnd, group, count, acc);
                    break;
                default:
                    Dot<U8By16>(isa, block, tiles, tile, tileEnd, group, count, acc);
                    break;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Dot<TKind>(Isa isa, in UnpackedBlock block, in ActivationTiles tiles, int tile, int tileEnd, int group, int count, float* acc)
        where TKind : IDotKind
    {
        if (isa == Isa.Avx512)
            IntegerDotAvx512.Tiles<TKind>(block, tiles, tile, tileEnd, group, count, acc);
        else
            IntegerDotAvx2.Tiles<TKind>(block, tiles, tile, tileEnd, group, count, acc);
    }

    private static void Store(Part* part, int row, int rows, in ActivationTiles tiles, int tile, int tileEnd, float* acc)
    {
        for (; tile < tileEnd; tile++, acc += tiles.Width * PanelLayout.PanelRows)
        {
            for (int t = 0; t < tiles.RowsIn(tile); t++)
            {
                float* output = part->Output + (tile * (long)tiles.Width + t) * part->OutputStride + row;
                new ReadOnlySpan<float>(acc + t * PanelLayout.PanelRows, rows).CopyTo(new Span<float>(output, rows));
            }
        }
    }
}
