using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>
/// How many multiply-accumulates all threads together can do with one form of instructions: operands in registers and the
/// first cache, accumulators in registers, nothing else. What the products of a prefill can at best reach with that form.
/// </summary>
public sealed unsafe class ProductCeiling
{
    // More chunks than threads, so that a thread that was held up does not hold up the figure.
    private const int ChunksPerThread = 8;

    private readonly delegate*<byte*, int, int> _loop;
    private readonly int _macsPerRound;

    private ProductCeiling(string form, int macsPerRound, delegate*<byte*, int, int> loop)
    {
        Form = form;
        _macsPerRound = macsPerRound;
        _loop = loop;
    }

    /// <summary>Forms of 8-bit products (unsigned by signed, added up in 32 bits) of the tier in use; their fastest is the ceiling.</summary>
    public static IReadOnlyList<ProductCeiling> Int8 { get; } = Int8Forms(IsaTier.Products);

    /// <summary>Forms of float32 products of the tier in use.</summary>
    public static IReadOnlyList<ProductCeiling> Float32 { get; } = Float32Forms(IsaTier.Current);

    /// <summary>Forms of bfloat16 products summed in float32; without the instruction (or the right to make code) those of <see cref="Float32"/>, which are then used instead.</summary>
    public static IReadOnlyList<ProductCeiling> BFloat16 { get; } = BFloat16Forms(IsaTier.Current);

    /// <summary>The instructions, by name.</summary>
    public string Form { get; }

    /// <summary>Runs <paramref name="rounds"/> rounds per chunk on all threads and returns the multiply-accumulates done.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Fewer than one round.</exception>
    public long Run(int rounds, ThreadTeam team)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(rounds, 1);
        ArgumentNullException.ThrowIfNull(team);
        // Zeros: the bits of an operand do not change the speed, and floats stay clear of denormals.
        using NativeBuffer operands = NativeBuffer.Allocate(ProductLoops.OperandBytes);
        var job = new LoopJob { Loop = _loop, Operands = operands.Pointer, Rounds = rounds };
        int chunkCount = team.ThreadCount * ChunksPerThread;
        team.Run(ref job, chunkCount);
        return (long)chunkCount * rounds * _macsPerRound;
    }

    private static List<ProductCeiling> Int8Forms(Isa tier)
    {
        var forms = new List<ProductCeiling>();
        if (tier == Isa.Vnni && EmittedLoops.HasBytes)
            forms.Add(new ProductCeiling("vpdpbusd, 512 bit", EmittedLoops.ByteMacsPerRound, &EmittedLoops.Bytes));
        if (tier is Isa.Vnni or Isa.Avx512)
            forms.Add(new ProductCeiling("vpmaddubsw + vpmaddwd, 512 bit", 12 * 64, &ProductLoops.BytesAvx512));
        if (tier is Isa.Avx2 or Isa.AvxVnni)
            forms.Add(new ProductCeiling("vpmaddubsw + vpmaddwd, 256 bit", 9 * 32, &ProductLoops.BytesAvx2));
        if (tier != Isa.Scalar && AvxVnni.IsSupported)
            forms.Add(new ProductCeiling("vpdpbusd, 256 bit", 9 * 32, &ProductLoops.BytesSummed<VnniDot>));
        if (tier == Isa.Arm64)
            forms.Add(new ProductCeiling(Dp.IsSupported ? "sdot, 128 bit" : "smull, 128 bit", 9 * 32, &ProductLoops.BytesSummed<ArmDot>));
        if (forms.Count == 0)
            forms.Add(new ProductCeiling("portable, 128 bit", 2 * 16, &ProductLoops.BytesPortable));
        return forms;
    }

    private static List<ProductCeiling> Float32Forms(Isa tier) => tier switch
    {
        Isa.Avx512 => [new ProductCeiling("vfmadd, 512 bit", 12 * Vector512<float>.Count, &ProductLoops.FloatsAvx512)],
        Isa.Avx2 => [new ProductCeiling("vfmadd, 256 bit", 9 * Vector256<float>.Count, &ProductLoops.Floats256)],
        Isa.Arm64 => [new ProductCeiling("fmla, 128 bit", 9 * Vector256<float>.Count, &ProductLoops.Floats256)],
        _ => [new ProductCeiling("portable, 128 bit", 9 * Vector128<float>.Count, &ProductLoops.FloatsPortable)],
    };

    private static IReadOnlyList<ProductCeiling> BFloat16Forms(Isa tier) => tier == Isa.Avx512 && EmittedLoops.HasBrain
        ? [new ProductCeiling("vdpbf16ps, 512 bit", EmittedLoops.BrainMacsPerRound, &EmittedLoops.Brain)]
        : Float32;

    private struct LoopJob : IChunkedJob
    {
        public delegate*<byte*, int, int> Loop;
        public byte* Operands;
        public int Rounds;
        public int Sum;

        public void Run(int chunkIndex) => Interlocked.Add(ref Sum, Loop(Operands, Rounds));
    }
}
