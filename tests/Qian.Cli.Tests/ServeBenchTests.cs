using System.Text.Json;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// qian bench --serve on the tiny model: every part says something that can be, and the soak compares. No figure is expected to be fast or slow.
public sealed class ServeBenchTests(TinyModel model) : IClassFixture<TinyModel>, IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("qian-bench-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task TheStreamsAndTheResumeAreMeasured()
    {
        CliResult result = await Bench("overhead", "gaps", "batch", "resume", "--prefix-tokens", "700", "--folder", _folder, "-c", "32768", "--json");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        using JsonDocument json = JsonDocument.Parse(result.Out);
        JsonElement root = json.RootElement;
        Assert.True(root.GetProperty("overhead").GetProperty("engine_milliseconds").GetDouble() > 0);
        Assert.True(root.GetProperty("overhead").GetProperty("http_milliseconds").GetDouble() > 0);
        Assert.True(root.GetProperty("gaps").GetProperty("alone").GetProperty("count").GetInt32() > 0);
        Assert.True(root.GetProperty("gaps").GetProperty("beside").GetProperty("median").GetDouble() > 0);
        Assert.True(root.GetProperty("batch").GetProperty("total").GetDouble() > 0);
        JsonElement resume = root.GetProperty("resume");
        Assert.Equal((700, 732, 700), (resume.GetProperty("prefix_tokens").GetInt32(), resume.GetProperty("prompt_tokens").GetInt32(), resume.GetProperty("cached_tokens").GetInt32()));
        Assert.True(resume.GetProperty("file_bytes").GetInt64() > 0);
        Assert.Equal(JsonValueKind.Null, root.GetProperty("soak").ValueKind);
        Assert.DoesNotContain(Directory.EnumerateDirectories(_folder), path => Path.GetFileName(path).StartsWith("qian-bench-", StringComparison.Ordinal));
    }

    [Fact]
    public async Task TheSoakComparesEveryReply()
    {
        CliResult result = await Bench("soak", "--clients", "6", "--minutes", "0.05");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.StartsWith("soak: 6 clients for ", result.Out, StringComparison.Ordinal);
        Assert.Contains(" replies came to their end, 0 of them not as when asked alone; ", result.Out, StringComparison.Ordinal);
        Assert.Contains("; 0 failed (0 turned away); 0 places still taken at the end", result.Out, StringComparison.Ordinal);
    }

    // A server that turns some away: the harness must see it.
    [Fact]
    public async Task AGivenServerIsSoakedAndItsFaultsAreTold()
    {
        using CliProcess server = CliProcess.Start("serve", "-m", model.Path, "-c", "4096", "--port", "0", "--parallel", "1", "--queue", "1");
        await server.Noted("(Ctrl-C stops)");
        string address = server.Notes.Split('\n').Single(line => line.StartsWith("serving ", StringComparison.Ordinal)).Split(' ')[3];
        CliResult result = await Bench("soak", "--url", address, "--clients", "8", "--minutes", "0.03");
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("status 429", result.Out, StringComparison.Ordinal);
        Assert.Contains("working set: not told", result.Out, StringComparison.Ordinal);
        server.Interrupt();
        Assert.Equal(0, (await server.End()).ExitCode);
    }

    [Theory]
    [InlineData("--clients: expected 1 to 4096", "--clients", "0")]
    [InlineData("--minutes: expected more than 0", "--minutes", "-1")]
    [InlineData("--url: expected an address", "--url", "localhost:8080")]
    [InlineData("--prefix-tokens: expected 64 to", "--prefix-tokens", "3")]
    public async Task WhatCannotBeIsRefused(string message, params string[] arguments)
    {
        CliResult result = await Bench(["soak", .. arguments]);
        Assert.Equal(2, result.ExitCode);
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
    }

    private Task<CliResult> Bench(params string[] arguments) => CliProcess.RunWith(null, ("TMPDIR", _folder), ["bench", "-m", model.Path, "-t", "1", "--quick", "--serve", .. arguments]);
}
