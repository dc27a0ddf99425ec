using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Qian.Nano;

// Code to be run: an item's name, its text, the method asked for (another is taken when the text has none of that name) and cases.
internal sealed record CodeItem(string Name, string Code, string Method, IReadOnlyList<TestCase> Cases);

// Outcomes by case: "=JSON" a value, "!Name" an exception; null when the item did not compile, or for Python when there is none.
internal sealed record CodeOutcome(IReadOnlyList<string>? Lines, string Fault)
{
    public bool Passes(IReadOnlyList<TestCase> cases) => Lines is not null && cases.Select((test, i) => Matches(i, test.Expected)).All(equal => equal);

    public bool Matches(int index, object expected)
    {
        string line = Lines?[index] ?? "!";
        if (line[0] != '=')
            return false;
        using JsonDocument document = JsonDocument.Parse(line[1..]);
        return Same(document.RootElement, expected);
    }

    // As the tests of a project print it.
    public string Show(int index)
    {
        string line = Lines?[index] ?? "!" + Fault;
        if (line[0] != '=')
            return line[1..];
        using JsonDocument document = JsonDocument.Parse(line[1..]);
        return Show(document.RootElement);
    }

    private static string Show(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.String => $"\"{value.GetString()}\"",
        JsonValueKind.Array => "[" + string.Join(", ", value.EnumerateArray().Select(Show)) + "]",
        _ => value.GetRawText(),
    };

    private static bool Same(JsonElement found, object expected) => expected switch
    {
        bool truth => found.ValueKind == (truth ? JsonValueKind.True : JsonValueKind.False),
        string text => found.ValueKind == JsonValueKind.String && found.GetString() == text,
        Array items => found.ValueKind == JsonValueKind.Array && found.GetArrayLength() == items.Length && items.Cast<object>().Select((item, i) => Same(found[i], item)).All(equal => equal),
        _ => found.ValueKind == JsonValueKind.Number && Math.Abs(found.GetDouble() - Convert.ToDouble(expected, CultureInfo.InvariantCulture)) <= 1e-9 * Math.Max(1, Math.Abs(found.GetDouble())),
    };
}

// Runs code that a model has written: in a process of its own, in an empty temporary folder, with limits on time and memory. C# items
// are compiled together by the SDK's compiler; those that do not compile are dropped and the rest compiled again.
internal static class CodeRunner
{
    private const int ItemMilliseconds = 2000;
    private const int CompileMilliseconds = 120_000;
    private const long MemoryBytes = 512L << 20;
    private const string Usings = "using System;\nusing System.Collections.Generic;\nusing System.Linq;\nusing System.Text;\n";

    public static bool HasPython { get; } = FindsPython();

    public static IReadOnlyList<CodeOutcome> RunCSharp(IReadOnlyList<CodeItem> items)
    {
        using var folder = new ScratchFolder();
        folder.Write("Runner.cs", Resource("runner.cs"));
        var faults = new Dictionary<string, string>();
        foreach (CodeItem item in items)
            folder.Write(item.Name + ".cs", $"{Usings}public class {item.Name}\n{{\n#line 1\n{item.Code}\n}}\n");
        while (true)
        {
            List<string> sources = [.. items.Where(item => !faults.ContainsKey(item.Name)).Select(item => item.Name + ".cs")];
            List<(string File, string Error)> errors = Compile(folder, sources);
            int known = faults.Count;
            foreach ((string file, string error) in errors)
                faults.TryAdd(Path.GetFileNameWithoutExtension(file), error);
            if (errors.Count == 0)
                break;
            if (faults.Count == known)
                throw new InvalidOperationException($"The compiler failed outside the items: {errors[0].File} {errors[0].Error}");
        }

        List<CodeItem> sound = [.. items.Where(item => !faults.ContainsKey(item.Name))];
        folder.Write("cases.json", Cases(sound));
        folder.Write("run.runtimeconfig.json", "{\"runtimeOptions\":{\"framework\":{\"name\":\"Microsoft.NETCore.App\",\"version\":\"" + Environment.Version + "\"}}}");
        string[] lines = Run(Sdk.DotNet, ["exec", "run.dll", "cases.json", ItemMilliseconds.ToString(CultureInfo.InvariantCulture)], folder, sound.Count);
        return Outcomes(items, faults, lines);
    }

    // Null where there is no Python.
    public static IReadOnlyList<CodeOutcome>? RunPython(IReadOnlyList<CodeItem> items)
    {
        if (!HasPython)
            return null;
        using var folder = new ScratchFolder();
        folder.Write("runner.py", Resource("runner.py"));
        foreach (CodeItem item in items)
            folder.Write(item.Name + ".py", item.Code);
        folder.Write("cases.json", Cases(items));
        return Outcomes(items, [], Run("python3", ["-I", "runner.py", "cases.json", ItemMilliseconds.ToString(CultureInfo.InvariantCulture)], folder, items.Count));
    }

    private static List<(string File, string Error)> Compile(ScratchFolder folder, List<string> sources)
    {
        var response = new StringBuilder("-nologo -noconfig -nostdlib -target:exe -out:run.dll -optimize+ -warn:0 -langversion:latest -utf8output Runner.cs\n");
        foreach (string source in sources)
            response.Append(source).Append('\n');
        foreach (string reference in Sdk.References)
            response.Append("-r:\"").Append(reference).Append("\"\n");
        folder.Write("build.rsp", response.ToString());
        (int code, string output) = Start(Sdk.DotNet, ["exec", Sdk.Compiler, "@build.rsp"], folder, CompileMilliseconds, limitMemory: false);
        var errors = new List<(string, string)>();
        foreach (string line in output.Split('\n'))
        {
            int at = line.IndexOf("): error CS", StringComparison.Ordinal);
            if (at > 0)
                errors.Add((Path.GetFileName(line[..line.IndexOf('(', StringComparison.Ordinal)]), line[(at + "): error ".Length)..].Trim()));
        }

        if (code != 0 && errors.Count == 0)
            throw new InvalidOperationException($"The compiler ended with {code}: {output}");
        return errors;
    }

    // All lines of one process. A process that ends early (memory, stack) leaves the cases after that unanswered.
    private static string[] Run(string program, string[] arguments, ScratchFolder folder, int itemCount) =>
        itemCount == 0 ? [] : Start(program, arguments, folder, 60_000 + itemCount * ItemMilliseconds, limitMemory: true).Output.Split('\n');

    private static List<CodeOutcome> Outcomes(IReadOnlyList<CodeItem> items, Dictionary<string, string> faults, string[] lines)
    {
        var found = items.ToDictionary(item => item.Name, item => Enumerable.Repeat("!NotRun", item.Cases.Count).ToArray());
        foreach (string line in lines)
        {
            string[] fields = line.TrimEnd('\r').Split('\t', 3);
            if (fields.Length == 3 && fields[2].Length > 0 && found.TryGetValue(fields[0], out string[]? cases) && int.TryParse(fields[1], out int index) && index < cases.Length)
                cases[index] = fields[2];
        }

        return [.. items.Select(item => faults.TryGetValue(item.Name, out string? fault) ? new CodeOutcome(null, fault) : new CodeOutcome(found[item.Name], ""))];
    }

    private static (int Code, string Output) Start(string program, string[] arguments, ScratchFolder folder, int milliseconds, bool limitMemory)
    {
        var start = new ProcessStartInfo(program, arguments) { WorkingDirectory = folder.Path, RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true, StandardOutputEncoding = Encoding.UTF8 };
        // Nothing of our environment but what the runtime needs.
        string[] kept = ["PATH", "HOME", "DOTNET_ROOT", "TMPDIR", "SystemRoot", "LD_LIBRARY_PATH", "PYENV_ROOT"];
        foreach (string name in start.Environment.Keys.Where(name => !kept.Contains(name)).ToList())
            start.Environment.Remove(name);
        start.Environment["DOTNET_TieredPGO"] = "0";
        start.Environment["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] = "1";
        if (limitMemory)
            start.Environment["DOTNET_GCHeapHardLimit"] = MemoryBytes.ToString("x", CultureInfo.InvariantCulture);
        using Process process = Process.Start(start) ?? throw new InvalidOperationException($"{program} did not start");
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> errors = process.StandardError.ReadToEndAsync();
        bool ended = process.WaitForExit(milliseconds);
        if (!ended)
            process.Kill(entireProcessTree: true);
        process.WaitForExit();
        string text = output.GetAwaiter().GetResult();
        return (ended ? process.ExitCode : -1, text.Length > 0 ? text : errors.GetAwaiter().GetResult());
    }

    private static string Cases(IReadOnlyList<CodeItem> items) =>
        JsonSerializer.Serialize(items.Select(item => new { item = item.Name, method = item.Method, cases = item.Cases.Select(test => test.Arguments) }));

    private static string Resource(string name)
    {
        using Stream stream = typeof(CodeRunner).Assembly.GetManifestResourceStream(name) ?? throw new InvalidOperationException($"The resource {name} is missing from this build.");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    private static bool FindsPython()
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo("python3", ["-c", "print(1)"]) { RedirectStandardOutput = true, RedirectStandardError = true });
            return process is not null && process.StandardOutput.ReadToEnd().Trim() == "1";
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }

    // An empty folder that goes with its content.
    private sealed class ScratchFolder : IDisposable
    {
        public string Path { get; } = Directory.CreateTempSubdirectory("qian-nano-").FullName;

        public void Write(string name, string text) => File.WriteAllText(System.IO.Path.Combine(Path, name), text);

        public void Dispose() => Directory.Delete(Path, recursive: true);
    }
}
