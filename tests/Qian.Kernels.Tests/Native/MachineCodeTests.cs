using System.Globalization;
using System.Runtime.InteropServices;
using Iced.Intel;
using Qian.Kernels.Native;
using static Iced.Intel.AssemblerRegisters;

namespace Qian.Kernels.Tests.Native;

public sealed unsafe class MachineCodeTests
{
    [Fact]
    public void EmittedCodeRunsAndCanNoLongerBeWritten()
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
            return;
        Assembler code = MachineCode.NewAssembler();
        code.mov(rax, __qword_ptr[MachineCode.Argument]);
        code.imul(rax, rax, 3);
        code.mov(__qword_ptr[MachineCode.Argument + sizeof(long)], rax);
        code.ret();
        void* address = MachineCode.Publish(code);
        Assert.True(address != null, "this host forbids code made at run time; bfloat16 products fall back to float32 and stay untested");

        long* values = stackalloc long[2];
        values[0] = 14;
        ((delegate* unmanaged<long*, void>)address)(values);
        Assert.Equal(42, values[1]);
        Assert.Equal("r-xp", Protection((ulong)address));
    }

    [Fact]
    public void NoCodeMakesNoPages() => Assert.True(ExecutableMemory.Publish([]) == null);

    [Fact]
    public void BrainCodeExistsWhereTheCpuHasTheInstruction()
    {
        if (!OperatingSystem.IsLinux())
            return;
        bool listed = File.ReadAllText("/proc/cpuinfo").Contains("avx512_bf16", StringComparison.Ordinal);
        Assert.Equal(listed && IsaTier.IsSupported(Isa.Avx512), BrainKernel.IsSupported);
        Assert.Equal(BrainKernel.IsSupported, BrainKernel.IsAvailable);
    }

    // As the kernel sees it: "start-end protection ..." per mapping.
    private static string Protection(ulong address)
    {
        foreach (string line in File.ReadLines("/proc/self/maps"))
        {
            string[] parts = line.Split('-', ' ');
            if (address >= ulong.Parse(parts[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture)
                && address < ulong.Parse(parts[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture))
                return line.Split(' ')[1];
        }

        return "";
    }
}
