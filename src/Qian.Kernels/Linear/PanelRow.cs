namespace Qian.Kernels;

/// <summary>
/// Reads one row back out of the packed layout, in plain C#: what the vector unpackers must agree with, and the way to
/// single rows of packed matrices (embeddings, exact path, tests).
/// </summary>
internal static unsafe partial class PanelRow
{
    // One block of one row: value[i] = quants[i] * scales[i / 16] + offsets[i / 16].
    public static void Unpack(in PanelLayout layout, byte* data, int row, int block, int count, sbyte* quants, float* scales, float* offsets)
    {
        byte* panel = data + row / PanelLayout.PanelRows * layout.PanelBytes;
        int r = row % PanelLayout.PanelRows;
        byte* head = panel + (long)block * layout.HeadBlockBytes;
        byte* groups = panel + layout.HeadBytes + (long)block * PanelLayout.BlockGroups * layout.QuantGroupBytes;
        int groupCount = count / PanelLayout.GroupColumns;
        if (layout.IsBook)
        {
            new Span<float>(offsets, 2 * groupCount).Clear();
            UnpackBook(layout.Type, head, groups, r, groupCount, quants, scales);
            return;
        }

        for (int g = 0; g < groupCount; g++)
        {
            Scales(layout.Type, head, g, r, scales + 2 * g, offsets + 2 * g);
            byte* group = groups + g * layout.QuantGroupBytes;
            for (int k = 0; k < PanelLayout.GroupColumns; k++)
                quants[g * PanelLayout.GroupColumns + k] = (sbyte)Quant(layout.Type, group, k / 4, r * 4 + k % 4);
        }
    }

    // Two sub-blocks of 16.
    private static void Scales(WeightType type, byte* head, int g, int r, float* scales, float* offsets)
    {
        offsets[0] = offsets[1] = 0;
        switch (type)
        {
            case WeightType.Q4_K or WeightType.Q5_K:
                scales[0] = scales[1] = HalfAt(head, r) * head[64 + g * 16 + r];
                offsets[0] = offsets[1] = -(HalfAt(head + 32, r) * head[192 + g * 16 + r]);
                break;
            case WeightType.Q2_K:
                for (int half = 0; half < 2; half++)
                {
                    int both = head[64 + (2 * g + half) * 16 + r];
                    scales[half] = HalfAt(head, r) * (both & 15);
                    offsets[half] = -(HalfAt(head + 32, r) * (both >> 4));
                }

                break;
            case WeightType.Q3_K or WeightType.Q6_K:
                scales[0] = HalfAt(head, r) * ((sbyte*)head)[32 + 2 * g * 16 + r];
                scales[1] = HalfAt(head, r) * ((sbyte*)head)[32 + (2 * g + 1) * 16 + r];
                break;
            case WeightType.IQ4_XS:
                scales[0] = scales[1] = HalfAt(head, r) * (head[32 + g * 16 + r] - 32);
                break;
            case WeightType.NVFP4:
                for (int half = 0; half < 2; half++)
                    scales[half] = (float)BitConverter.UInt16BitsToHalf((ushort)(head[32 * g + 16 * half + r] << 7)) * PanelLayout.MiniFloatUnit;
                break;
            case WeightType.MXFP4:
                int exponent = head[16 * g + r];
                scales[0] = scales[1] = exponent == 255 ? float.NaN : MathF.ScaleB(1, exponent - 128);
                break;
            default:
                scales[0] = scales[1] = HalfAt(head + 32 * g, r);
                break;
        }
    }

    private static int Quant(WeightType type, byte* group, int step, int lane)
    {
        if (type == WeightType.Q8_0)
            return group[step * PanelLayout.StepBytes + lane] - 128;

        if (type is WeightType.Q2_K or WeightType.Q3_K)
        {
            int pair = group[(step >> 2) * PanelLayout.StepBytes + lane] >> 2 * (step & 3) & 3;
            return type == WeightType.Q2_K ? pair : (pair | (group[128 + lane] >> step & 1) << 2) - 4;
        }

        int nibble = group[(step & 3) * PanelLayout.StepBytes + lane] >> (step & 4) & 15;
        return type switch
        {
            WeightType.Q5_K => nibble | (group[256 + lane] >> step & 1) << 4,
            WeightType.Q6_K => (nibble | (group[256 + (step >> 2) * PanelLayout.StepBytes + lane] >> 2 * (step & 3) & 3) << 4) - 32,
            WeightType.Q4_0 => nibble - 8,
            WeightType.IQ4_NL or WeightType.IQ4_XS => DenseCentre.Table[nibble],
            WeightType.MXFP4 or WeightType.NVFP4 => FloatE2M1.Table[nibble],
            _ => nibble,
        };
    }

    private static float HalfAt(byte* values, int index) => (float)((Half*)values)[index];
}
