namespace Qian.Kernels;

/// <summary>What the products of <see cref="Matmul"/> are computed in; inputs and outputs are float32 always.</summary>
public enum MatmulPrecision
{
    /// <summary>float32 products, float32 sums.</summary>
    Float32,

    /// <summary>
    /// Inputs rounded to bfloat16 (nearest, ties to even), float32 sums; subnormals count as zero. Twice the speed of float32
    /// where the CPU has AVX512_BF16 and the system lets a process make code; elsewhere the same as <see cref="Float32"/>, unrounded.
    /// </summary>
    BFloat16,
}
