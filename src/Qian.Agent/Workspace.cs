using System.IO.Enumeration;
using System.Text;

namespace Qian.Agent;

// The folder that an agent works in, and all that it may see of the disk. Every path comes from the model and is hostile: it is
// followed link by link to what it really names, and refused when that lies outside. Files are read whole within bounds, as text;
// they are written beside their place and then renamed, so that no half file is ever seen. A link that somebody else plants between
// the look and the use is beyond this: whoever can do that may write in the folder anyway.
internal sealed class Workspace
{
    public const int MostBytes = 1 << 20;
    private const int MostPathCharacters = 1024;
    private const int MostLinks = 40;
    private const int MostEntries = 20_000;

    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);
    private static readonly char[] s_separators = [Path.DirectorySeparatorChar, Path.AltDirectorySeparatorChar];

    // Made by programs, for programs.
    private static readonly string[] s_skippedFolders = ["node_modules", "bin", "obj", "__pycache__"];

    // A folder that exists.
    public Workspace(string folder)
    {
        if (!Directory.Exists(folder))
            throw new DirectoryNotFoundException($"There is no folder {folder}.");
        Root = Real(Path.GetFullPath(folder));
    }

    public string Root { get; }

    // What a path of the model's names on the disk, whether it exists or not.
    public string Resolve(string path)
    {
        if (path.Length is 0 or > MostPathCharacters || path.Contains('\0', StringComparison.Ordinal))
            throw new ToolException("this is no path");
        string real = Real(Path.Combine(Root, path));
        if (real != Root && !real.StartsWith(Path.EndsInDirectorySeparator(Root) ? Root : Root + Path.DirectorySeparatorChar, StringComparison.Ordinal))
            throw new ToolException($"{path} lies outside the project folder");
        return real;
    }

    // A file's text with plain line ends; null when there is no such file.
    public string? Find(string path)
    {
        var file = new FileInfo(Resolve(path));
        if (Directory.Exists(file.FullName))
            throw new ToolException($"{path} is a folder");
        if (!file.Exists)
            return null;
        if (file.Length > MostBytes)
            throw new ToolException($"{path} has {file.Length} bytes; at most {MostBytes} can be read");
        // What has no length is not opened: a pipe would keep us waiting for ever.
        byte[] bytes = new byte[file.Length];
        if (bytes.Length > 0)
        {
            using FileStream stream = file.OpenRead();
            bytes = bytes[..stream.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false)];
        }

        try
        {
            string text = s_strict.GetString(bytes);
            return text.Contains('\0', StringComparison.Ordinal) ? throw new ToolException($"{path} is not a text") : text;
        }
        catch (DecoderFallbackException)
        {
            throw new ToolException($"{path} is not a text in UTF-8");
        }
    }

    public string Read(string path) => Find(path) ?? throw new ToolException($"no file {path}");

    // Writes all of a file; folders on the way are made.
    public void Write(string path, string text)
    {
        string real = CheckWrite(path, text);
        Directory.CreateDirectory(Path.GetDirectoryName(real)!);
        string beside = $"{real}.{Guid.NewGuid():N}.part";
        try
        {
            File.WriteAllText(beside, text, s_strict);
            if (!OperatingSystem.IsWindows() && File.Exists(real))
                File.SetUnixFileMode(beside, File.GetUnixFileMode(real));
            File.Move(beside, real, overwrite: true);
        }
        finally
        {
            File.Delete(beside);
        }
    }

    // Where this text would be written; what cannot be written is refused before anybody is asked.
    public string CheckWrite(string path, string text)
    {
        string real = Resolve(path);
        if (real == Root || Directory.Exists(real))
            throw new ToolException($"{path} is a folder");
        // Its hooks and settings are commands.
        if (Path.GetRelativePath(Root, real).Split(s_separators).Contains(".git", StringComparer.OrdinalIgnoreCase))
            throw new ToolException($"{path} belongs to git");
        try
        {
            if (s_strict.GetByteCount(text) > MostBytes)
                throw new ToolException($"a file may have at most {MostBytes} bytes");
        }
        catch (EncoderFallbackException)
        {
            throw new ToolException("the text holds half a character");
        }

        return real;
    }

    // Files below a folder, as paths from the root with slashes, in order. Links, hidden ones and what builds leave are skipped.
    public List<string> Files(string path, CancellationToken cancellation)
    {
        string real = Resolve(path);
        if (!Directory.Exists(real))
            throw new ToolException($"no folder {path}");
        var options = new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 32, AttributesToSkip = FileAttributes.ReparsePoint };
        int seenCount = 0;
        var found = new FileSystemEnumerable<string>(real, (ref FileSystemEntry entry) => Path.GetRelativePath(Root, entry.ToFullPath()).Replace('\\', '/'), options)
        {
            ShouldIncludePredicate = (ref FileSystemEntry entry) =>
            {
                cancellation.ThrowIfCancellationRequested();
                return ++seenCount > MostEntries ? throw new ToolException($"more than {MostEntries} files; name a folder") : !entry.IsDirectory && !entry.FileName.StartsWith('.');
            },
            ShouldRecursePredicate = (ref FileSystemEntry entry) => !entry.FileName.StartsWith('.') && !s_skippedFolders.Contains(entry.FileName.ToString()),
        };
        List<string> files = [.. found];
        files.Sort(StringComparer.Ordinal);
        return files;
    }

    // The path without links, as far as it exists. A link's own parent folders are real already when ".." is met.
    private static string Real(string path)
    {
        string at = Path.GetPathRoot(path)!;
        var rest = new Stack<string>(path[at.Length..].Split(s_separators).Reverse());
        int linkCount = 0;
        while (rest.TryPop(out string? part))
        {
            if (part is "" or ".")
                continue;
            if (part == "..")
            {
                at = Path.GetDirectoryName(at) ?? at;
                continue;
            }

            string next = Path.Join(at, part);
            if (new FileInfo(next).LinkTarget is not { } target)
            {
                at = next;
                continue;
            }

            if (++linkCount > MostLinks)
                throw new ToolException("too many links");
            at = Path.IsPathRooted(target) ? Path.GetPathRoot(target)! : at;
            foreach (string piece in target[(Path.GetPathRoot(target)?.Length ?? 0)..].Split(s_separators).Reverse())
                rest.Push(piece);
        }

        return at;
    }
}
