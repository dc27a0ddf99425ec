using System.Runtime.Intrinsics;

namespace Qian.Kernels;

// 64 values in 4 sub-blocks of 16: a scale byte each, then 8 bytes of codes each, value j in the low and value 8 + j in the
// high halves. Value = scale / 2 * doubled E2M1 level. The scale is a float without sign, 4 exponent and 3 mantissa bits.
// The tensor's own factor, stored apart, is not known here: its values must be divided by it before they are encoded.
internal sealed class NVFP4() : QuantFormat(WeightType.NVFP4, "NVFP4", Values, CodesAt + Values / 2)
{
    private const int Values = 64;
    private const int SubBlocks = 4;
    private const int SubValues = 16;
    private const int CodesAt = SubBlocks;
    private const int HighestScaleCode = 0x7E;

    // Scale codes tried around the one that puts the peak on the largest level, 12. They are an eighth apart or less, so
    // that five above put it on the level below, 8, where a block that came from this format may have its peak.
    private const int TrialsBelow = 5;
    private const int TrialsAbove = 5;

    private static readonly float[] s_halfScales = HalfScales();

    // Half a step of the scale beyond 448 * 6, since the writer's own division may round up.
    public override float LargestMagnitude => 464 * 6;

    protected override void UnpackBlock(ReadOnlySpan<byte> block, Span<sbyte> quants, Span<float> scales, Span<float> offsets)
    {
        for (int index = 0; index < SubBlocks; index++)
            scales[index] = s_halfScales[block[index] & 0x7F];
        Vector128<byte> table = FloatE2M1.Table.AsByte();
        for (int index = 0; index < SubBlocks; index += 2)
        {
            // Two sub-blocks at once: low and high halves of the first, then of the second.
            Vector128<byte> bytes = BlockPieces.Load(block, CodesAt + 8 * index);
            Vector128<ulong> low = Vector128.Shuffle(table, BlockPieces.LowNibbles(bytes)).AsUInt64();
            Vector128<ulong> high = Vector128.Shuffle(table, BlockPieces.HighNibbles(bytes)).AsUInt64();
            BlockPieces.Store(Vector128.Create(low.GetLower(), high.GetLower()).AsByte(), quants, SubValues * index);
            BlockPieces.Store(Vector128.Create(low.GetUpper(), high.GetUpper()).AsByte(), quants, SubValues * (index + 1));
        }
    }

    protected override void EncodeBlock(ReadOnlySpan<float> values, ReadOnlySpan<float> weights, bool fast, Span<byte> block)
    {
        Span<sbyte> levels = stackalloc sbyte[SubValues];
        for (int index = 0; index < SubBlocks; index++)
        {
            ReadOnlySpan<float> x = values.Slice(index * SubValues, SubValues);
            int code = FitScale(x, weights.Slice(index * SubValues, SubValues));
            block[index] = (byte)code;
            ScaleSearch.Quantize<FloatE2M1>(x, s_halfScales[code], levels);
            LevelTable.Pack(levels, FloatE2M1.Table, block.Slice(CodesAt + 8 * index, 8));
        }
    }

    private static int FitScale(ReadOnlySpan<float> values, ReadOnlySpan<float> weights)
    {
        float wanted = MathF.Abs(ScaleSearch.Peak(values)) / FloatE2M1.Highest;
        int centre = s_halfScales.AsSpan(0, HighestScaleCode + 1).BinarySearch(wanted);
        if (centre < 0)
            centre = ~centre;
        int best = 0;
        float bestError = ScaleSearch.Error<FloatE2M1>(values, weights, 0);
        int last = Math.Min(centre + TrialsAbove, HighestScaleCode);
        for (int code = Math.Max(Math.Min(centre, HighestScaleCode) - TrialsBelow, 1); code <= last; code++)
        {
            float error = ScaleSearch.Error<FloatE2M1>(values, weights, s_halfScales[code]);
            if (error < bestError)
            {
                bestError = error;
                best = code;
            }
        }

        return best;
    }

    private static float[] HalfScales()
    {
        // 0x7F, the NaN of the signed format, counts as 0 in weights.
        var table = new float[128];
        for (int code = 1; code < 0x7F; code++)
        {
            int exponent = code >> 3;
            int mantissa = code & 7;
            table[code] = exponent == 0 ? MathF.ScaleB(mantissa, -10) : MathF.ScaleB(8 + mantissa, exponent - 11);
        }

        return table;
    }
}
