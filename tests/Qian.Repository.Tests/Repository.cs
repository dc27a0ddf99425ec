using System.Runtime.CompilerServices;

namespace Qian.Repository.Tests;

// Where the repository lies, and its own files (build outputs left out).
internal static class Repository
{
    public static string Root { get; } = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(ThisFile())!, "..", ".."));

    public static IEnumerable<string> SourceFiles(string folder = "src") =>
        Directory.EnumerateFiles(Path.Combine(Root, folder), "*.cs", SearchOption.AllDirectories).Where(IsOurs);

    public static IEnumerable<string> TextFiles() =>
        Directory.EnumerateFiles(Root, "*", SearchOption.AllDirectories)
            .Where(IsOurs)
            .Where(path => Path.GetExtension(path) is ".cs" or ".md" or ".csproj" or ".props" or ".slnx" or ".json" or ".sh" or ".yml" or "" && !path.Contains($"{Path.DirectorySeparatorChar}data{Path.DirectorySeparatorChar}", StringComparison.Ordinal));

    public static string Relative(string path) => Path.GetRelativePath(Root, path).Replace('\\', '/');

    public static string Read(string relativePath) => File.ReadAllText(Path.Combine(Root, relativePath)).ReplaceLineEndings("\n");

    private static bool IsOurs(string path)
    {
        string relative = Relative(path);
        return !relative.Split('/').Any(part => part is "bin" or "obj" or ".git" or "TestResults" or "node_modules" or "artifacts");
    }

    private static string ThisFile([CallerFilePath] string path = "") => path;
}
