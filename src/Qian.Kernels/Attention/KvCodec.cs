namespace Qian.Kernels;

// One head vector (the key or the value of one token) to and from a block, and the number formats it is stored in.
// Encoding exists only here, so the stored bits do not depend on the kernel tier; decoding here is the definition that
// the vector decoders must meet bit by bit.
internal static unsafe class KvCodec
{
    private const float MaxHalf = 65504f;
    private const float MaxByte = 127f;

    public static void StoreKey(KvBlock block, int layerIndex, int kvHeadIndex, int tokenInBlock, float* source) =>
        Store(block.Type, block.Layout.HeadDim, KeyPlace(block, layerIndex, kvHeadIndex, tokenInBlock), source);

    public static void StoreValue(KvBlock block, int layerIndex, int kvHeadIndex, int tokenInBlock, float* source) =>
        Store(block.Type, block.Layout.HeadDim, ValuePlace(block, layerIndex, kvHeadIndex, tokenInBlock), source);

    public static void LoadKey(KvBlock block, int layerIndex, int kvHeadIndex, int tokenInBlock, float* destination) =>
        Load(block.Type, block.Layout.HeadDim, KeyPlace(block, layerIndex, kvHeadIndex, tokenInBlock), destination);

    public static void LoadValue(KvBlock block, int layerIndex, int kvHeadIndex, int tokenInBlock, float* destination) =>
        Load(block.Type, block.Layout.HeadDim, ValuePlace(block, layerIndex, kvHeadIndex, tokenInBlock), destination);

    // Round to nearest even; beyond the largest finite half saturates; NaN becomes 0, because the vector decoder knows finite halves only.
    public static ushort ToHalf(float x) =>
        float.IsNaN(x) ? (ushort)0 : BitConverter.HalfToUInt16Bits((Half)Math.Clamp(x, -MaxHalf, MaxHalf));

    public static float FromHalf(ushort bits) => (float)BitConverter.UInt16BitsToHalf(bits);

    // Round to nearest even; NaN stays NaN.
    public static ushort ToBFloat16(float x)
    {
        uint bits = BitConverter.SingleToUInt32Bits(x);
        if (float.IsNaN(x))
            return (ushort)((bits >> 16) | 0x40);
        return (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
    }

    public static float FromBFloat16(ushort bits) => BitConverter.UInt32BitsToSingle((uint)bits << 16);

    // Scale = max / 127 rounded UP to a half, so that no value needs clamping and the error stays within half a step.
    private static ushort ScaleFor(float largest)
    {
        float exact = Math.Min(largest / MaxByte, MaxHalf);
        ushort bits = BitConverter.HalfToUInt16Bits((Half)exact);
        return FromHalf(bits) < exact ? (ushort)(bits + 1) : bits;
    }

    // Element d of the vector lies at Start + (d / 16) * RunStride + (d % 16) * LaneStride, its scale at ScaleStart + (d / 32) * ScaleStride.
    private readonly struct Place(byte* data, ushort* scales, long start, long runStride, int laneStride, long scaleStart, long scaleStride)
    {
        public readonly byte* Data = data;
        public readonly ushort* Scales = scales;
        public readonly long ScaleStart = scaleStart;
        public readonly long ScaleStride = scaleStride;

        public long this[int d] => start + d / KvLayout.Lanes * runStride + d % KvLayout.Lanes * laneStride;
    }

    private static Place KeyPlace(KvBlock block, int layerIndex, int kvHeadIndex, int tokenInBlock)
    {
        KvLayout layout = block.Layout;
        byte* data = block.Keys(layerIndex, kvHeadIndex);
        int group = tokenInBlock / KvLayout.Lanes, lane = tokenInBlock % KvLayout.Lanes;
        return new Place(
            data,
            (ushort*)(data + layout.KeyDataBytes),
            (long)group * layout.HeadDim * KvLayout.Lanes + lane,
            KvLayout.Lanes * KvLayout.Lanes,
            KvLayout.Lanes,
            (long)group * layout.ScaleGroupCount * KvLayout.Lanes + lane,
            KvLayout.Lanes);
    }

    private static Place ValuePlace(KvBlock block, int layerIndex, int kvHeadIndex, int tokenInBlock)
    {
        KvLayout layout = block.Layout;
        byte* data = block.Values(layerIndex, kvHeadIndex);
        return new Place(
            data,
            (ushort*)(data + layout.ValueDataBytes),
            (long)tokenInBlock * KvLayout.Lanes,
            (long)layout.BlockTokens * KvLayout.Lanes,
            1,
            tokenInBlock,
            layout.BlockTokens);
    }

    private static void Store(KvType type, int headDim, in Place place, float* source)
    {
        switch (type)
        {
            case KvType.F32:
                for (int d = 0; d < headDim; d++)
                    ((float*)place.Data)[place[d]] = source[d];
                break;
            case KvType.F16:
                for (int d = 0; d < headDim; d++)
                    ((ushort*)place.Data)[place[d]] = ToHalf(source[d]);
                break;
            case KvType.BF16:
                for (int d = 0; d < headDim; d++)
                    ((ushort*)place.Data)[place[d]] = ToBFloat16(source[d]);
                break;
            default:
                StoreBytes(headDim, place, source);
                break;
        }
    }

    private static void StoreBytes(int headDim, in Place place, float* source)
    {
        for (int first = 0; first < headDim; first += KvLayout.ScaleGroup)
        {
            int end = Math.Min(first + KvLayout.ScaleGroup, headDim);
            float largest = 0;
            for (int d = first; d < end; d++)
            {
                float magnitude = MathF.Abs(source[d]);
                if (magnitude > largest) // never true of NaN
                    largest = magnitude;
            }

            ushort scaleBits = ScaleFor(largest);
            float scale = FromHalf(scaleBits);
            place.Scales[place.ScaleStart + first / KvLayout.ScaleGroup * place.ScaleStride] = scaleBits;
            for (int d = first; d < end; d++)
            {
                float steps = scale == 0 || float.IsNaN(source[d]) ? 0 : MathF.Round(Math.Clamp(source[d] / scale, -MaxByte, MaxByte));
                ((sbyte*)place.Data)[place[d]] = (sbyte)steps;
            }
        }
    }

    private static void Load(KvType type, int headDim, in Place place, float* destination)
    {
        switch (type)
        {
            case KvType.F32:
                for (int d = 0; d < headDim; d++)
                    destination[d] = ((float*)place.Data)[place[d]];
                break;
            case KvType.F16:
                for (int d = 0; d < headDim; d++)
                    destination[d] = FromHalf(((ushort*)place.Data)[place[d]]);
                break;
            case KvType.BF16:
                for (int d = 0; d < headDim; d++)
                    destination[d] = FromBFloat16(((ushort*)place.Data)[place[d]]);
                break;
            default:
                for (int d = 0; d < headDim; d++)
                    destination[d] = ((sbyte*)place.Data)[place[d]] * FromHalf(place.Scales[place.ScaleStart + d / KvLayout.ScaleGroup * place.ScaleStride]);
                break;
        }
    }
}
