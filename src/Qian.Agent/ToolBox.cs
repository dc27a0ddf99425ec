using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.Extensions.AI;
using Qian.Inference;

namespace Qian.Agent;

// What a tool gave: text for the model; for people, also what it changed in a file.
internal sealed record ToolResult(string Text, bool IsError = false, string Diff = "");

// A call that cannot be carried out; its message goes to the model.
internal sealed class ToolException(string message) : Exception(message);

// The tools: what the model is told about them, and what they do in a workspace. Names, descriptions and the form of their schemas
// are those that the embedded model was trained on. Whatever a call holds, the answer is a text: nothing that a model writes ends
// the agent.
internal sealed class ToolBox
{
    private const int MostCharacters = 50_000;
    private const int MostHits = 100;
    private const int MostHitCharacters = 200;
    private const int MostCommandCharacters = 8000;

    private static readonly TimeSpan s_matchLimit = TimeSpan.FromSeconds(2);

    private readonly Workspace _workspace;
    private readonly Permissions _permissions;
    private readonly TimeSpan _commandLimit;
    private readonly Tool[] _tools;

    // `names` picks some of the tools: a small model does better with few.
    public ToolBox(Workspace workspace, Permissions permissions, TimeSpan commandLimit, IReadOnlyList<string>? names = null)
    {
        (_workspace, _permissions, _commandLimit) = (workspace, permissions, commandLimit);
        Tool[] all =
        [
            new("list_files", "List the files of the project.", [], (_, cancellation) => Task.FromResult(List(cancellation))),
            new("read_file", "Read a file.", ["path"], (call, _) => Task.FromResult(Read(call))),
            new("write_file", "Write a whole file.", ["path", "content"], Write),
            new("edit_file", "Replace one piece of text in a file.", ["path", "old", "new"], Edit),
            new("search_files", "Search the files of the project for a regular expression.", ["pattern"], (call, cancellation) => Task.FromResult(Search(call, cancellation))),
            new("run_command", "Run a command in the project folder.", ["command"], Run),
        ];
        if (names?.FirstOrDefault(name => !all.Any(tool => tool.Name == name)) is { } unknown)
            throw new BadRequestException($"no tool {Short(unknown)}; there are {string.Join(", ", all.Select(tool => tool.Name))}.");
        _tools = [.. all.Where(tool => names is null || names.Contains(tool.Name))];
    }

    public IEnumerable<AITool> Declarations => _tools;

    // Arguments as texts: what is no text is spelled as JSON.
    public static Dictionary<string, string> Spell(IDictionary<string, object?>? arguments)
    {
        var spelled = new Dictionary<string, string>();
        foreach ((string name, object? value) in arguments ?? new Dictionary<string, object?>())
            spelled[name] = value as string ?? (value is JsonElement element ? Spell(element) : JsonSerializer.Serialize(value, AIJsonUtilities.DefaultOptions));
        return spelled;
    }

    // `asking` hears of a permission before the user is asked for it.
    public async Task<ToolResult> RunAsync(string name, IReadOnlyDictionary<string, string> arguments, Action<PermissionRequest> asking, CancellationToken cancellation)
    {
        try
        {
            Tool tool = _tools.FirstOrDefault(tool => tool.Name == name) ?? throw new ToolException($"no tool {Short(name)}; there are {string.Join(", ", _tools.Select(tool => tool.Name))}");
            if (tool.Parameters.FirstOrDefault(parameter => !arguments.ContainsKey(parameter)) is { } missing)
                throw new ToolException($"{name} needs {missing}");
            return await tool.Run(new Call(arguments, asking), cancellation).ConfigureAwait(false);
        }
        catch (Exception error) when (error is ToolException or IOException or UnauthorizedAccessException or System.ComponentModel.Win32Exception)
        {
            return new ToolResult($"error: {error.Message}", IsError: true);
        }
    }

    private ToolResult List(CancellationToken cancellation) => new(Bounded(string.Join('\n', _workspace.Files(".", cancellation).Select(Printable))));

    private ToolResult Read(Call call) => new(Bounded(_workspace.Read(call["path"]).TrimEnd('\n')));

    private async Task<ToolResult> Write(Call call, CancellationToken cancellation)
    {
        string path = call["path"], text = call["content"];
        if (text.Length > 0 && !text.EndsWith('\n'))
            text += "\n";
        _workspace.CheckWrite(path, text);
        return await Change(call, path, _workspace.Find(path) ?? "", text, $"wrote {path}", cancellation).ConfigureAwait(false);
    }

    private async Task<ToolResult> Edit(Call call, CancellationToken cancellation)
    {
        string path = call["path"], old = call["old"], text = _workspace.Read(path);
        // A model spells line ends as it was taught; the file keeps its own.
        if (text.Contains("\r\n", StringComparison.Ordinal) && !old.Contains('\r', StringComparison.Ordinal))
            old = old.Replace("\n", "\r\n", StringComparison.Ordinal);
        int at = old.Length == 0 ? throw new ToolException("old is empty") : text.IndexOf(old, StringComparison.Ordinal);
        if (at < 0)
            throw new ToolException($"the text is not in {path}");
        if (text.IndexOf(old, at + 1, StringComparison.Ordinal) >= 0)
            throw new ToolException($"the text occurs more than once in {path}");
        string now = text.Contains("\r\n", StringComparison.Ordinal) ? call["new"].ReplaceLineEndings("\r\n") : call["new"];
        string changed = text[..at] + now + text[(at + old.Length)..];
        _workspace.CheckWrite(path, changed);
        return await Change(call, path, text, changed, $"edited {path}", cancellation).ConfigureAwait(false);
    }

    private async Task<ToolResult> Change(Call call, string path, string before, string after, string said, CancellationToken cancellation)
    {
        string diff = LineDiff.Of(before, after);
        await _permissions.RequireAsync(new PermissionRequest(PermissionKind.Write, path, diff), call.Asking, cancellation).ConfigureAwait(false);
        _workspace.Write(path, after);
        return new ToolResult(said, Diff: diff);
    }

    private ToolResult Search(Call call, CancellationToken cancellation)
    {
        Regex pattern;
        try
        {
            pattern = new Regex(call["pattern"], RegexOptions.NonBacktracking | RegexOptions.CultureInvariant, s_matchLimit);
        }
        catch (Exception error) when (error is ArgumentException or NotSupportedException)
        {
            throw new ToolException($"the pattern is not understood: {Short(error.Message)}");
        }

        var hits = new List<string>();
        foreach (string path in _workspace.Files(".", cancellation))
        {
            cancellation.ThrowIfCancellationRequested();
            string[] lines = Lines(path);
            for (int i = 0; i < lines.Length; i++)
            {
                if (!IsMatch(pattern, lines[i]))
                    continue;
                if (hits.Count == MostHits)
                    return new ToolResult(string.Join('\n', hits) + $"\n(more than {MostHits} lines match)");
                string line = lines[i].Trim();
                hits.Add($"{Printable(path)}:{i + 1}: {(line.Length > MostHitCharacters ? line[..MostHitCharacters] + "…" : line)}");
            }
        }

        return new ToolResult(hits.Count == 0 ? "nothing found" : string.Join('\n', hits));
    }

    private async Task<ToolResult> Run(Call call, CancellationToken cancellation)
    {
        string command = call["command"].Trim();
        if (command.Length is 0 or > MostCommandCharacters || command.Contains('\0', StringComparison.Ordinal))
            throw new ToolException($"a command has 1 to {MostCommandCharacters} characters");
        await _permissions.RequireAsync(new PermissionRequest(PermissionKind.Run, command), call.Asking, cancellation).ConfigureAwait(false);
        return await CommandRun.RunAsync(command, _workspace.Root, _commandLimit, cancellation).ConfigureAwait(false);
    }

    private static string Spell(JsonElement element)
    {
        try
        {
            return element.ValueKind == JsonValueKind.String ? element.GetString()! : element.GetRawText();
        }
        catch (InvalidOperationException)
        {
            // A string with half a character in it.
            return element.GetRawText();
        }
    }

    // Of what is no text, none.
    private string[] Lines(string path)
    {
        try
        {
            return _workspace.Read(path).Split('\n');
        }
        catch (Exception error) when (error is ToolException or IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private static bool IsMatch(Regex pattern, string line)
    {
        try
        {
            return pattern.IsMatch(line);
        }
        catch (RegexMatchTimeoutException)
        {
            throw new ToolException("the pattern takes too long");
        }
    }

    private static string Bounded(string text) => text.Length <= MostCharacters ? text
        : string.Create(CultureInfo.InvariantCulture, $"{text.AsSpan(0, MostCharacters)}\n(… {text.Length - MostCharacters} more characters: search_files finds lines)");

    // A file's name may hold line ends, which would pass for more names.
    private static string Printable(string path) => string.Concat(path.Select(sign => char.IsControl(sign) ? '?' : sign));

    private static string Short(string text) => text.Length <= 100 ? text : text[..100] + "…";

    private sealed record Call(IReadOnlyDictionary<string, string> Arguments, Action<PermissionRequest> Asking)
    {
        // Small models put a blank before a name now and then.
        public string this[string name] => name == "path" ? Arguments[name].Trim() : Arguments[name];
    }

    // As the model sees it: all its parameters are texts, and all are required.
    private sealed class Tool(string name, string description, string[] parameters, Func<Call, CancellationToken, Task<ToolResult>> run) : AIFunctionDeclaration
    {
        public override string Name => name;

        public override string Description => description;

        public override JsonElement JsonSchema { get; } = JsonSerializer.SerializeToElement(new
        {
            type = "object",
            properties = parameters.ToDictionary(parameter => parameter, _ => new { type = "string" }),
            required = parameters,
        });

        public IReadOnlyList<string> Parameters => parameters;

        public Func<Call, CancellationToken, Task<ToolResult>> Run => run;
    }
}
