namespace Qian.Kernels;

/// <summary>How the integers of a packed type are summed; see <see cref="UnpackedBlock"/>.</summary>
internal enum DotKind
{
    U5By16,
    U4,
    U5,
    U6,
    U8,
    U8By16,
}

/// <summary>
/// The packed layout, id 1. Sixteen rows make a panel; a dword holds 4 neighbouring columns of one row, and 16 dwords (64
/// bytes, one 512-bit register or two 256-bit ones) hold a step: 4 columns of all 16 rows. Eight steps make a group of 32 columns,
/// eight groups a block. A panel is two regions, each read front to back:
///   head    per block or group: half-precision scales [16 rows], then the small integer scales [sub-block][16 rows]
///   quants  per group: the steps; 4-bit parts of steps s and s+4 share a byte (low, high), further bits follow as bit planes
/// Every dot product is then a vertical sum over broadcast activations: no horizontal sums, no scalar scale decoding. The
/// bytes say nothing of the instruction set. Missing rows of the last panel have scale zero.
/// </summary>
internal readonly struct PanelLayout
{
    // Raised with every change of what a packed matrix looks like: stored copies of older ones are made anew.
    public const int Version = 1;

    public const int PanelRows = 16;
    public const int GroupColumns = 32;
    public const int BlockGroups = 8;
    public const int BlockColumns = GroupColumns * BlockGroups;
    public const int StepBytes = 64;

    // Added to Q3_K's codes when they are unpacked: 0..7 for -4..3 become 28..35.
    public const byte ThreeBitLift = 32 - 4;

    // NVFP4's scale bits, placed as those of a half float, are this much too small: 2^8 for the exponent's bias, and half a scale is what levels take.
    public const float MiniFloatUnit = 128;

    // How far ahead of the quants being unpacked memory is asked for; 4 KiB is a fifth slower, 16 KiB no faster.
    public const int PrefetchBytes = 8192;

    private PanelLayout(WeightType type, DotKind kind, int groupCount, int headBlockBytes, int quantGroupBytes)
    {
        Type = type;
        Kind = kind;
        GroupCount = groupCount;
        BlockCount = (groupCount + BlockGroups - 1) / BlockGroups;
        HeadBlockBytes = headBlockBytes;
        QuantGroupBytes = quantGroupBytes;
        // Quants start on a cache line. Types with a head per group pay only for the groups that exist.
        long head = (long)groupCount * headBlockBytes / BlockGroups;
        HeadBytes = (head + 63) & -64;
        PanelBytes = HeadBytes + (long)groupCount * quantGroupBytes;
    }

    public WeightType Type { get; }

    public DotKind Kind { get; }

    // Values are rows of a code book.
    public bool IsBook => Type is WeightType.IQ1_S or WeightType.IQ1_M or WeightType.IQ2_XXS or WeightType.IQ2_XS or WeightType.IQ2_S or WeightType.IQ3_XXS or WeightType.IQ3_S;

    public int GroupCount { get; }

    public int BlockCount { get; }

    public int HeadBlockBytes { get; }

    public int QuantGroupBytes { get; }

    public long HeadBytes { get; }

    public long PanelBytes { get; }

    public static bool Exists(WeightType type) => Sizes(type).QuantGroupBytes > 0;

    public static PanelLayout For(WeightType type, int columnCount)
    {
        (DotKind kind, int headBlockBytes, int quantGroupBytes) = Sizes(type);
        return new PanelLayout(type, kind, columnCount / GroupColumns, headBlockBytes, quantGroupBytes);
    }

    public long TotalBytes(int rowCount) => (rowCount + PanelRows - 1) / PanelRows * PanelBytes;

    // The last block of a row may hold fewer groups; only types with blocks of 32 come to that.
    public int GroupsIn(int block) => Math.Min(BlockGroups, GroupCount - block * BlockGroups);

    private static (DotKind Kind, int HeadBlockBytes, int QuantGroupBytes) Sizes(WeightType type) => type switch
    {
        // d[16], dmin[16] as halves, scale (low half) and min [16][16]; 2 planes of bit pairs per group, one for either half
        WeightType.Q2_K => (DotKind.U5By16, 32 + 32 + 256, 128),
        // d[16] as halves, signed scale[16][16]; bit pairs, and 64 bytes of third bits
        WeightType.Q3_K => (DotKind.U6, 32 + 256, 128 + 64),
        // d[16], dmin[16] as halves, scale[8][16], min[8][16]
        WeightType.Q4_K => (DotKind.U4, 32 + 32 + 128 + 128, 256),
        // the same, and 64 bytes of fifth bits per group
        WeightType.Q5_K => (DotKind.U5, 32 + 32 + 128 + 128, 256 + 64),
        // d[16] as halves, signed scale[16][16]; 128 bytes of bit pairs per group
        WeightType.Q6_K => (DotKind.U6, 32 + 256, 256 + 128),
        // d[16] as halves per group; bytes are value + 128
        WeightType.Q8_0 => (DotKind.U8, BlockGroups * 32, 512),
        // d[16] as halves per group; codes 0..15 stand for -8..7
        WeightType.Q4_0 => (DotKind.U4, BlockGroups * 32, 256),
        // d[16] as halves per group; codes of the uneven levels
        WeightType.IQ4_NL => (DotKind.U8, BlockGroups * 32, 256),
        // d[16] as halves, scale + 32 [8][16]; codes of the uneven levels
        WeightType.IQ4_XS => (DotKind.U8, 32 + 128, 256),
        // exponent[16] per group; codes of the four-bit floats
        WeightType.MXFP4 => (DotKind.U5, BlockGroups * 16, 256),
        // scale[2][16] per group, 7 bits of exponent and mantissa; codes of the four-bit floats
        WeightType.NVFP4 => (DotKind.U5By16, BlockGroups * 32, 256),
        // see PanelPacking.Books
        WeightType.IQ1_S => (DotKind.U4, BookHead.Bytes<Iq1SBook>(), BookHead.GroupBytes<Iq1SBook>()),
        WeightType.IQ1_M => (DotKind.U6, BookHead.Bytes<Iq1MBook>(), BookHead.GroupBytes<Iq1MBook>()),
        WeightType.IQ2_XXS => (DotKind.U8, BookHead.Bytes<Iq2XxsBook>(), BookHead.GroupBytes<Iq2XxsBook>()),
        WeightType.IQ2_XS => (DotKind.U8By16, BookHead.Bytes<Iq2XsBook>(), BookHead.GroupBytes<Iq2XsBook>()),
        WeightType.IQ2_S => (DotKind.U8By16, BookHead.Bytes<Iq2SBook>(), BookHead.GroupBytes<Iq2SBook>()),
        WeightType.IQ3_XXS => (DotKind.U8, BookHead.Bytes<Iq3XxsBook>(), BookHead.GroupBytes<Iq3XxsBook>()),
        WeightType.IQ3_S => (DotKind.U5, BookHead.Bytes<Iq3SBook>(), BookHead.GroupBytes<Iq3SBook>()),
        _ => default,
    };
}
