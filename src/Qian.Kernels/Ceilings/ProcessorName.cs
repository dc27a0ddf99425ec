using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace Qian.Kernels;

/// <summary>What the processor calls itself, so that figures can be told apart by machine.</summary>
public static class ProcessorName
{
    private const int FirstLeaf = unchecked((int)0x80000002), LastLeaf = unchecked((int)0x80000004);

    /// <summary>The brand string of an x86 processor; elsewhere the architecture's name.</summary>
    public static string Text { get; } = X86Base.IsSupported ? Brand() : RuntimeInformation.ProcessArchitecture.ToString();

    private static string Brand()
    {
        if ((uint)X86Base.CpuId(unchecked((int)0x80000000), 0).Eax < unchecked((uint)LastLeaf))
            return RuntimeInformation.ProcessArchitecture.ToString();
        var registers = new List<int>();
        for (int leaf = FirstLeaf; leaf <= LastLeaf; leaf++)
        {
            (int eax, int ebx, int ecx, int edx) = X86Base.CpuId(leaf, 0);
            registers.AddRange([eax, ebx, ecx, edx]);
        }

        return System.Text.Encoding.ASCII.GetString(MemoryMarshal.AsBytes(CollectionsMarshal.AsSpan(registers))).Trim('\0', ' ');
    }
}
