using System.Text.Json;
using System.Text.RegularExpressions;
using Qian.Inference.Chat;

namespace Qian.Nano;

// The project of one repair, in memory: answers the model's calls. Running the tests is left to the caller, who runs many at once.
internal sealed class Workbench(RepairSession session)
{
    private readonly Dictionary<string, string> _files = Files(session);

    public string Source => _files[session.SourcePath];

    // The call's answer; null when it asks for the tests.
    public string? Answer(ToolCall call)
    {
        switch (call.Name)
        {
            case "list_files":
                return string.Join('\n', _files.Keys.Order(StringComparer.Ordinal));
            case "read_file":
                return _files.TryGetValue(Argument(call, "path"), out string? text) ? text.TrimEnd('\n') : $"error: no file {Argument(call, "path")}";
            case "search_files" when session.Tools.Has(call.Name):
                return Search(Argument(call, "pattern"));
            case "write_file" when session.Tools.Has(call.Name):
                return Write(Argument(call, "path"), Argument(call, "content"));
            case "edit_file" when session.Tools.Has(call.Name):
                return Edit(Argument(call, "path"), Argument(call, "old"), Argument(call, "new"));
            case "run_tests" or "run_command" when call.Name == session.Tools.RunTool:
                return null;
            default:
                return $"error: no tool {call.Name}";
        }
    }

    // As the tests of the project print it.
    public string Report(CodeOutcome outcome) => outcome.Lines is null
        ? $"ERROR {session.SourcePath}: {outcome.Fault}"
        : RepairSession.Report(session.Patient, session.Cases, test => outcome.Show(IndexOf(test)));

    private int IndexOf(TestCase test) => session.Cases.Select((known, i) => (known, i)).First(pair => ReferenceEquals(pair.known, test)).i;

    private string Write(string path, string content)
    {
        // The project is one folder of a few small files.
        if (path.Length is 0 or > 100 || content.Length > 20_000 || _files.Count > 20)
            return "error: cannot write this";
        _files[path] = content + "\n";
        return $"wrote {path}";
    }

    private string Edit(string path, string old, string with)
    {
        if (!_files.TryGetValue(path, out string? text))
            return $"error: no file {path}";
        int at = old.Length == 0 ? -1 : text.IndexOf(old, StringComparison.Ordinal);
        if (at < 0)
            return $"error: the text is not in {path}";
        if (text.IndexOf(old, at + 1, StringComparison.Ordinal) >= 0)
            return $"error: the text occurs more than once in {path}";
        _files[path] = text[..at] + with + text[(at + old.Length)..];
        return $"edited {path}";
    }

    private string Search(string pattern)
    {
        try
        {
            var regex = new Regex(pattern, RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);
            string hits = RepairSession.Search(_files, regex.IsMatch);
            return hits.Length == 0 ? "nothing found" : hits;
        }
        catch (Exception error) when (error is ArgumentException or NotSupportedException)
        {
            return "error: the pattern is not understood";
        }
    }

    private static string Argument(ToolCall call, string name) =>
        call.Arguments.ValueKind == JsonValueKind.Object && call.Arguments.TryGetProperty(name, out JsonElement value) ? value.ValueKind == JsonValueKind.String ? value.GetString()! : value.GetRawText() : "";

    private static Dictionary<string, string> Files(RepairSession session)
    {
        var files = session.Files.ToDictionary(path => path, _ => "");
        files[session.SourcePath] = session.SickText;
        files[RepairSession.TestsPath] = session.TestsText;
        return files;
    }
}
