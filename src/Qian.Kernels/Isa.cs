using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.Arm;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>The tiers of kernels. Every fast tier computes what <see cref="Scalar"/> defines.</summary>
public enum Isa
{
    /// <summary>Plain C#: the definition of every operation.</summary>
    Scalar,

    /// <summary>The kernels of <see cref="Avx2"/> in pairs of 128-bit registers, with dot products of bytes (sdot) where the CPU has them.</summary>
    Arm64,

    /// <summary>256-bit C# intrinsics with FMA.</summary>
    Avx2,

    /// <summary><see cref="Avx2"/> with dot products of bytes in one instruction. Bit for bit the same results; only <see cref="Linear"/> tells them apart.</summary>
    AvxVnni,

    /// <summary>512-bit C# intrinsics (F, BW, DQ, VL).</summary>
    Avx512,

    /// <summary><see cref="Avx512"/> with dot products of bytes emitted as machine code. Bit for bit the same results; only <see cref="Linear"/> tells them apart.</summary>
    Vnni,
}

/// <summary>
/// Which tier runs. Chosen once at start-up from what the CPU offers, or forced by the environment variable
/// <c>QIAN_ISA=scalar|arm64|avx2|avxvnni|avx512|vnni</c>, so that one machine can test every tier it has.
/// </summary>
public static class IsaTier
{
    /// <summary>The environment variable that forces a tier.</summary>
    public const string EnvironmentVariable = "QIAN_ISA";

    // Best first. One list drives dispatch, tests and `--version`.
    private static readonly Isa[] s_ordered = [Isa.Vnni, Isa.Avx512, Isa.AvxVnni, Isa.Avx2, Isa.Arm64, Isa.Scalar];

    /// <summary>The tiers that this machine can run, best first.</summary>
    public static IReadOnlyList<Isa> Offered { get; } = Array.FindAll(s_ordered, IsSupported);

    /// <summary>Those of <see cref="Offered"/> that differ in the width of their vectors: all that most operations know.</summary>
    public static IReadOnlyList<Isa> Available { get; } = Array.FindAll(s_ordered, isa => WithoutDots(isa) == isa && IsSupported(isa));

    /// <summary>The tier in use, as <see cref="Linear"/> takes it.</summary>
    public static readonly Isa Products = Choose(Environment.GetEnvironmentVariable(EnvironmentVariable));

    /// <summary>The tier of all other operations. Static readonly, so the JIT folds the dispatch branches away.</summary>
    public static readonly Isa Current = WithoutDots(Products);

    /// <summary>True where the CPU (and the runtime, and the system's rules for code made at run time) can execute the tier.</summary>
    public static bool IsSupported(Isa isa) => isa switch
    {
        Isa.Scalar => true,
        Isa.Arm64 => AdvSimd.Arm64.IsSupported,
        Isa.Avx2 => Avx2.IsSupported && Fma.IsSupported,
        Isa.AvxVnni => AvxVnni.IsSupported && IsSupported(Isa.Avx2),
        Isa.Avx512 => Avx512F.IsSupported && Avx512BW.IsSupported && Avx512DQ.IsSupported && Vector512.IsHardwareAccelerated,
        Isa.Vnni => EmittedDot.IsAvailable,
        _ => false,
    };

    // The tier whose vectors a tier has, where it only adds dot products of bytes.
    internal static Isa WithoutDots(Isa isa) => isa switch
    {
        Isa.Vnni => Isa.Avx512,
        Isa.AvxVnni => Isa.Avx2,
        _ => isa,
    };

    internal static Isa Choose(string? forced)
    {
        if (!BitConverter.IsLittleEndian)
            throw new PlatformNotSupportedException("Qian reads little-endian files in place; this machine is big-endian.");
        if (string.IsNullOrEmpty(forced))
            return Offered[0];
        if (!Enum.TryParse(forced, ignoreCase: true, out Isa isa) || int.TryParse(forced, out _))
            throw new ArgumentException($"{EnvironmentVariable}={forced}: expected scalar, arm64, avx2, avxvnni, avx512 or vnni.");
        if (!IsSupported(isa))
            throw new PlatformNotSupportedException($"{EnvironmentVariable}={forced}: this machine offers only {string.Join(", ", Offered).ToLowerInvariant()}.");
        return isa;
    }
}
