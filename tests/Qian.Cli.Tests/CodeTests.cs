using System.Globalization;
using System.Runtime.Versioning;
using System.Text.Json;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// qian code with the embedded model in a folder of its own.
public sealed class CodeTests : IDisposable
{
    private const string Request = "Run the tests, then fix what is wrong.";

    // Greedy, at once, with the tools that nano was trained with.
    private static readonly string[] s_nano = ["--temperature", "0", "--no-think", "--max-tokens", "400", "--threads", "1", "--context", "4096"];
    private static readonly string[] s_tools = ["--tools", "list_files,read_file,edit_file,run_command"];

    private readonly TempFolder _folder = new();

    public CodeTests()
    {
        File.WriteAllText(_folder.File("Totals.cs"), "public static class Totals\n{\n    public static int SumAll(int[] numbers)\n    {\n        int total = 1;\n        return total;\n    }\n}\n");
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task EventsAreLinesAndWhatIsNotPermittedIsRefusedAndTold()
    {
        CliResult result = await CliProcess.Run(["code", Request, "-C", _folder.Path, "--json", "--max-steps", "4", .. s_nano, .. s_tools]);
        JsonElement[] events = [.. result.OutLines.Select(line => JsonDocument.Parse(line).RootElement)];
        Assert.Equal(Program.Failed, result.ExitCode);
        Assert.Equal([1, 2, 3, 4], events.Where(happened => Name(happened) == "step_ended").Select(happened => happened.GetProperty("step").GetInt32()));
        Assert.Equal("finished", Name(events[^1]));
        Assert.False(events[^1].GetProperty("done").GetBoolean());
        JsonElement[] runs = [.. events.Where(happened => Name(happened) == "tool_result" && happened.GetProperty("tool").GetString() == "run_command")];
        Assert.NotEmpty(runs);
        Assert.All(runs, run => Assert.Contains("not permitted here", run.GetProperty("text").GetString(), StringComparison.Ordinal));
        Assert.Equal(events.Count(happened => Name(happened) == "tool_call"), events.Count(happened => Name(happened) == "tool_result"));
        Assert.False(File.Exists(_folder.File("pid")));
    }

    [Fact]
    public async Task AnAnswerIsTheResultAndTheEnd()
    {
        CliResult result = await CliProcess.RunWithInput("Who are you?\n", ["code", "-C", _folder.Path, .. s_nano, "--tools", ""]);
        Assert.Equal(Program.Done, result.ExitCode);
        Assert.Contains("nano", result.Out, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    [UnsupportedOSPlatform("windows")]
    public async Task AnInterruptionEndsTheCommandAndTheProgram()
    {
        // A make of our own: nano calls no other command, and not every machine has one.
        string programs = Directory.CreateDirectory(_folder.File("bin")).FullName;
        File.WriteAllText(Path.Combine(programs, "make"), "#!/bin/sh\necho $$ > pid\nsleep 300\n");
        File.SetUnixFileMode(Path.Combine(programs, "make"), UnixFileMode.UserRead | UnixFileMode.UserExecute);
        using CliProcess process = CliProcess.Start(("PATH", $"{programs}:{Environment.GetEnvironmentVariable("PATH")}"), ["code", Request, "-C", _folder.Path, "--allow-run", "make *", .. s_nano, .. s_tools]);
        await process.Noted("run_command make test");
        using var patience = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        while (!File.Exists(_folder.File("pid")) || new FileInfo(_folder.File("pid")).Length == 0)
            await Task.Delay(10, patience.Token);
        process.Interrupt();
        CliResult result = await process.End();
        Assert.Equal(Program.Interrupted, result.ExitCode);
        Assert.EndsWith("qian: interrupted\n", result.Error, StringComparison.Ordinal);
        int shell = int.Parse(File.ReadAllText(_folder.File("pid")), CultureInfo.InvariantCulture);
        Assert.False(File.Exists($"/proc/{shell}/cmdline") && File.ReadAllText($"/proc/{shell}/cmdline").Length > 0);
    }

    [Theory]
    [InlineData("--max-steps", "0", "--max-steps: expected at least 1")]
    [InlineData("--timeout", "-1", "--timeout: expected")]
    [InlineData("--tools", "fly", "no tool fly")]
    public async Task BadOptionsAreNamed(string option, string value, string says)
    {
        CliResult result = await CliProcess.Run("code", "Go.", option, value);
        Assert.Equal(Program.BadUsage, result.ExitCode);
        Assert.Contains(says, result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("plain text\n\tindented", "plain text\n\tindented")]
    [InlineData("rm -r .\r\e[2Kls", "rm -r .??[2Kls")]
    [InlineData("a\u202egnp.exe\u200b\u0007", "a?gnp.exe??")]
    public void NothingReachesTheTerminalThatMovesIt(string text, string shown) => Assert.Equal(shown, AgentPrinter.Safe(text));

    private static string? Name(JsonElement happened) => happened.GetProperty("event").GetString();
}
