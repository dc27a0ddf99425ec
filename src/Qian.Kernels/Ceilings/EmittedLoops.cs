using System.Runtime.InteropServices;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels;

// The loops of ProductCeiling for instructions that C# lacks, as machine code: two vectors loaded in every round by six held in registers, into
// 12 accumulators.
internal static unsafe class EmittedLoops
{
    // Two bfloat16 products per 32-bit lane.
    public const int BrainMacsPerRound = Loaded * Held * 32;

    // Four products of bytes per lane.
    public const int ByteMacsPerRound = Loaded * Held * 64;

    private const int Loaded = 2, Held = 6, VectorBytes = 64;

    private static readonly delegate* unmanaged<Arguments*, void> s_brain = BrainKernel.IsSupported ? Emit((code, sum, a, b) => code.vdpbf16ps(sum, a, b)) : null;
    private static readonly delegate* unmanaged<Arguments*, void> s_bytes = EmittedDot.IsSupported ? Emit((code, sum, a, b) => code.vpdpbusd(sum, a, b)) : null;

    public static bool HasBrain => s_brain != null;

    public static bool HasBytes => s_bytes != null;

    public static int Brain(byte* operands, int rounds) => Run(s_brain, operands, rounds);

    public static int Bytes(byte* operands, int rounds) => Run(s_bytes, operands, rounds);

    private static int Run(delegate* unmanaged<Arguments*, void> loop, byte* operands, int rounds)
    {
        var arguments = new Arguments { Operands = operands, Rounds = rounds };
        loop(&arguments);
        return 0;
    }

    private static delegate* unmanaged<Arguments*, void> Emit(Action<Assembler, AssemblerRegisterZMM, AssemblerRegisterZMM, AssemblerRegisterZMM> product)
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
            product(code, sums[i], loaded[i / Held], held[i % Held]);
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
