using System.Runtime.InteropServices;

namespace Qian.Kernels.Native;

// The few libc calls behind NativeBuffer and MappedFile. Linux values; on other systems the callers use portable .NET
// memory instead, so a missing call costs speed (huge pages, read-ahead), never function.
internal static unsafe partial class Posix
{
    internal const int AdviseDontNeed = 4;
    internal const int AdviseHugePage = 14;
    internal const int AdvisePopulateRead = 22;

    internal static bool IsLinux { get; } = OperatingSystem.IsLinux();

    [LibraryImport("libc", SetLastError = true)]
    private static partial int madvise(void* address, nuint length, int advice);

    // Advice is only advice: a kernel that refuses it (an old one, a container) changes nothing but speed.
    internal static bool Advise(void* address, nuint length, int advice) => IsLinux && madvise(address, length, advice) == 0;
}
