using System.Runtime.InteropServices;

namespace Qian.Kernels.Native;

// The kernel32 calls behind ExecutableMemory. Written from the documentation; not yet run on Windows.
internal static unsafe partial class Windows
{
    internal const uint Commit = 0x1000, Reserve = 0x2000, Release = 0x8000;
    internal const uint ReadWrite = 0x04, ExecuteRead = 0x20;

    internal static bool IsWindows { get; } = OperatingSystem.IsWindows();

    [LibraryImport("kernel32", SetLastError = true)]
    internal static partial void* VirtualAlloc(void* address, nuint length, uint type, uint protection);

    [LibraryImport("kernel32", SetLastError = true)]
    internal static partial int VirtualProtect(void* address, nuint length, uint protection, uint* before);

    [LibraryImport("kernel32", SetLastError = true)]
    internal static partial int VirtualFree(void* address, nuint length, uint type);

    [LibraryImport("kernel32", SetLastError = true)]
    internal static partial int FlushInstructionCache(nint process, void* address, nuint length);

    [LibraryImport("kernel32")]
    internal static partial nint GetCurrentProcess();
}
