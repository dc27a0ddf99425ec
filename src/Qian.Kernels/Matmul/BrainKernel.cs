using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

/// <summary>
/// The bfloat16 micro-kernel, written as machine code when first asked for because .NET has no vdpbf16ps: each lane adds two products of bfloat16
/// to a float32 sum. 14 x 32 where all 32 registers are free (28 accumulators, two vectors of b, a broadcast pair of a), 9 x 32 on Windows.
/// The instruction rounds to nearest and takes subnormal inputs and results as zero, whatever the modes.
/// </summary>
internal static unsafe class BrainKernel
{
    public const int Columns = 32;

    private const int VectorBytes = 64, PairBytes = 4;

    private static readonly delegate* unmanaged<Arguments*, void> s_code = Emit();

    /// <summary>Rows of a tile: what the registers hold.</summary>
    public static int Rows => (MachineCode.Vectors.Length - 3) / 2;

    /// <summary>The CPU has the instruction and the system let the code be made.</summary>
    public static bool IsAvailable => s_code != null;

    /// <summary>Whether the CPU multiplies bfloat16 in 512-bit registers, and the system saves them.</summary>
    internal static bool IsSupported
    {
        get
        {
            const int features = 7, brainBit = 1 << 5;
            return IsaTier.IsSupported(Isa.Avx512) && X86Base.IsSupported && X86Base.X64.IsSupported
                && X86Base.CpuId(0, 0).Eax >= features && X86Base.CpuId(features, 0).Eax >= 1
                && (X86Base.CpuId(features, 1).Eax & brainBit) != 0;
        }
    }

    public static void Run(long steps, uint* a, uint* b, float* c, long cStride, bool add)
    {
        var arguments = new Arguments { Steps = steps, A = a, B = b, C = c, CStrideBytes = cStride * sizeof(float), Add = add ? 1 : 0 };
        s_code(&arguments);
    }

    private static delegate* unmanaged<Arguments*, void> Emit()
    {
        if (!IsSupported)
            return null;

        AssemblerRegister64 argument = MachineCode.Argument, a = rax, b = rdx, c = r8, stride = r9, steps = r10, row = r11;
        ReadOnlySpan<AssemblerRegisterZMM> vectors = MachineCode.Vectors;
        AssemblerRegisterZMM left = vectors[^3], right = vectors[^2], pair = vectors[^1];
        Assembler code = MachineCode.NewAssembler();
        code.mov(a, __qword_ptr[argument + Offset(nameof(Arguments.A))]);
        code.mov(b, __qword_ptr[argument + Offset(nameof(Arguments.B))]);
        code.mov(c, __qword_ptr[argument + Offset(nameof(Arguments.C))]);
        code.mov(stride, __qword_ptr[argument + Offset(nameof(Arguments.CStrideBytes))]);
        code.mov(steps, __qword_ptr[argument + Offset(nameof(Arguments.Steps))]);

        // c's lines come while the sums are made.
        code.mov(row, c);
        for (int i = 0; i < Rows; i++)
        {
            code.prefetcht0(__byte_ptr[row]);
            code.prefetcht0(__byte_ptr[row + VectorBytes]);
            code.add(row, stride);
        }

        for (int i = 0; i < 2 * Rows; i++)
            code.vpxord(vectors[i], vectors[i], vectors[i]);
        Label step = code.CreateLabel();
        code.Label(ref step);
        code.vmovups(left, __zmmword_ptr[b]);
        code.vmovups(right, __zmmword_ptr[b + VectorBytes]);
        for (int i = 0; i < Rows; i++)
        {
            code.vpbroadcastd(pair, __dword_ptr[a + i * PairBytes]);
            code.vdpbf16ps(vectors[2 * i], left, pair);
            code.vdpbf16ps(vectors[2 * i + 1], right, pair);
        }

        code.add(a, Rows * PairBytes);
        code.add(b, 2 * VectorBytes);
        code.dec(steps);
        code.jne(step);

        Label store = code.CreateLabel();
        code.cmp(__qword_ptr[argument + Offset(nameof(Arguments.Add))], 0);
        code.je(store);
        code.mov(row, c);
        for (int i = 0; i < Rows; i++)
        {
            code.vaddps(vectors[2 * i], vectors[2 * i], __zmmword_ptr[row]);
            code.vaddps(vectors[2 * i + 1], vectors[2 * i + 1], __zmmword_ptr[row + VectorBytes]);
            code.add(row, stride);
        }

        code.Label(ref store);
        for (int i = 0; i < Rows; i++)
        {
            code.vmovups(__zmmword_ptr[c], vectors[2 * i]);
            code.vmovups(__zmmword_ptr[c + VectorBytes], vectors[2 * i + 1]);
            code.add(c, stride);
        }

        code.vzeroupper();
        code.ret();
        return (delegate* unmanaged<Arguments*, void>)MachineCode.Publish(code);
    }

    private static int Offset(string field) => (int)Marshal.OffsetOf<Arguments>(field);

    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public uint* A, B;
        public float* C;
        public long CStrideBytes, Steps, Add;
    }
}
