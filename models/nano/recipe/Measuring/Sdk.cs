using System.Runtime.InteropServices;

namespace Qian.Nano;

// The compiler of the .NET SDK that this machine has, found from the runtime that runs us.
internal static class Sdk
{
    private static readonly string s_root = Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", ".."));

    public static string DotNet { get; } = Path.Combine(s_root, OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet");

    public static string Compiler { get; } = FindCompiler();

    // The runtime's own assemblies: what is compiled runs on exactly them.
    public static IReadOnlyList<string> References { get; } = [.. Directory.GetFiles(RuntimeEnvironment.GetRuntimeDirectory(), "*.dll").Where(IsManaged).Order(StringComparer.Ordinal)];

    private static string FindCompiler()
    {
        string sdks = Path.Combine(s_root, "sdk");
        string[] found = Directory.Exists(sdks) ? [.. Directory.GetDirectories(sdks).Select(sdk => Path.Combine(sdk, "Roslyn", "bincore", "csc.dll")).Where(File.Exists)] : [];
        return found.OrderBy(path => path, StringComparer.Ordinal).LastOrDefault() ?? throw new FileNotFoundException($"No C# compiler below {sdks}: measuring needs a .NET SDK, not only the runtime.");
    }

    private static bool IsManaged(string path)
    {
        string name = Path.GetFileName(path);
        return (name.StartsWith("System.", StringComparison.Ordinal) || name is "mscorlib.dll" or "netstandard.dll" or "Microsoft.CSharp.dll") && !name.Contains(".Native", StringComparison.Ordinal);
    }
}
