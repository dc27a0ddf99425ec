using Qian.Kernels.Native;

namespace Qian.Kernels;

/// <summary>
/// Tells files from what only looks like one: opening a pipe waits for ever, and writing over a device destroys it.
/// </summary>
public static class RegularFile
{
    private const int RegularType = 0x8000;
    private const int FolderType = 0x4000;

    /// <summary>Refuses a path that names a device, a pipe or a socket; a path that does not exist passes.</summary>
    /// <exception cref="IOException">The path names something that is not a regular file.</exception>
    public static void Require(string path)
    {
        int type = Posix.FileType(path);
        if (type is not (0 or RegularType or FolderType))
            throw new IOException($"{path}: this is a device, a pipe or a socket; expected a regular file.");
    }
}
