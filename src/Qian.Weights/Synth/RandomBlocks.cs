using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Qian.Kernels;

namespace Qian.Weights;

// Weights of any storage type without an encoder: a block is random bytes, whose few scale fields are then replaced by sane ones,
// each picked from a table of 256 by the random byte that stood there. Integers of random bits are spread evenly over their levels;
// the scales carry random signs, or a minimum that offsets the average level, so the values' mean is 0. How widely a type's values
// spread under a scale of 1 is measured with its decoder, once, and every wanted deviation follows.
internal sealed class RandomBlocks
{
    // Scales vary by this share around their mean, so that a kernel that mixes up blocks is caught.
    private const double ScaleVariation = 0.25;

    private static readonly Lazy<double>[] s_spreads = [.. Enumerable.Range(0, 1 + Enum.GetValues<WeightType>().Max(type => (int)type)).Select(type => new Lazy<double>(() => MeasureSpread((WeightType)type)))];

    private readonly WeightType _type;
    private readonly BlockFields _fields;
    private readonly double _scale;
    private readonly ushort[] _scales = [];
    private readonly ushort[] _minima = [];
    private readonly byte[] _exponents = [];

    // `deviation`: standard deviation of the values. NVFP4 ignores it: the tensor's own factor is Nvfp4Factor(deviation).
    public RandomBlocks(WeightType type, double deviation)
        : this(type, WeightFormat.IsQuantized(type) ? deviation / s_spreads[(int)type].Value : deviation, BlockFields.Of(type))
    {
    }

    private RandomBlocks(WeightType type, double scale, BlockFields fields)
    {
        _type = type;
        _scale = scale;
        _fields = fields;
        if (type == WeightType.MXFP4)
            _exponents = Exponents(scale);
        else if (type != WeightType.NVFP4 && WeightFormat.IsQuantized(type))
        {
            _scales = Halves(scale, fields.MinimumPerScale == 0);
            _minima = fields.MinimumPerScale == 0 ? [] : Halves(scale * fields.MinimumPerScale, randomSigns: false);
        }
    }

    // What the values of an NVFP4 tensor of random blocks must be multiplied by.
    public static float Nvfp4Factor(double deviation) => (float)(deviation / s_spreads[(int)WeightType.NVFP4].Value);

    // Whole blocks of values drawn from the stream of `key`.
    public void Fill(ulong key, Span<byte> blocks)
    {
        new RandomBytes(key).Fill(blocks);
        switch (_type)
        {
            case WeightType.F32:
                RandomFloats.ToSingle(blocks, _scale);
                break;
            case WeightType.F16:
                RandomFloats.ToHalf(blocks, _scale);
                break;
            case WeightType.BF16:
                RandomFloats.ToBFloat(blocks, _scale);
                break;
            case WeightType.MXFP4:
                for (int at = 0; at < blocks.Length; at += _fields.BlockBytes)
                    blocks[at] = _exponents[blocks[at]];
                break;
            case WeightType.NVFP4:
                SetUnsignedFloats(blocks);
                break;
            case WeightType.IQ1_M:
                SetScatteredScales(blocks);
                break;
            default:
                if (_type == WeightType.Q8_0)
                    AvoidLowest(blocks);
                SetHalves(blocks);
                break;
        }
    }

    private void SetHalves(Span<byte> blocks)
    {
        BlockFields fields = _fields;
        for (int at = 0; at < blocks.Length; at += fields.BlockBytes)
        {
            Span<byte> scale = blocks.Slice(at + fields.ScaleOffset, 2);
            BinaryPrimitives.WriteUInt16LittleEndian(scale, _scales[scale[0]]);
            if (_minima.Length == 0)
                continue;
            Span<byte> minimum = blocks.Slice(at + fields.MinimumOffset, 2);
            BinaryPrimitives.WriteUInt16LittleEndian(minimum, _minima[minimum[0]]);
            for (int i = 0; i < fields.SubScaleBytes; i += 8)
            {
                Span<byte> word = blocks.Slice(at + fields.SubScaleOffset + i, 8);
                BinaryPrimitives.WriteUInt64LittleEndian(word, BinaryPrimitives.ReadUInt64LittleEndian(word) | fields.SubScaleBits);
            }
        }
    }

    // IQ1_M keeps its scale in the top nibbles of four 16-bit words at its end, lowest nibble first.
    private void SetScatteredScales(Span<byte> blocks)
    {
        for (int at = 0; at < blocks.Length; at += _fields.BlockBytes)
        {
            Span<byte> words = blocks.Slice(at + _fields.ScaleOffset, 8);
            int scale = _scales[words[1]];
            for (int word = 0; word < 4; word++)
                words[2 * word + 1] = (byte)((words[2 * word + 1] & 0x0F) | ((scale >> (4 * word) & 15) << 4));
        }
    }

    // UE4M3 of 0.5 to 1.875: one of 16 codes per 16 values.
    private void SetUnsignedFloats(Span<byte> blocks)
    {
        for (int at = 0; at < blocks.Length; at += _fields.BlockBytes)
        {
            Span<byte> scales = blocks.Slice(at, 4);
            BinaryPrimitives.WriteUInt32LittleEndian(scales, (BinaryPrimitives.ReadUInt32LittleEndian(scales) & 0x0F0F0F0F) | 0x30303030);
        }
    }

    // Encoders use -127 to 127; -128 is a case of its own for kernels that take magnitudes.
    private static void AvoidLowest(Span<byte> bytes)
    {
        Span<Vector256<sbyte>> vectors = MemoryMarshal.Cast<byte, Vector256<sbyte>>(bytes);
        foreach (ref Vector256<sbyte> vector in vectors)
            vector = Vector256.Max(vector, Vector256.Create((sbyte)-127));
        foreach (ref sbyte value in MemoryMarshal.Cast<byte, sbyte>(bytes[(vectors.Length * Vector256<byte>.Count)..]))
            value = Math.Max(value, (sbyte)-127);
    }

    // 256 half floats around `mean`. Small ones are subnormal and so coarse; what rounding takes from one it gives to the next.
    private static ushort[] Halves(double mean, bool randomSigns)
    {
        var halves = new ushort[256];
        double carried = 0;
        for (int index = 0; index < halves.Length; index++)
        {
            int rank = index & 127; // both signs get the same magnitudes
            carried = rank == 0 ? 0 : carried;
            double wanted = mean * (1 + ScaleVariation * (rank - 63.5) / 64);
            Half half = (Half)(wanted + carried);
            carried += wanted - (double)half;
            halves[index] = (ushort)(BitConverter.HalfToUInt16Bits(half) ^ (randomSigns && index >= 128 ? 0x8000 : 0));
        }

        return halves;
    }

    // E8M0 stores powers of two; a mixture of two neighbours has the wanted mean square. 2^(e - 128) is the scale.
    private static byte[] Exponents(double scale)
    {
        int low = (int)Math.Floor(Math.Log2(scale));
        double share = (scale * scale / Math.Pow(4, low) - 1) / 3;
        var exponents = new byte[256];
        for (int index = 0; index < exponents.Length; index++)
            exponents[index] = (byte)Math.Clamp(low + 128 + (index + 0.5 < 256 * share ? 1 : 0), 2, 254);
        return exponents;
    }

    private static double MeasureSpread(WeightType type)
    {
        const int BlockCount = 4096;
        var blocks = new byte[BlockCount * WeightFormat.BlockBytes(type)];
        var values = new float[BlockCount * WeightFormat.BlockValues(type)];
        new RandomBlocks(type, 1, BlockFields.Of(type)).Fill(key: 1, blocks);
        WeightFormat.Decode(type, blocks, values);
        double squares = 0;
        foreach (float value in values)
            squares += (double)value * value;
        return Math.Sqrt(squares / values.Length);
    }
}

// Where a block keeps what must not be random. `MinimumPerScale` is the minimum under which values average 0: minus the mean level,
// or plus where the type subtracts it; 0 for types without. Sub-scales (of types with minima) get the given bits set, which puts
// scale and minimum of each into the upper half of their range.
internal readonly record struct BlockFields(int BlockBytes, int ScaleOffset, int MinimumOffset = 0, double MinimumPerScale = 0, int SubScaleOffset = 0, int SubScaleBytes = 0, ulong SubScaleBits = 0)
{
    public static BlockFields Of(WeightType type)
    {
        int size = WeightFormat.BlockBytes(type);
        return type switch
        {
            WeightType.Q4_1 => new(size, 0, 2, -7.5),
            WeightType.Q5_1 => new(size, 0, 2, -15.5),
            WeightType.Q2_K => new(size, 80, 82, 1.5, 0, 16, 0x8888888888888888),
            WeightType.Q4_K => new(size, 0, 2, 7.5, 4, 8, 0xA0A0A0A0A0A0A0A0),
            WeightType.Q5_K => new(size, 0, 2, 15.5, 4, 8, 0xA0A0A0A0A0A0A0A0),
            WeightType.Q3_K or WeightType.Q6_K => new(size, size - 2),
            WeightType.IQ1_M => new(size, 48),
            _ => new(size, 0),
        };
    }
}
