namespace Qian.Kernels;

/// <summary>
/// A block of weights ready for the integer kernels: 16 rows x up to 256 columns of unsigned bytes, a few KiB that stay in the first
/// cache while every tile of activations meets them. So a weight is decoded once for many columns, and the kernels know
/// kinds of sums (<see cref="DotKind"/>), not file formats.
///   Quants   per group, steps of 64 bytes (4 columns x 16 rows). For C#, U8 kinds hold two planes of nibbles, low then high
///   Scales   [group][sub][16 rows] floats; U6: one scale for the block
///   Offsets  the same shape: the term that meets the sums of activations; U6: [group][16-column half][16 rows], the integer scale as float
///   RunScales  U6 only: [group][16-column half][16 rows] dwords, the integer scale in both 16-bit lanes
/// </summary>
internal readonly unsafe struct UnpackedBlock
{
    private const int QuantBytes = 2 * PanelLayout.BlockColumns * PanelLayout.PanelRows;
    public const int FloatBytes = 2 * PanelLayout.BlockGroups * PanelLayout.PanelRows * sizeof(float);

    public const int Bytes = QuantBytes + 3 * FloatBytes;

    public readonly byte* Quants;
    public readonly float* Scales;
    public readonly float* Offsets;
    public readonly int* RunScales;

    public UnpackedBlock(byte* memory)
    {
        Quants = memory;
        Scales = (float*)(memory + QuantBytes);
        Offsets = (float*)(memory + QuantBytes + FloatBytes);
        RunScales = (int*)(memory + QuantBytes + 2 * FloatBytes);
    }
}

/// <summary>
/// The integer sum of one group as a sequence of runs: each adds up <see cref="Steps"/> steps of byte products in 16 bits, as many as cannot
/// overflow, then widens to 32. Constants to the JIT, so the kernels specialise.
/// </summary>
internal interface IDotKind
{
    // Parts of a group with their own float scale.
    static abstract int Subs { get; }

    static abstract int Runs { get; }

    static abstract int Steps { get; }

    // Run 1 repeats the columns of run 0 with the high nibbles.
    static abstract bool HasPlanes { get; }

    // Runs are multiplied by an integer scale each (two runs to a scale).
    static abstract bool HasRunScales { get; }
}

// Weights 0..31 with a float scale and offset per 16: 4 x 2 x 31 x 127 = 31,496.
internal readonly struct U5By16 : IDotKind
{
    public static int Subs => 2;

    public static int Runs => 1;

    public static int Steps => 4;

    public static bool HasPlanes => false;

    public static bool HasRunScales => false;
}

// Weights 0..15: 8 steps x 2 products x 15 x 127 = 30,480.
internal readonly struct U4 : IDotKind
{
    public static int Subs => 1;

    public static int Runs => 1;

    public static int Steps => 8;

    public static bool HasPlanes => false;

    public static bool HasRunScales => false;
}

// Weights 0..31: 4 x 2 x 31 x 127 = 31,496.
internal readonly struct U5 : IDotKind
{
    public static int Subs => 1;

    public static int Runs => 2;

    public static int Steps => 4;

    public static bool HasPlanes => false;

    public static bool HasRunScales => false;
}

// Weights 0..63, 32 too high, under an integer scale per 16: 2 x 2 x 63 x 127 = 32,004. With the biases taken off, a group's sum is an integer
// below 2^24, so it is exact as a float too. One float scale per block.
internal readonly struct U6 : IDotKind
{
    public static int Subs => 1;

    public static int Runs => 4;

    public static int Steps => 2;

    public static bool HasPlanes => false;

    public static bool HasRunScales => true;
}

// Whole bytes as low + 16 x high nibble.
internal readonly struct U8 : IDotKind
{
    public static int Subs => 1;

    public static int Runs => 2;

    public static int Steps => 8;

    public static bool HasPlanes => true;

    public static bool HasRunScales => false;
}

// Whole bytes with a float scale per 16: what every type without a packed layout becomes.
internal readonly struct U8By16 : IDotKind
{
    public static int Subs => 2;

    public static int Runs => 2;

    public static int Steps => 4;

    public static bool HasPlanes => true;

    public static bool HasRunScales => false;
}
