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
    private const int FormCount = (int)Form.Halves + 1, WidthCount = 4, PanelChoices = 2;

    private static readonly nint[] s_tileCodes = new nint[FormCount * WidthCount * PanelChoices];
    private static readonly nint[] s_panelCodes = new nint[((int)Enum.GetValues<WeightType>().Max() + 1) * WidthCount];
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

    /// <summary>The CPU has the instruction and the system let the code be made.</summary>
    public static bool IsAvailable { get; } = IsSupported && TileCode(Form.Whole, 1, 1) != 0;

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
        int first = tiles.WidthOf(0), last = tiles.WidthOf(tiles.TileCount - 1);
        if (TakesPacked(weight, tiles))
            return PanelCode(weight.Type, first) != 0;
        Form form = FormOf(weight.DotKind);
        return TileCode(form, first, 1) != 0 && TileCode(form, first, 2) != 0 && TileCode(form, last, 1) != 0 && TileCode(form, last, 2) != 0;
    }

    // A single tile meets every weight once: unpacking to memory would only cost. Rows of code books are looked up first all the same.
    public static bool TakesPacked(in WeightRows weight, in ActivationTiles tiles) => tiles.TileCount == 1 && weight.IsPacked && !weight.Layout.IsBook;

    // A packed panel against the only tile.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Panel(in WeightRows weight, int panel, in ActivationTiles tiles, float* acc)
    {
        PanelLayout layout = weight.Layout;
        byte* start = weight.Data + panel * layout.PanelBytes;
        var arguments = new Arguments
        {
            Quants = start + layout.HeadBytes,
            Scales = start,
            X = tiles.Group(0, 0),
            Accumulators = acc,
            GroupCount = layout.GroupCount,
            HeadBytes = layout.HeadBytes,
            PanelBytes = layout.PanelBytes,
        };
        ((delegate* unmanaged[SuppressGCTransition]<Arguments*, void>)PanelCode(weight.Type, tiles.WidthOf(0)))(&arguments);
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
            Run(TileCode(form, tiles.Width, panelCount), block, firstQuants, secondQuants, tiles, first, fullCount, group, groupCount, acc);
        if (fullCount < end - first)
            Run(TileCode(form, lastWidth, panelCount), block, firstQuants, secondQuants, tiles, end - 1, 1, group, groupCount, acc + (long)fullCount * tiles.Width * PanelLayout.PanelRows);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Run(
        nint code, in UnpackedBlock block, byte* firstQuants, byte* secondQuants, in ActivationTiles tiles, int tile, int tileCount, int group, int groupCount, float* acc)
    {
        var arguments = new Arguments
        {
            Quants = firstQuants,
            Second = secondQuants,
            Scales = (byte*)block.Scales,
            X = tiles.Group(tile, group),
            Accumulators = acc,
            GroupCount = groupCount,
            TileCount = tileCount,
            TileGapBytes = tiles.TileBytes(group) - tiles.WidthOf(tile) * sizeof(float),
        };
        ((delegate* unmanaged[SuppressGCTransition]<Arguments*, void>)code)(&arguments);
    }

    private static Form FormOf(DotKind kind) => kind switch
    {
        DotKind.U6 => Form.RunScaled,
        DotKind.U5By16 or DotKind.U8By16 => Form.Halves,
        _ => Form.Whole,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static nint TileCode(Form form, int width, int panelCount)
    {
        ref nint code = ref s_tileCodes[((int)form * WidthCount + int.Log2(width)) * PanelChoices + panelCount - 1];
        return Volatile.Read(ref code) != 0 ? code : EmitTiles(ref code, form, width, panelCount);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static nint PanelCode(WeightType type, int width)
    {
        ref nint code = ref s_panelCodes[(int)type * WidthCount + int.Log2(width)];
        return Volatile.Read(ref code) != 0 ? code : EmitPanel(ref code, type, width);
    }

    // Apart from the above, so that what follows stays out of line.
    private static nint EmitTiles(ref nint code, Form form, int width, int panelCount) => Emit(ref code, new TileEmitter(form, width, panelCount));

    private static nint EmitPanel(ref nint code, WeightType type, int width) => Emit(ref code, new PanelEmitter(type, width));

    private static nint Emit(ref nint code, GroupEmitter emitter)
    {
        lock (s_emitting)
        {
            if (code == 0)
                Volatile.Write(ref code, (nint)emitter.Emit());
            return code;
        }
    }
}
