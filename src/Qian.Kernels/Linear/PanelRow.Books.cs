namespace Qian.Kernels;

// One row of a code-book type out of its panel: the fields back together, then the book.
internal static unsafe partial class PanelRow
{
    private static void UnpackBook(WeightType type, byte* head, byte* groups, int r, int groupCount, sbyte* quants, float* scales)
    {
        switch (type)
        {
            case WeightType.IQ1_S:
                Unpack<Iq1SBook>(head, groups, r, groupCount, quants, scales);
                break;
            case WeightType.IQ1_M:
                Unpack<Iq1MBook>(head, groups, r, groupCount, quants, scales);
                break;
            case WeightType.IQ2_XXS:
                Unpack<Iq2XxsBook>(head, groups, r, groupCount, quants, scales);
                break;
            case WeightType.IQ2_XS:
                Unpack<Iq2XsBook>(head, groups, r, groupCount, quants, scales);
                break;
            case WeightType.IQ2_S:
                Unpack<Iq2SBook>(head, groups, r, groupCount, quants, scales);
                break;
            case WeightType.IQ3_XXS:
                Unpack<Iq3XxsBook>(head, groups, r, groupCount, quants, scales);
                break;
            default:
                Unpack<Iq3SBook>(head, groups, r, groupCount, quants, scales);
                break;
        }
    }

    private static void Unpack<T>(byte* head, byte* groups, int r, int groupCount, sbyte* quants, float* scales)
        where T : struct, IBook
    {
        float d = HalfAt(head, r);
        for (int g = 0; g < groupCount; g++, groups += BookHead.GroupBytes<T>(), quants += PanelLayout.GroupColumns)
        {
            BookGroup fields = Fields<T>(head, groups, g, r);
            bool isMoved = typeof(T) == typeof(Iq1SBook);
            int deltas = isMoved ? (fields.FirstMultiplier & 8) != 0 ? 15 : 0 : fields.Deltas;
            float unit = isMoved ? 0.125f : T.Unit;
            scales[2 * g] = d * (2 * (fields.FirstMultiplier & (isMoved ? 7 : 15)) + 1) * unit;
            scales[2 * g + 1] = d * (2 * (fields.SecondMultiplier & (isMoved ? 7 : 15)) + 1) * unit;
            for (int k = 0; k < PanelLayout.GroupColumns; k++)
            {
                int run = T.IsShort ? k / 4 : k / 8;
                ulong indices = run < 4 ? fields.FirstIndices : fields.SecondIndices;
                int width = T.IsShort ? 4 : 8;
                int value = T.Table.Rows[(int)(indices >> 16 * (run & 3) & 0xffff) * width + k % width] - T.Lift;
                if (T.HasSigns)
                    value = (fields.Signs >> k & 1) != 0 ? -value : value;
                else
                    value = (isMoved ? 8 * value : value) + ((deltas >> run & 1) != 0 ? -1 : 1);
                quants[k] = (sbyte)value;
            }
        }
    }

    private static BookGroup Fields<T>(byte* head, byte* group, int g, int r)
        where T : struct, IBook
    {
        var fields = new BookGroup();
        uint* dwords = (uint*)group + r;
        ulong* words = (ulong*)(head + BookHead.MasksAt<T>()) + g * BookHead.MaskCount<T>();
        for (int plane = 0; plane < (T.IsShort ? 2 : 1); plane++, dwords += 16)
        {
            ulong indices = BookFields.Widen(*dwords);
            for (int bit = 8; bit < T.IndexBits && !T.HasEvenSigns; bit++)
                indices |= BookFields.Ninths((int)(*words++ >> 4 * r & 15)) << bit - 8;
            if (plane == 0)
                fields.FirstIndices = indices;
            else
                fields.SecondIndices = indices;
        }

        if (T.HasDeltas)
            fields.Deltas = (int)(*words >> 4 * r & 15);
        if (T.HasSigns)
        {
            uint signs = *dwords;
            if (T.HasEvenSigns)
            {
                uint free = signs >> 25 & 1 | signs >> 26 & 2 | signs >> 27 & 4 | signs >> 28 & 8;
                signs &= ~PanelPacking.FreeSigns;
                if (T.IndexBits == 8)
                    fields.FirstMultiplier = fields.SecondMultiplier = (int)free;
                else
                    fields.FirstIndices |= BookFields.Ninths((int)free);
            }

            for (int k = 0; k < PanelLayout.GroupColumns; k++)
                fields.Signs |= (signs >> 8 * (k % 4) + k / 4 & 1) << k;
            if (T.HasEvenSigns)
            {
                uint sevens = 0;
                for (int run = 0; run < 4; run++)
                    sevens |= (fields.Signs >> 8 * run & 127) << 7 * run;
                fields.Signs = BookFields.EvenSigns(sevens);
            }
        }

        if (T.HasHalves)
            (fields.FirstMultiplier, fields.SecondMultiplier) = (head[BookHead.NibblesAt + 16 * g + r] & 15, head[BookHead.NibblesAt + 16 * g + r] >> 4);
        else if (BookHead.HasNibbles<T>())
            fields.FirstMultiplier = fields.SecondMultiplier = head[BookHead.NibblesAt + 16 * (g / 2) + r] >> 4 * (g & 1) & 15;
        return fields;
    }
}
