using System.Globalization;
using Qian.Inference;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// qian run on a tiny random model: what reaches which stream, and how it ends.
public sealed class RunTests(TinyModel model) : IClassFixture<TinyModel>
{
    private Task<CliResult> Run(params string[] arguments) => CliProcess.Run(["run", "-m", model.Path, .. arguments]);

    [Fact]
    public async Task TokensGiveTokens()
    {
        CliResult result = await Run("--tokens", "1, 2 3", "-n", "8", "--temperature", "0");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        using Engine engine = model.Load();
        using Session session = engine.NewSession();
        session.Append(1, 2, 3);
        var expected = new List<int>();
        await foreach (GeneratedToken token in session.GenerateAsync(SamplingOptions.Greedy with { MaxTokens = 8 }))
            expected.Add(token.Id);
        Assert.Equal(string.Join(' ', expected.Select(id => id.ToString(CultureInfo.InvariantCulture))) + "\n", result.Out);
    }

    [Fact]
    public async Task ThePromptComesAsAnArgumentOrThroughAPipe()
    {
        string[] arguments = ["-m", model.Path, "--no-think", "-n", "16", "--temperature", "0"];
        CliResult given = await CliProcess.Run(["run", "Héllo 你好", .. arguments]);
        CliResult piped = await CliProcess.RunWithInput("Héllo 你好", ["run", .. arguments]);
        CliResult dashed = await CliProcess.RunWithInput("Héllo 你好", ["run", "-", .. arguments]);
        Assert.Equal(0, given.ExitCode);
        Assert.NotEqual("", given.Out.Trim());
        Assert.Equal([given.Out, given.Out], [piped.Out, dashed.Out]);
        Assert.Contains("--max-tokens raises it", given.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task APromptMayBeginWithDashes()
    {
        CliResult dashes = await Run("-n", "4", "--temperature", "0", "--", "--hello"), sentence = await Run("-n", "4", "--temperature", "0", "-- hello there");
        Assert.Equal((0, 0), (dashes.ExitCode, sentence.ExitCode));
    }

    [Fact]
    public async Task ThinkingStaysOutOfTheResult()
    {
        CliResult result = await Run("Hello", "-n", "140", "--temperature", "0", "--thinking-budget", "5");
        Assert.Equal(0, result.ExitCode);
        Assert.Contains("with what I have worked out.", result.Error, StringComparison.Ordinal);
        Assert.NotEqual("", result.Out.Trim());
        Assert.DoesNotContain("worked out", result.Out, StringComparison.Ordinal);
        Assert.DoesNotContain("think>", result.Out + result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TheSeedDecides()
    {
        string[] arguments = ["Hello", "--raw", "-n", "20", "--temperature", "1.5", "--seed"];
        CliResult first = await Run([.. arguments, "7"]), again = await Run([.. arguments, "7"]), other = await Run([.. arguments, "8"]);
        Assert.Equal((0, first.Out), (first.ExitCode, again.Out));
        Assert.NotEqual(first.Out, other.Out);
    }

    [Fact]
    public async Task AStopTextEndsTheAnswer()
    {
        string[] arguments = ["Hello", "--raw", "-n", "40", "--temperature", "0"];
        CliResult whole = await Run(arguments);
        string text = whole.Out[..^1], stop = text.Substring(text.Length / 2, 2);
        CliResult stopped = await Run([.. arguments, "--stop", "never appears", "--stop", stop]);
        Assert.Equal(text[..text.IndexOf(stop, StringComparison.Ordinal)] + "\n", stopped.Out);
        Assert.Equal("", stopped.Error);
    }

    [Fact]
    public async Task DraftsChangeNoTokenAndAreCounted()
    {
        // A prompt that repeats itself always has something to guess from.
        string[] arguments = ["--tokens", string.Join(' ', Enumerable.Range(0, 60).Select(i => i % 3)), "-n", "30", "--temperature", "0", "--repetition-penalty", "0.05", "--stats", "--draft"];
        CliResult off = await Run([.. arguments, "off"]), four = await Run([.. arguments, "4"]), auto = await Run([.. arguments, "auto"]);
        Assert.Equal((0, off.Out, off.Out), (off.ExitCode, four.Out, auto.Out));
        Assert.DoesNotContain("guessed ahead", off.Error, StringComparison.Ordinal);
        Assert.Contains("tokens guessed ahead", four.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task FiguresGoToTheNotes()
    {
        CliResult result = await Run("--tokens", "1 2 3", "-n", "4", "--stats", "--exact", "--kv", "F32", "-t", "1", "-c", "256");
        Assert.Equal(0, result.ExitCode);
        Assert.Equal(4, result.Out.Split(' ').Length);
        foreach (string word in (string[])["load ", "prefill 3 tokens", "decode 4 tokens", "256 tokens of context"])
            Assert.Contains(word, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AnInterruptionEndsItAtOnce()
    {
        using CliProcess process = CliProcess.Start(["run", "-m", model.Path, "--tokens", "1 2 3", .. CliProcess.Endless]);
        await process.Said(0);
        process.Interrupt();
        CliResult result = await process.End();
        Assert.Equal((130, "qian: interrupted\n"), (result.ExitCode, result.Error));
        Assert.EndsWith("\n", result.Out, StringComparison.Ordinal);
        Assert.InRange(result.Out.Split(' ').Length, 1, 199_000);
    }
}
