using System.Globalization;

namespace Qian.Agent.Tests;

// Commands: what they may use, how long, and that nothing of them stays.
public sealed class CommandTests
{
    // One process of the tree has left its parents and its session, and its parent has ended.
    private const string Tree = "echo $$ > pids; sleep 300 & echo $! >> pids; setsid sh -c 'sleep 300 & echo $! >> pids; sh -c \"sleep 300 & echo \\$! >> pids\"; touch begun; wait'";

    [Fact]
    public async Task OutputOfBothKindsAndTheCodeAreTold()
    {
        using var bench = new Bench();
        ToolResult result = await bench.Use("run_command", ("command", "echo out; echo wrong >&2; pwd; exit 7"));
        Assert.True(result.IsError);
        Assert.Contains("out\n", result.Text, StringComparison.Ordinal);
        Assert.Contains("wrong\n", result.Text, StringComparison.Ordinal);
        Assert.Contains("project\n", result.Text, StringComparison.Ordinal);
        Assert.EndsWith("\n(exit code 7)", result.Text, StringComparison.Ordinal);
        Assert.Equal(new ToolResult("fine"), await bench.Use("run_command", ("command", "echo fine")));
        Assert.Equal(new ToolResult("(no output)"), await bench.Use("run_command", ("command", "true")));
    }

    [Fact]
    public async Task NothingOfTheUsersEnvironmentReachesItButWhatIsListed()
    {
        Environment.SetEnvironmentVariable("QIAN_TEST_API_KEY", "sesame");
        using var bench = new Bench();
        string text = (await bench.Use("run_command", ("command", "env"))).Text;
        Environment.SetEnvironmentVariable("QIAN_TEST_API_KEY", null);
        Assert.DoesNotContain("sesame", text, StringComparison.Ordinal);
        Assert.Contains("\nTERM=dumb", "\n" + text, StringComparison.Ordinal);
        Assert.Contains("\nPATH=", "\n" + text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task InputEndsAtOnce()
    {
        using var bench = new Bench();
        Assert.Equal("(no output)", (await bench.Use("run_command", ("command", "cat"))).Text);
    }

    [Fact]
    public async Task OutputWithoutEndIsBounded()
    {
        using var bench = new Bench();
        string text = (await bench.Use("run_command", ("command", "echo first; yes 2> /dev/null | head -c 3000000; echo last"))).Text;
        Assert.InRange(text.Length, 15_000, 17_000);
        Assert.StartsWith("first\ny\n", text, StringComparison.Ordinal);
        Assert.EndsWith("y\nlast", text, StringComparison.Ordinal);
        Assert.Contains("characters left out", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task TimeIsLimitedAndTheWholeTreeEnds()
    {
        using var bench = new Bench(seconds: 15);
        ToolResult result = await bench.Use("run_command", ("command", "echo begun; " + Tree));
        Assert.True(result.IsError);
        Assert.Equal("begun\n(stopped after 15 seconds)", result.Text);
        AssertGone(bench, 4);
    }

    [Fact]
    public async Task CancelledTheWholeTreeEnds()
    {
        using var bench = new Bench();
        using var stop = new CancellationTokenSource();
        Task<ToolResult> running = bench.Use("run_command", stop.Token, ("command", Tree));
        using var patience = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        while (!File.Exists(bench.At("begun")))
            await Task.Delay(10, patience.Token);
        stop.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        AssertGone(bench, 4);
    }

    [Fact]
    public async Task WhatACommandLeavesBehindEndsWithIt()
    {
        using var bench = new Bench();
        Assert.Equal("started", (await bench.Use("run_command", ("command", "nohup sleep 300 > /dev/null 2>&1 & echo $! > pids; echo started"))).Text);
        AssertGone(bench, 1);
    }

    private static void AssertGone(Bench bench, int count)
    {
        int[] ids = [.. File.ReadAllLines(bench.At("pids")).Select(line => int.Parse(line, CultureInfo.InvariantCulture))];
        Assert.Equal(count, ids.Length);
        Assert.All(ids, id => Assert.False(IsRunning(id), $"process {id} is still there"));
    }

    // One that nobody has waited for yet is a name without a process.
    private static bool IsRunning(int id)
    {
        try
        {
            string stat = File.ReadAllText($"/proc/{id}/stat");
            return stat[(stat.LastIndexOf(')') + 2)..][0] is not ('Z' or 'X');
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException or IOException)
        {
            return false;
        }
    }
}
