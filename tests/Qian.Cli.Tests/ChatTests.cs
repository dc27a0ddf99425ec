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
    public async Task ALoadedConversationGoesOnAsTheOneThatWasSaved()
    {
        string saved = Path.Combine(model.Folder, "resume.json");
        CliResult original = await Chat(["Hello", $"/save {saved}", "Go on"]);
        // In f32, because the one reads the reply again that the other has computed token by token.
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
        using CliProcess process = CliProcess.Start(null, "chat", "-m", model.Path, "--no-think", "-n", "4", "--temperature", "0");
        await process.Write("Hello\n");
        await process.Spoke;
        // The reply ends with its line; then the prompt waits.
        await process.LineEnded;
        process.Interrupt();
        CliResult result = await process.End();
        Assert.Contains(result.ExitCode, (int[])[0, 130]);
    }

    [Fact]
    public async Task AnInterruptionStopsTheReplyAndTheNextMessageIsAnswered()
    {
        using CliProcess process = CliProcess.Start(null, "chat", "-m", model.Path, "--no-think", "-n", "200000", "--temperature", "3", "--top-k", "0", "--seed", "1");
        await process.Write("Hello\n");
        await process.Spoke;
        process.Interrupt();
        await process.Write("/stats\n/exit\n");
        CliResult result = await process.End();
        Assert.Equal(0, result.ExitCode);
        Assert.Contains("(stopped)", result.Error, StringComparison.Ordinal);
    }
}
