namespace Qian.Kernels;

// Where everything lies in a K/V block: [layer][K of each head, then V of each head], every head padded to 64 bytes.
//   K of a head: [token / 16][dim][16 tokens]      so one vector holds one dimension of 16 keys: a score needs no horizontal sum;
//   V of a head: [dim / 16][token][16 dims]        so one vector holds 16 dimensions of one token (dims padded to 16).
// Both have the form "rows of 16 lanes", read as one stream, and one kernel serves scores and weighted sums.
// Q8_0 scales follow the head's bytes: K [token / 16][dim / 32][16 tokens], V [dim / 32][token], binary16.
// Knows offsets only, never values.
internal readonly struct KvLayout
{
    // Values side by side in the layout, whatever the vector width of the tier.
    public const int Lanes = 16;

    // Values of a head that share one Q8_0 scale.
    public const int ScaleGroup = 32;

    private const int HeadAlignment = 64;

    private readonly long _keyHeadBytes;
    private readonly long _valueHeadBytes;
    private readonly int _kvHeads;

    public KvLayout(in KvShape shape, KvType type)
    {
        HeadDim = shape.HeadDim;
        BlockTokens = shape.BlockTokens;
        _kvHeads = shape.KvHeads;
        ElementBytes = type switch
        {
            KvType.F32 => 4,
            KvType.F16 or KvType.BF16 => 2,
            KvType.Q8_0 => 1,
            _ => throw new ArgumentOutOfRangeException(nameof(type), type, "not a K/V type"),
        };
        ScaleGroupCount = type == KvType.Q8_0 ? (HeadDim + ScaleGroup - 1) / ScaleGroup : 0;
        KeyDataBytes = (long)BlockTokens * HeadDim * ElementBytes;
        ValueDataBytes = (long)BlockTokens * PadToLanes(HeadDim) * ElementBytes;
        long scaleBytes = (long)BlockTokens * ScaleGroupCount * sizeof(ushort);
        _keyHeadBytes = Align(KeyDataBytes + scaleBytes);
        _valueHeadBytes = Align(ValueDataBytes + scaleBytes);
        BlockBytes = checked(shape.LayerCount * LayerBytes);
    }

    public int HeadDim { get; }
    public int BlockTokens { get; }
    public int ElementBytes { get; }

    // Q8_0 scales of one token of one head; 0 for other types.
    public int ScaleGroupCount { get; }

    // Bytes of a head's keys (values) before its scales.
    public long KeyDataBytes { get; }
    public long ValueDataBytes { get; }

    public long BlockBytes { get; }

    // Bytes from one group of 16 keys to the next.
    public long KeyGroupBytes => (long)HeadDim * Lanes * ElementBytes;

    // Bytes from one group of 16 value dimensions to the next.
    public long ValueGroupBytes => (long)BlockTokens * Lanes * ElementBytes;

    private long LayerBytes => checked(_kvHeads * (_keyHeadBytes + _valueHeadBytes));

    public long KeyOffset(int layerIndex, int kvHeadIndex) => layerIndex * LayerBytes + kvHeadIndex * _keyHeadBytes;

    public long ValueOffset(int layerIndex, int kvHeadIndex) => layerIndex * LayerBytes + _kvHeads * _keyHeadBytes + kvHeadIndex * _valueHeadBytes;

    public static int PadToLanes(int count) => (count + Lanes - 1) & ~(Lanes - 1);

    private static long Align(long bytes) => (bytes + HeadAlignment - 1) & ~(long)(HeadAlignment - 1);
}
