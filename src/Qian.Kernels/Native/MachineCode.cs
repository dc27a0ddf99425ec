using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels.Native;

// How kernels made of machine code are written and called: `delegate* unmanaged<Arguments*, void>`, one pointer to a struct that
// lives on the caller's stack. A kernel leaves the stack alone, calls nothing and ends with vzeroupper and ret, so it needs no
// unwinding data. It may use the vectors below, k registers, rax, rdx and r8 to r11, which no system asks it to preserve.
internal static unsafe class MachineCode
{
    // Holds the pointer to the arguments.
    internal static AssemblerRegister64 Argument { get; } = Windows.IsWindows ? rcx : rdi;

    // 512-bit registers; 32, but 22 on Windows, where the lower halves of 6 to 15 belong to the caller (unrun there).
    internal static AssemblerRegisterZMM[] Vectors { get; } = FreeVectors();

    // An assembler that writes the EVEX form where there are two: the VEX forms of the dot products are instructions of another
    // extension, which a CPU may lack.
    internal static Assembler NewAssembler() => new(64) { PreferVex = false };

    // The code's address, or null where the system allows no such code.
    internal static void* Publish(Assembler assembler)
    {
        using var bytes = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(bytes), 0);
        return ExecutableMemory.Publish(bytes.GetBuffer().AsSpan(0, (int)bytes.Length));
    }

    private static AssemblerRegisterZMM[] FreeVectors()
    {
        AssemblerRegisterZMM[] low = [zmm0, zmm1, zmm2, zmm3, zmm4, zmm5];
        AssemblerRegisterZMM[] middle = [zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15];
        AssemblerRegisterZMM[] high =
        [
            zmm16, zmm17, zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
        ];
        return Windows.IsWindows ? [.. low, .. high] : [.. low, .. middle, .. high];
    }
}
