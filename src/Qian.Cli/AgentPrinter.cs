using System.Globalization;
using System.Text;
using Qian.Agent;

namespace Qian.Cli;

// The agent's events for a person: answers on stdout, all else on stderr, thinking dimmed, diffs in colours. What a model or a file
// spells may be made to deceive whoever reads it: it reaches the terminal without control characters.
internal static class AgentPrinter
{
    private const int MostLines = 12;

    private static bool s_midLine;

    private static bool s_midThought;

    // The diff that the user has just said yes to is not shown again.
    private static string s_shownDiff = "";

    public static void Print(AgentEvent happened)
    {
        switch (happened)
        {
            case TextDelta delta:
                EndThought();
                Console.Write(Safe(delta.Text));
                s_midLine = !delta.Text.EndsWith('\n');
                break;
            case ReasoningDelta delta when !Console.IsErrorRedirected:
                s_midThought = true;
                Console.Error.Write($"\e[2m{Safe(delta.Text)}\e[0m");
                break;
            case ToolCalled call:
                EndLine();
                Terminal.Note(Coloured("36", $"{call.Tool} {Summary(call.Arguments)}".TrimEnd()));
                break;
            case ToolAnswered answer when answer.Result.Diff.Length > 0:
                if (answer.Result.Diff != s_shownDiff)
                    PrintDiff(answer.Result.Diff);
                s_shownDiff = "";
                break;
            case ToolAnswered answer:
                PrintResult(answer.Result);
                break;
            case PermissionAsked { Request: var request }:
                EndLine();
                if (request.Diff.Length > 0)
                    PrintDiff(request.Diff);
                s_shownDiff = request.Diff;
                break;
            case HistoryCompacted compacted:
                EndLine();
                Terminal.Note(Coloured("2", $"({compacted.MessageCount} messages gave way to a summary of {compacted.Summary.Length} characters)"));
                break;
            case Finished { Outcome: var outcome }:
                EndLine();
                if (!outcome.IsDone)
                    Terminal.Note($"gave up: {Safe(outcome.Text)}");
                break;
        }
    }

    public static async Task<PermissionAnswer> Ask(PermissionRequest request, CancellationToken cancellation)
    {
        string what = request.Kind == PermissionKind.Write ? $"write {Safe(request.Subject)}" : $"run {Safe(request.Subject)}";
        string always = request.Kind == PermissionKind.Write ? "[a]lways write" : "[a]lways this command";
        string? line = await ReadLine($"{what}? [y]es, {always}, [N]o: ", cancellation);
        return line?.Trim().ToLowerInvariant() switch
        {
            "y" or "yes" => PermissionAnswer.Once,
            "a" or "always" => PermissionAnswer.Always,
            _ => PermissionAnswer.No,
        };
    }

    // Null at the end of input. On a thread of its own: Ctrl-C must end a question that nobody answers.
    public static async Task<string?> ReadLine(string prompt, CancellationToken cancellation)
    {
        Console.Error.Write(prompt);
        return await Task.Run(Console.ReadLine, CancellationToken.None).WaitAsync(cancellation);
    }

    // Control characters, and those that turn the direction of writing, as question marks.
    public static string Safe(string text)
    {
        var safe = new StringBuilder(text.Length);
        foreach (char sign in text)
            safe.Append(sign is '\n' or '\t' || !(char.IsControl(sign) || char.GetUnicodeCategory(sign) == UnicodeCategory.Format) ? sign : '?');
        return safe.ToString();
    }

    private static string Summary(IReadOnlyDictionary<string, string> arguments) =>
        string.Join("  ", arguments.Where(argument => argument.Key is not ("content" or "old" or "new")).Select(argument => OneLine(argument.Value)));

    private static string OneLine(string text)
    {
        string line = Safe(text).Replace('\n', '↵');
        return line.Length <= 200 ? line : line[..200] + "…";
    }

    private static void PrintDiff(string diff)
    {
        foreach (string line in diff.Split('\n'))
            Terminal.Note(Coloured(line[0] switch { '-' => "31", '+' => "32", _ => "2" }, "  " + Safe(line)));
    }

    private static void PrintResult(ToolResult result)
    {
        string[] lines = result.Text.Split('\n');
        foreach (string line in lines.Take(MostLines))
            Terminal.Note(Coloured(result.IsError ? "31" : "2", "  " + OneLine(line)));
        if (lines.Length > MostLines)
            Terminal.Note(Coloured("2", $"  … {lines.Length - MostLines} more lines"));
    }

    private static string Coloured(string colour, string text) => Console.IsErrorRedirected ? text : $"\e[{colour}m{text}\e[0m";

    private static void EndThought()
    {
        if (s_midThought)
            Console.Error.WriteLine();
        s_midThought = false;
    }

    private static void EndLine()
    {
        EndThought();
        if (s_midLine)
            Console.WriteLine();
        s_midLine = false;
    }
}
