using System.Globalization;

namespace Qian.Weights;

// Asks the disk before a large file is begun.
internal static class DiskRoom
{
    // `path` need not exist yet. `advice` ends the message of the refusal.
    public static void Require(string path, long neededBytes, string advice)
    {
        string folder = Path.GetFullPath(path);
        while (!Directory.Exists(folder) && Path.GetDirectoryName(folder) is { } parent)
            folder = parent;
        long freeBytes = new DriveInfo(OperatingSystem.IsWindows() ? Path.GetPathRoot(folder)! : folder).AvailableFreeSpace;
        if (neededBytes > freeBytes)
            throw new IOException($"{path} needs {Gigabytes(neededBytes)}, the disk has {Gigabytes(freeBytes)} free; {advice}");
    }

    private static string Gigabytes(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e9:0.00} GB");
}
