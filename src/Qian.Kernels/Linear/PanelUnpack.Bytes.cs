using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

// For the kernels that multiply whole bytes: no planes of nibbles. What is stored as bytes already is used where it lies.
internal static unsafe partial class PanelUnpackAvx512
{
    // Returns where the block's quants are.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static byte* UnpackBytes(in WeightRows weight, int panel, int blockIndex, int groupCount, in UnpackedBlock block)
    {
        switch (weight.Type)
        {
            case WeightType.Q8_0:
                byte* stored = UnpackHead(weight, panel, blockIndex, groupCount, block);
                Prefetch(stored, groupCount * weight.Layout.QuantGroupBytes);
                return stored;
            case WeightType.IQ4_NL or WeightType.IQ4_XS:
                DenseBytes(UnpackHead(weight, panel, blockIndex, groupCount, block), groupCount, block.Quants);
                return block.Quants;
            default:
                if (weight.Layout.IsBook)
                    PanelUnpackBooks.Bytes(PanelUnpackBooks.LooksUpInRegisters, weight, panel, blockIndex, groupCount, block, block.Quants);
                else
                    Unpack(weight, panel, blockIndex, groupCount, block);
                return block.Quants;
        }
    }

    // What the codes of four bits stand for, plus what their offset takes off again.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector512<byte> Levels(WeightType type) => Quadruple(type is WeightType.MXFP4 or WeightType.NVFP4
        ? (FloatE2M1.Table + Vector128.Create((sbyte)12)).AsByte()
        : DenseCentre.Table.AsByte() ^ Vector128.Create((byte)0x80));

    // Levels + 128.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void DenseBytes(byte* source, int groupCount, byte* destination)
    {
        Vector512<byte> levels = Levels(WeightType.IQ4_NL);
        Vector512<byte> low = Vector512.Create((byte)15);
        for (int g = 0; g < groupCount; g++, destination += 256)
        {
            Prefetch(source, 256);
            for (int i = 0; i < 4; i++, source += 64, destination += 64)
            {
                Vector512<byte> q = Vector512.Load(source);
                Avx512BW.Shuffle(levels, q & low).Store(destination);
                Avx512BW.Shuffle(levels, Right(q, 4) & low).Store(destination + 256);
            }
        }
    }
}

internal static unsafe partial class PanelUnpack256
{
    // Returns where the block's quants are.
    public static byte* UnpackBytes(in WeightRows weight, int panel, int blockIndex, int groupCount, in UnpackedBlock block)
    {
        PanelLayout layout = weight.Layout;
        if (layout.IsBook)
        {
            PanelUnpackBooks.Bytes(inRegisters: false, weight, panel, blockIndex, groupCount, block, block.Quants);
            return block.Quants;
        }

        if (layout.Kind != DotKind.U8)
        {
            Unpack(weight, panel, blockIndex, groupCount, block);
            return block.Quants;
        }

        byte* start = weight.Data + panel * layout.PanelBytes;
        byte* head = start + (long)blockIndex * layout.HeadBlockBytes;
        byte* quants = start + layout.HeadBytes + (long)blockIndex * PanelLayout.BlockGroups * layout.QuantGroupBytes;
        if (layout.Type == WeightType.IQ4_XS)
            ScalesOffBy32(head, groupCount, block);
        else
            Halves(head, groupCount, -128, block);
        if (layout.Type == WeightType.Q8_0)
        {
            Prefetch(quants, groupCount * layout.QuantGroupBytes);
            return quants;
        }

        Codes(DenseCentre.Table.AsByte() ^ Vector128.Create((byte)0x80), quants, groupCount, block.Quants);
        return block.Quants;
    }
}
