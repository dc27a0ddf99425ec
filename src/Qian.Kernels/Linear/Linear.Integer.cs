using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

// The integer products of the vector tiers: a panel (emitted code: two) at a time, block by block of K, each block unpacked once for as many tiles of
// activations as have accumulators. Long rows go in segments of K, so that the activations of a segment stay in the second cache while all
// panels of the chunk pass; the accumulators of the chunk wait in memory meanwhile. The order of K is the same for all cuts.
public static unsafe partial class Linear
{
    internal const int MaxTileColumns = 128;

    // Bytes of activations that should stay in the second cache while a chunk's panels pass.
    private const long TileCacheBytes = 640 << 10;

    private const int PanelFloats = MaxTileColumns * PanelLayout.PanelRows;

    // Panels that the emitted code takes at once.
    private const int PanelsAtOnce = 2;

    // Few rows of activations: each panel from its first block to its last, with nothing unpacked to memory.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PackedRows(Part* part, int first, int end, in ActivationTiles tiles)
    {
        int values = tiles.WidthOf(0) * PanelLayout.PanelRows;
        float* acc = stackalloc float[values];
        for (int row = first; row < end; row += PanelLayout.PanelRows)
        {
            new Span<float>(acc, values).Clear();
            EmittedDot.Panel(part->Weight, row / PanelLayout.PanelRows, tiles, acc);
            Store(part, row, Math.Min(PanelLayout.PanelRows, end - row), tiles, 0, 1, acc);
        }
    }

    // Code above the kernels is compiled in full at once: it runs per block, and the first pass is a prefill.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void IntegerRows(Isa isa, Part* part, int first, int end, in ActivationTiles tiles)
    {
        int panel = first / PanelLayout.PanelRows;
        int panelCount = (end - first + PanelLayout.PanelRows - 1) / PanelLayout.PanelRows;
        byte* memory = stackalloc byte[PanelsAtOnce * UnpackedBlock.Bytes + panelCount * PanelFloats * sizeof(float) + 64];
        memory = (byte*)((nint)memory + 63 & -64);
        float* acc = (float*)(memory + PanelsAtOnce * UnpackedBlock.Bytes);
        int blockCount = (part->Weight.ColumnCount + PanelLayout.BlockColumns - 1) / PanelLayout.BlockColumns;

        int reach = MaxTileColumns / tiles.Width;
        for (int tile = 0; tile < tiles.TileCount; tile += reach)
        {
            int tileEnd = Math.Min(tile + reach, tiles.TileCount);
            long blockBytes = (long)(tileEnd - tile) * tiles.Width * PanelLayout.BlockGroups * ActivationTiles.GroupDwords * sizeof(float);
            int segment = (int)Math.Max(1, TileCacheBytes / blockBytes);
            for (int p = 0; p < panelCount; p++)
                NativeMemory.Clear(acc + p * PanelFloats, (nuint)((tileEnd - tile) * tiles.Width * PanelLayout.PanelRows * sizeof(float)));
            for (int block = 0; block < blockCount; block += segment)
            {
                var span = new TileSpan(tile, tileEnd, block, Math.Min(block + segment, blockCount));
                int p = 0;
                if (part->Emitted)
                {
                    for (; p < panelCount; p += PanelsAtOnce)
                    {
                        // While these panels compute, those that follow come into the second cache.
                        int next = p + PanelsAtOnce < panelCount ? p + PanelsAtOnce : 0;
                        var ahead = new Ahead(panel + next, Math.Min(PanelsAtOnce, panelCount - next), next == 0 ? span.EndBlock - span.FirstBlock : 0);
                        PanelsEmitted(part->Weight, panel + p, Math.Min(PanelsAtOnce, panelCount - p), ahead, memory, tiles, span, acc + p * PanelFloats);
                    }
                }

                for (; p < panelCount; p++)
                    Panel(isa, part->Weight, panel + p, new UnpackedBlock(memory), tiles, span, acc + p * PanelFloats);
            }

            for (int p = 0; p < panelCount; p++)
            {
                int row = first + p * PanelLayout.PanelRows;
                Store(part, row, Math.Min(PanelLayout.PanelRows, end - row), tiles, tile, tileEnd, acc + p * PanelFloats);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PanelsEmitted(in WeightRows weight, int panel, int panelCount, in Ahead ahead, byte* memory, in ActivationTiles tiles, in TileSpan span, float* acc)
    {
        bool fetches = weight.IsPacked && span.EndTile - span.FirstTile > 1;
        byte** quants = stackalloc byte*[PanelsAtOnce];
        for (int block = span.FirstBlock; block < span.EndBlock; block++)
        {
            int count = span.GroupsIn(block, weight.ColumnCount);
            for (int i = 0; i < panelCount; i++)
            {
                var unpacked = new UnpackedBlock(memory + i * UnpackedBlock.Bytes);
                quants[i] = unpacked.Quants;
                if (weight.IsPacked)
                    quants[i] = PanelUnpackAvx512.UnpackBytes(weight, panel + i, block, count, unpacked);
                else
                    RowInterleaving.Unpack(weight, (panel + i) * PanelLayout.PanelRows, block * PanelLayout.BlockGroups, count, wholeBytes: true, unpacked);
            }

            if (fetches)
                Fetch(weight, ahead, block);
            EmittedDot.Tiles(weight, new UnpackedBlock(memory), quants[0], quants[panelCount - 1], panelCount, tiles, span.FirstTile, span.EndTile, block * PanelLayout.BlockGroups, count, acc);
        }
    }

    // Asks for the block of the panels ahead.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Fetch(in WeightRows weight, in Ahead ahead, int block)
    {
        PanelLayout layout = weight.Layout;
        block += ahead.Blocks;
        if (block >= layout.BlockCount)
            return;
        for (int i = 0; i < ahead.PanelCount; i++)
        {
            byte* panel = weight.Data + (ahead.Panel + i) * layout.PanelBytes;
            byte* head = panel + (long)block * layout.HeadBlockBytes;
            byte* quants = panel + layout.HeadBytes + (long)block * PanelLayout.BlockGroups * layout.QuantGroupBytes;
            for (int at = 0; at < layout.HeadBlockBytes; at += 64)
                Sse.Prefetch1(head + at);
            for (int at = 0; at < PanelLayout.BlockGroups * layout.QuantGroupBytes; at += 64)
                Sse.Prefetch1(quants + at);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Panel(Isa isa, in WeightRows weight, int panel, in UnpackedBlock unpacked, in ActivationTiles tiles, in TileSpan span, float* acc)
    {
        for (int block = span.FirstBlock; block < span.EndBlock; block++)
        {
            int count = span.GroupsIn(block, weight.ColumnCount);
            byte* quants = unpacked.Quants;
            bool wholeBytes = isa is Isa.AvxVnni or Isa.Arm64;
            if (!weight.IsPacked)
                RowInterleaving.Unpack(weight, panel * PanelLayout.PanelRows, block * PanelLayout.BlockGroups, count, wholeBytes, unpacked);
            else if (wholeBytes)
                quants = PanelUnpack256.UnpackBytes(weight, panel, block, count, unpacked);
            else if (isa == Isa.Avx512)
                PanelUnpackAvx512.Unpack(weight, panel, block, count, unpacked);
            else
                PanelUnpack256.Unpack(weight, panel, block, count, unpacked);

            switch (weight.DotKind)
            {
                case DotKind.U5By16:
                    Dot<U5By16>(isa, unpacked, quants, tiles, span, block, count, acc);
                    break;
                case DotKind.U4:
                    Dot<U4>(isa, unpacked, quants, tiles, span, block, count, acc);
                    break;
                case DotKind.U5:
                    Dot<U5>(isa, unpacked, quants, tiles, span, block, count, acc);
                    break;
                case DotKind.U6:
                    Dot<U6>(isa, unpacked, quants, tiles, span, block, count, acc);
                    break;
                case DotKind.U8:
                    Dot<U8>(isa, unpacked, quants, tiles, span, block, count, acc);
                    break;
                default:
                    Dot<U8By16>(isa, unpacked, quants, tiles, span, block, count, acc);
                    break;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Dot<TKind>(Isa isa, in UnpackedBlock unpacked, byte* quants, in ActivationTiles tiles, in TileSpan span, int block, int count, float* acc)
        where TKind : IDotKind
    {
        if (isa == Isa.Avx512)
            IntegerDotAvx512.Tiles<TKind>(unpacked, tiles, span.FirstTile, span.EndTile, block * PanelLayout.BlockGroups, count, acc);
        else if (isa == Isa.AvxVnni)
            IntegerDotBytes<VnniDot>.Tiles<TKind>(unpacked, quants, tiles, span.FirstTile, span.EndTile, block * PanelLayout.BlockGroups, count, acc);
        else if (isa == Isa.Arm64)
            IntegerDotBytes<ArmDot>.Tiles<TKind>(unpacked, quants, tiles, span.FirstTile, span.EndTile, block * PanelLayout.BlockGroups, count, acc);
        else
            IntegerDotAvx2.Tiles<TKind>(unpacked, tiles, span.FirstTile, span.EndTile, block * PanelLayout.BlockGroups, count, acc);
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

    // The tiles of activations whose accumulators are at hand, and a segment of K in blocks.
    private readonly record struct TileSpan(int FirstTile, int EndTile, int FirstBlock, int EndBlock)
    {
        public int GroupsIn(int block, int columnCount) => Math.Min(PanelLayout.BlockGroups, columnCount / PanelLayout.GroupColumns - block * PanelLayout.BlockGroups);
    }

    // The panels to come, and how many blocks further on.
    private readonly record struct Ahead(int Panel, int PanelCount, int Blocks);
}
