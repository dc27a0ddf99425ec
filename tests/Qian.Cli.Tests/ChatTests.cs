using System.Text.Json;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// qian chat driven through a pipe: messages and commands line by line.
public sealed class ChatTests(TinyModel model) : IClassFixture<TinyModel>
{
    private Task<CliResult> Chat(string[] lines, params string[] arguments) =>
        CliProcess.RunWithInput(string.Join('\n', lines) + "\n", ["chat", "-m", model.Path, "--no-think", "-n", "12", "--temperature", "0", .. arguments]);

    [Fact]
    public async Task MessagesGetRepliesAndHistoryIsNotReadAgain()
    {
        CliResult result = await Chat(["Hello", "/stats", "", "And now?", "/stats", "/exit", "never read"]);
        Assert.Equal(0, result.ExitCode);
        string[] stats = [.. result.Error.Split('\n').Where(line => line.StartsWith("last turn:", StringComparison.Ordinal))];
        Assert.Equal(2, stats.Length);
        Assert.Contains(" 0 of them kept from before, 12 generated (0 thinking)", stats[0], StringComparison.Ordinal);
        Assert.DoesNotContain(" 0 of them kept", stats[1], StringComparison.Ordinal);
        Assert.DoesNotContain("kept from before", result.Out, StringComparison.Ordinal);
        Assert.NotEqual("", result.Out.Trim());
    }

    [Fact]
    public async Task AConversationIsSavedClearedAndLoaded()
    {
        string saved = Path.Combine(model.Folder, "talk.json"), again = Path.Combine(model.Folder, "again.json"), cleared = Path.Combine(model.Folder, "cleared.json");
        CliResult result = await Chat(["first \\", "second", "\"\"\"", "a block", "", "of lines", "\"\"\"", $"/save {saved}", "/clear", $"/save {cleared}", "/system Other.", $"/load {saved}", $"/save {again}"], "--system", "Be brief.");
        Assert.Equal(0, result.ExitCode);
        Assert.Contains($"4 messages written to {saved}", result.Error, StringComparison.Ordinal);
        using JsonDocument talk = JsonDocument.Parse(File.ReadAllText(saved));
        Assert.Equal(["system", "user", "assistant", "user", "assistant"], talk.RootElement.EnumerateArray().Select(message => message.GetProperty("role").GetString()));
        Assert.Equal(["Be brief.", "first \nsecond", "a block\n\nof lines"], ((int[])[0, 1, 3]).Select(i => talk.RootElement[i].GetProperty("content").GetString()));
        Assert.Equal(File.ReadAllText(saved), File.ReadAllText(again));
        using JsonDocument empty = JsonDocument.Parse(File.ReadAllText(cleared));
        Assert.Equal(1, empty.RootElement.GetArrayLength());
    }

    [Fact]
    public async Task ALoadedConversationGoesOn()
    {
        string saved = Path.Combine(model.Folder, "resume.json");
        CliResult original = await Chat(["Hello", $"/save {saved}"]);
        CliResult resumed = await Chat([$"/load {saved}", "Go on", "/stats"]);
        Assert.Equal((0, 0), (original.ExitCode, resumed.ExitCode));
        Assert.Contains("2 messages", resumed.Error, StringComparison.Ordinal);
        Assert.Contains(" 0 of them kept", resumed.Error, StringComparison.Ordinal);
        Assert.NotEqual("", resumed.Out.Trim());
    }

    [Fact]
    public async Task CommandsThatFailLeaveTheConversationRunning()
    {
        string broken = Path.Combine(model.Folder, "broken.json");
        File.WriteAllText(broken, "{ not json");
        CliResult result = await Chat(["/bogus", "/retry", "/load", "/load /nonexistent/talk.json", $"/load {broken}", "/save /nonexistent/talk.json", "/stats", "/help", "/think", "/no-think", "Hello", "/retry"]);
        Assert.Equal(0, result.ExitCode);
        foreach (string note in (string[])["no command /bogus; /help lists them", "Nothing was said yet.", "/load needs a file name.", "/nonexistent/talk.json", "nothing said yet", "/save FILE"])
            Assert.Contains(note, result.Error, StringComparison.Ordinal);
        // Greedy: the second answer is the first once more.
        string[] answers = result.Out.Split('\n', 3);
        Assert.Equal(result.Out[..(result.Out.Length / 2)], result.Out[(result.Out.Length / 2)..]);
        Assert.NotEqual("", answers[0]);
    }

    [Fact]
    public async Task AnInterruptionAtThePromptLeaves()
    {
        using CliProcess process = CliProcess.Start("chat", "-m", model.Path);
        await process.Noted("/help lists the commands.");
        process.Interrupt();
        CliResult result = await process.End();
        Assert.Equal(130, result.ExitCode);
        Assert.EndsWith("qian: interrupted\n", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AnInterruptionStopsTheReplyAndTheConversationGoesOn()
    {
        using CliProcess process = CliProcess.Start(["chat", "-m", model.Path, "--no-think", .. CliProcess.Endless]);
        await process.Write("Hello\n");
        await process.Said(0);
        process.Interrupt();
        await process.Noted("(stopped)");
        string saved = Path.Combine(model.Folder, "stopped.json");
        await process.Write($"/save {saved}\n/exit\n");
        CliResult result = await process.End();
        Assert.Equal(0, result.ExitCode);
        // What had come by then belongs to the conversation.
        Assert.Contains($"2 messages written to {saved}", result.Error, StringComparison.Ordinal);
    }
}
