namespace Qian.Kernels;

/// <summary>
/// The innermost product: one tile of c, held in registers, over one block of K. The tile's rows come from a packed panel of a (for each
/// step <see cref="Rows"/> dwords), its columns from a packed panel of b (<see cref="Columns"/> dwords, aligned to 64 bytes). A dword is one float,
/// or a pair of bfloat16 of neighbouring k. Knows nothing of blocks, threads or edges: tiles are always whole.
/// </summary>
internal readonly unsafe struct MicroKernel(int rows, int columns, bool isBrain, delegate*<long, uint*, uint*, float*, long, bool, void> run)
{
    // Dwords of K that are summed in registers before c is touched.
    public const int MaxSteps = 512;

    private static readonly MicroKernel s_256 = new(MicroKernel256.Rows, MicroKernel256.Columns, false, &MicroKernel256.Run);
    private static readonly MicroKernel s_avx512 = new(MicroKernelAvx512.Rows, MicroKernelAvx512.Columns, false, &MicroKernelAvx512.Run);

    public int Rows { get; } = rows;

    public int Columns { get; } = columns;

    /// <summary>Panels of bfloat16 pairs rather than floats.</summary>
    public bool IsBrain { get; } = isBrain;

    /// <summary>k per dword.</summary>
    public int Depth => IsBrain ? 2 : 1;

    /// <summary>tile (+)= panel of a · panel of b over a number of steps: (steps, a, b, c, c's row stride in floats, whether to add).</summary>
    public delegate*<long, uint*, uint*, float*, long, bool, void> Run { get; } = run;

    /// <summary>The kernel of a fast tier. Without code for bfloat16 (or in the tier below) its products are float32's, unrounded.</summary>
    public static MicroKernel For(Isa isa, MatmulPrecision precision)
    {
        if (isa is Isa.Avx2 or Isa.Arm64)
            return s_256;
        return precision == MatmulPrecision.BFloat16 && BrainKernel.IsAvailable
            ? new MicroKernel(BrainKernel.Rows, BrainKernel.Columns, true, &BrainKernel.Run)
            : s_avx512;
    }
}
