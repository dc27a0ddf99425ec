namespace Qian.Kernels.Native;

// Pages for code made at run time. They are written first and made executable after, never both at once, and stay for the
// life of the process: kernels are few, small and used by threads that nobody asks whether they are done.
internal static unsafe class ExecutableMemory
{
    private const byte Breakpoint = 0xCC;

    // A copy of the code (which must not depend on its address), or null where the system allows none: hardened hosts forbid
    // executable pages that were once writable, and other systems than Linux and Windows are not served.
    internal static void* Publish(ReadOnlySpan<byte> code)
    {
        nuint bytes = ((nuint)code.Length + (nuint)Environment.SystemPageSize - 1) / (nuint)Environment.SystemPageSize * (nuint)Environment.SystemPageSize;
        if (code.IsEmpty)
            return null;
        if (Posix.IsLinux)
            return PublishOnLinux(code, bytes);
        return Windows.IsWindows ? PublishOnWindows(code, bytes) : null;
    }

    private static void* PublishOnLinux(ReadOnlySpan<byte> code, nuint bytes)
    {
        byte* pages = Posix.MapZeroed(bytes);
        if (pages == null)
            return null;
        Fill(pages, code, bytes);
        if (Posix.MakeExecutable(pages, bytes))
            return pages;
        Posix.Unmap(pages, bytes);
        return null;
    }

    private static void* PublishOnWindows(ReadOnlySpan<byte> code, nuint bytes)
    {
        byte* pages = (byte*)Windows.VirtualAlloc(null, bytes, Windows.Commit | Windows.Reserve, Windows.ReadWrite);
        if (pages == null)
            return null;
        Fill(pages, code, bytes);
        uint before;
        if (Windows.VirtualProtect(pages, bytes, Windows.ExecuteRead, &before) != 0
            && Windows.FlushInstructionCache(Windows.GetCurrentProcess(), pages, bytes) != 0)
            return pages;
        _ = Windows.VirtualFree(pages, 0, Windows.Release);
        return null;
    }

    private static void Fill(byte* pages, ReadOnlySpan<byte> code, nuint bytes)
    {
        var all = new Span<byte>(pages, (int)bytes);
        code.CopyTo(all);
        all[code.Length..].Fill(Breakpoint);
    }
}
