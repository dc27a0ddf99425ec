using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>
/// The products of <see cref="IntegerDotAvx512"/> as machine code around vpdpbusd, which .NET does not offer 512 bits wide: four byte products and their sum
/// in one instruction, two of them per cycle. One or two panels x up to 4 columns in registers; either half of a group has its own integer sums, so that
/// enough chains run side by side. The integer sums are exact and the float operations those of the C# form in its order, so both give the same
/// bits and either may stand in for the other. One call walks all tiles of one width against a block. For few columns there is a second kind of variant
/// that takes the weights apart in registers, straight from the packed layout.
/// </summary>
internal static unsafe partial class EmittedDot
{
    // Bytes between the accumulators of the first and of the second panel.
    public const int PanelStrideBytes = Linear.MaxTileColumns * PanelLayout.PanelRows * sizeof(float);

    private const int VectorBytes = PanelLayout.StepBytes;
    private const int FormCount = (int)Form.Halves + 1, SourceCount = (int)Source.PairsAndBits + 1, WidthCount = 4, PanelChoices = 2;

    private static readonly nint[] s_codes = new nint[FormCount * SourceCount * WidthCount * PanelChoices];
    private static readonly Lock s_emitting = new();

    private enum Form
    {
        // One scale and one offset per group.
        Whole,

        // Integer scales per half group, one float scale per block; the sums of activations enter as integers.
        RunScaled,

        // A scale and an offset per half group.
        Halves,
    }

    // What the code reads: bytes in the first cache, or groups of the packed layout from wherever they are.
    private enum Source
    {
        Bytes,
        PackedBytes,

        // 4-bit parts of steps s and s + 4 share a byte.
        Nibbles,
        NibblesAndBits,
        NibblesAndPairs,

        // Nibbles are indices of a table.
        Levels,

        // No nibbles: four steps of bit pairs to a plane, and a plane of third bits.
        Pairs,
        PairsAndBits,
    }

    /// <summary>The CPU has the instruction and the system let the code be made.</summary>
    public static bool IsAvailable { get; } = IsSupported && Code(Form.Whole, Source.Bytes, 1, 1) != 0;

    /// <summary>Whether the CPU multiplies bytes in 512-bit registers, and the system saves them.</summary>
    internal static bool IsSupported
    {
        get
        {
            const int features = 7, dotBit = 1 << 11;
            return IsaTier.IsSupported(Isa.Avx512) && X86Base.IsSupported && X86Base.X64.IsSupported
                && X86Base.CpuId(0, 0).Eax >= features && (X86Base.CpuId(features, 0).Ecx & dotBit) != 0;
        }
    }

    // Makes the code that tiles like these need, which allocates, before the threads want it. False where the system refuses it.
    public static bool Prepare(in WeightRows weight, in ActivationTiles tiles)
    {
        Form form = FormOf(weight.DotKind);
        int first = tiles.WidthOf(0), last = tiles.WidthOf(tiles.TileCount - 1);
        if (TakesPacked(weight, tiles))
            return Code(form, SourceOf(weight.Type), first, 1) != 0;
        return Code(form, Source.Bytes, first, 1) != 0 && Code(form, Source.Bytes, first, 2) != 0
            && Code(form, Source.Bytes, last, 1) != 0 && Code(form, Source.Bytes, last, 2) != 0;
    }

    // A single tile meets every weight once: unpacking to memory would only cost. Rows of code books are looked up first all the same.
    public static bool TakesPacked(in WeightRows weight, in ActivationTiles tiles) => tiles.TileCount == 1 && weight.IsPacked && !weight.Layout.IsBook;

    // One packed block of one panel against the only tile.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Packed(in WeightRows weight, in UnpackedBlock head, byte* quants, in ActivationTiles tiles, int group, int groupCount, float* acc)
    {
        Source source = SourceOf(weight.Type);
        byte* table = stackalloc byte[VectorBytes];
        if (source == Source.Levels)
            PanelUnpackAvx512.Levels(weight.Type).Store(table);
        Run(Code(FormOf(weight.DotKind), source, tiles.WidthOf(0), 1), head, quants, table, tiles, 0, 1, group, groupCount, acc);
    }

    // One block of one or two panels, as bytes, against the tiles from first to end.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Tiles(
        in WeightRows weight, in UnpackedBlock block, byte* firstQuants, byte* secondQuants, int panelCount, in ActivationTiles tiles, int first, int end, int group, int groupCount, float* acc)
    {
        Form form = FormOf(weight.DotKind);
        int fullCount = end - first;
        int lastWidth = tiles.WidthOf(end - 1);
        if (lastWidth != tiles.Width)
            fullCount--;
        if (fullCount > 0)
            Run(Code(form, Source.Bytes, tiles.Width, panelCount), block, firstQuants, secondQuants, tiles, first, fullCount, group, groupCount, acc);
        if (fullCount < end - first)
            Run(Code(form, Source.Bytes, lastWidth, panelCount), block, firstQuants, secondQuants, tiles, end - 1, 1, group, groupCount, acc + (long)fullCount * tiles.Width * PanelLayout.PanelRows);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Run(
        nint code, in UnpackedBlock block, byte* firstQuants, byte* second, in ActivationTiles tiles, int tile, int tileCount, int group, int groupCount, float* acc)
    {
        var arguments = new Arguments
        {
            FirstQuants = firstQuants,
            Second = second,
            Scales = block.Scales,
            X = tiles.Group(tile, group),
            Accumulators = acc,
            GroupCount = groupCount,
            TileCount = tileCount,
            TileGapBytes = tiles.TileBytes(group) - tiles.WidthOf(tile) * sizeof(float),
        };
        ((delegate* unmanaged<Arguments*, void>)code)(&arguments);
    }

    private static Form FormOf(DotKind kind) => kind switch
    {
        DotKind.U6 => Form.RunScaled,
        DotKind.U5By16 or DotKind.U8By16 => Form.Halves,
        _ => Form.Whole,
    };

    private static Source SourceOf(WeightType type) => type switch
    {
        WeightType.Q4_K or WeightType.Q4_0 => Source.Nibbles,
        WeightType.Q5_K => Source.NibblesAndBits,
        WeightType.Q6_K => Source.NibblesAndPairs,
        WeightType.Q2_K => Source.Pairs,
        WeightType.Q3_K => Source.PairsAndBits,
        WeightType.Q8_0 => Source.PackedBytes,
        _ => Source.Levels,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static nint Code(Form form, Source source, int width, int panelCount)
    {
        int index = (((int)form * SourceCount + (int)source) * WidthCount + int.Log2(width)) * PanelChoices + panelCount - 1;
        ref nint code = ref s_codes[index];
        return Volatile.Read(ref code) != 0 ? code : Emit(ref code, form, source, width, panelCount);
    }

    private static nint Emit(ref nint code, Form form, Source source, int width, int panelCount)
    {
        lock (s_emitting)
        {
            if (code == 0)
                Volatile.Write(ref code, (nint)new Emitter(form, source, width, panelCount).Emit());
            return code;
        }
    }
}
