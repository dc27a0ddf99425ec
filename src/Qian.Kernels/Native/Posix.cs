using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Qian.Kernels.Native;

// The few libc calls behind NativeBuffer, MappedFile and ExecutableMemory. Linux values; on other systems the callers use portable .NET
// memory instead, so a missing call costs speed (huge pages, read-ahead), never function.
internal static unsafe partial class Posix
{
    internal const int AdviseRandom = 1;
    internal const int AdviseDontNeed = 4;
    internal const int AdviseHugePage = 14;
    internal const int AdvisePopulateRead = 22;

    internal static bool IsLinux { get; } = OperatingSystem.IsLinux();

    [LibraryImport("libc", SetLastError = true)]
    private static partial int madvise(void* address, nuint length, int advice);

    [LibraryImport("libc", SetLastError = true)]
    private static partial byte* mmap(void* address, nuint length, int protection, int flags, int file, nint offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int munmap(void* address, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mprotect(void* address, nuint length, int protection);

    // Fresh zero pages, each made when it is first touched, by whoever touches it. Null when the system refuses.
    internal static byte* MapZeroed(nuint length)
    {
        const int readWrite = 3, privateAnonymous = 0x22;
        byte* address = mmap(null, length, readWrite, privateAnonymous, -1, 0);
        return (nint)address == -1 ? null : address;
    }

    internal static void Unmap(void* address, nuint length) => _ = munmap(address, length);

    // Readable and executable, no longer writable. False when the system refuses (SELinux, hardened containers).
    internal static bool MakeExecutable(void* address, nuint length)
    {
        const int readExecute = 5;
        return mprotect(address, length, readExecute) == 0;
    }

    // statx has one layout on every CPU, unlike stat: struct statx, u16 stx_mode at byte 28.
    [LibraryImport("libc", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int statx(int folder, string path, int flags, uint mask, byte* result);

    // The file type bits of st_mode, 0 when they cannot be told here (no such file, another system).
    internal static int FileType(string path)
    {
        const int currentFolder = -100, statxBytes = 256, modeOffset = 28, typeMask = 0xF000;
        const uint typeOnly = 1;
        if (!IsLinux)
            return 0;
        byte* result = stackalloc byte[statxBytes];
        try
        {
            return statx(currentFolder, path, 0, typeOnly, result) == 0 ? *(ushort*)(result + modeOffset) & typeMask : 0;
        }
        catch (EntryPointNotFoundException)
        {
            return 0; // a libc from before 2018
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mincore(void* address, nuint length, byte* pages);

    // Whether all pages of a mapped file's piece are in the page cache. A kernel that does not tell strangers says yes, and ordinary reading follows.
    internal static bool IsResident(byte* address, int length)
    {
        if (!IsLinux || length <= 0)
            return false;
        nuint page = (nuint)Environment.SystemPageSize;
        nuint first = (nuint)address & ~(page - 1);
        int count = (int)(((nuint)address + (nuint)length - first + page - 1) / page);
        byte* pages = stackalloc byte[Math.Min(count, 4096)];
        for (int done = 0; done < count; done += 4096)
        {
            int part = Math.Min(4096, count - done);
            if (mincore((void*)(first + (nuint)done * page), (nuint)part * page, pages) != 0)
                return false;
            for (int i = 0; i < part; i++)
            {
                if ((pages[i] & 1) == 0)
                    return false;
            }
        }

        return true;
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int OpenFile(string path, int flags);

    // For reading past the page cache, in whole pages into page-aligned memory. Null where the system or the file system has no such thing.
    internal static SafeFileHandle? OpenDirect(string path)
    {
        const int closeOnExec = 0x80000;
        int direct = RuntimeInformation.ProcessArchitecture switch
        {
            Architecture.X64 or Architecture.X86 => 0x4000,
            Architecture.Arm64 or Architecture.Arm => 0x10000,
            _ => 0,
        };
        if (!IsLinux || direct == 0)
            return null;
        int file = OpenFile(path, direct | closeOnExec);
        return file < 0 ? null : new SafeFileHandle(file, ownsHandle: true);
    }

    // Advice is only advice: a kernel that refuses it (an old one, a container) changes nothing but speed.
    internal static bool Advise(void* address, nuint length, int advice) => IsLinux && madvise(address, length, advice) == 0;
}
