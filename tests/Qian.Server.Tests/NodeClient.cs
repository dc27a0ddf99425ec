using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text;

namespace Qian.Server.Tests;

// A test that needs Node and the npm packages of NodeClients, pinned there. They are installed into the build's output, once,
// and only where QIAN_NODE_CLIENTS=1 asks for it: the ordinary tests fetch nothing. Elsewhere the test is skipped, with the
// reason.
[AttributeUsage(AttributeTargets.Method)]
internal sealed class NodeFactAttribute : FactAttribute
{
    public NodeFactAttribute() => Skip = NodeClient.Missing.Value;
}

// Runs programs of NodeClients and of its packages.
internal static class NodeClient
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(3);

    private static readonly string s_source = Path.Combine(Path.GetDirectoryName(ThisFile())!, "NodeClients");

    private static readonly string s_installed = Path.Combine(AppContext.BaseDirectory, "node-clients");

    // Why there are none; null where there are.
    public static Lazy<string?> Missing { get; } = new(Install);

    public static string Package(string path) => Path.Combine(s_installed, "node_modules", path);

    // A program of ours, beside the packages that it imports.
    public static Task<(int ExitCode, string Out, string Error)> RunOurs(string name, params string[] arguments)
    {
        File.Copy(Path.Combine(s_source, name), Path.Combine(s_installed, name), overwrite: true);
        return Run("node", s_installed, [], [Path.Combine(s_installed, name), .. arguments]);
    }

    public static async Task<(int ExitCode, string Out, string Error)> Run(string program, string folder, (string Name, string Value)[] variables, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder, RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, StandardOutputEncoding = Encoding.UTF8 };
        foreach ((string name, string value) in variables)
            start.Environment[name] = value;
        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
        try
        {
            await process.WaitForExitAsync().WaitAsync(s_patience);
        }
        catch (TimeoutException)
        {
            process.Kill(entireProcessTree: true);
            throw;
        }

        return (process.ExitCode, await output, await error);
    }

    private static string? Install()
    {
        string manifest = File.ReadAllText(Path.Combine(s_source, "package-lock.json"));
        string marker = Path.Combine(s_installed, "installed.json");
        if (File.Exists(marker) && File.ReadAllText(marker) == manifest)
            return null;
        if (Environment.GetEnvironmentVariable("QIAN_NODE_CLIENTS") != "1")
            return "the npm packages are not installed; QIAN_NODE_CLIENTS=1 installs them into the build's output";
        try
        {
            Directory.CreateDirectory(s_installed);
            foreach (string name in (string[])["package.json", "package-lock.json"])
                File.Copy(Path.Combine(s_source, name), Path.Combine(s_installed, name), overwrite: true);
            (int exitCode, _, string error) = Run(OperatingSystem.IsWindows() ? "npm.cmd" : "npm", s_installed, [], ["install", "--no-save", "--omit=optional", "--no-audit", "--no-fund", "--ignore-scripts"]).GetAwaiter().GetResult();
            if (exitCode != 0)
                return "npm install failed: " + error.Trim().Split('\n')[^1];
            File.WriteAllText(marker, manifest);
            return null;
        }
        catch (Exception failure) when (failure is System.ComponentModel.Win32Exception or TimeoutException or IOException)
        {
            return "Node or npm cannot be run here: " + failure.Message;
        }
    }

    private static string ThisFile([CallerFilePath] string path = "") => path;
}
