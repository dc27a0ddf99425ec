using System.Runtime.InteropServices;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

// The loop of ProductCeiling for bfloat16 pairs, as machine code because C# has no such instruction: two vectors loaded in every
// round by six held in registers, into 12 accumulators.
internal static unsafe class BrainLoop
{
    // Two bfloat16 products per 32-bit lane.
    public const int MacsPerRound = Loaded * Held * 32;

    private const int Loaded = 2, Held = 6, VectorBytes = 64;

    private static readonly delegate* unmanaged<Arguments*, void> s_code = BrainKernel.IsSupported ? Emit() : null;

    public static bool IsAvailable => s_code != null;

    public static int Run(byte* operands, int rounds)
    {
        var arguments = new Arguments { Operands = operands, Rounds = rounds };
        s_code(&arguments);
        return 0;
    }

    private static delegate* unmanaged<Arguments*, void> Emit()
    {
        AssemblerRegister64 operands = rax, rounds = rdx;
        ReadOnlySpan<AssemblerRegisterZMM> sums = MachineCode.Vectors.AsSpan(0, Loaded * Held);
        ReadOnlySpan<AssemblerRegisterZMM> loaded = MachineCode.Vectors.AsSpan(sums.Length, Loaded);
        ReadOnlySpan<AssemblerRegisterZMM> held = MachineCode.Vectors.AsSpan(sums.Length + Loaded, Held);
        Assembler code = MachineCode.NewAssembler();
        code.mov(operands, __qword_ptr[MachineCode.Argument]);
        code.mov(rounds, __qword_ptr[MachineCode.Argument + sizeof(long)]);
        foreach (AssemblerRegisterZMM sum in sums)
            code.vpxord(sum, sum, sum);
        for (int i = 0; i < Held; i++)
            code.vmovups(held[i], __zmmword_ptr[operands + i * VectorBytes]);
        Label round = code.CreateLabel();
        code.Label(ref round);
        for (int i = 0; i < Loaded; i++)
            code.vmovups(loaded[i], __zmmword_ptr[operands + i * VectorBytes]);
        for (int i = 0; i < sums.Length; i++)
            code.vdpbf16ps(sums[i], loaded[i / Held], held[i % Held]);
        code.dec(rounds);
        code.jne(round);
        code.vzeroupper();
        code.ret();
        return (delegate* unmanaged<Arguments*, void>)MachineCode.Publish(code);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Arguments
    {
        public byte* Operands;
        public long Rounds;
    }
}
