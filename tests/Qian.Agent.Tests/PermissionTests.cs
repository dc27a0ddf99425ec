namespace Qian.Agent.Tests;

// Who may do what: reading is free, writing and running are asked for, and where nobody can be asked they are refused.
public sealed class PermissionTests
{
    [Fact]
    public async Task WithoutAnybodyToAskOnlyReadingIsAllowed()
    {
        using var bench = new Bench(new Permissions());
        bench.Put("a.txt", "a\n");
        Assert.Equal("a", (await bench.Use("read_file", ("path", "a.txt"))).Text);
        Assert.Equal("a.txt", (await bench.Use("list_files")).Text);
        foreach (ToolResult refused in (ToolResult[])[
            await bench.Use("write_file", ("path", "a.txt"), ("content", "b")), await bench.Use("edit_file", ("path", "a.txt"), ("old", "a"), ("new", "b")), await bench.Use("run_command", ("command", "echo b > a.txt"))])
            Assert.Contains("not permitted here", refused.Text, StringComparison.Ordinal);
        Assert.Equal("a\n", File.ReadAllText(bench.At("a.txt")));
        Assert.Empty(bench.Asked);
    }

    [Fact]
    public async Task TheAnswerDecides()
    {
        var answers = new Queue<PermissionAnswer>([PermissionAnswer.No, PermissionAnswer.Once, PermissionAnswer.Always, PermissionAnswer.No, PermissionAnswer.Always]);
        using var bench = new Bench(new Permissions { Ask = (_, _) => Task.FromResult(answers.Dequeue()) });
        (string, string)[] write = [("path", "a.txt"), ("content", "b")];
        Assert.Equal("error: the user does not permit this", (await bench.Use("write_file", write)).Text);
        Assert.False(File.Exists(bench.At("a.txt")));
        Assert.False((await bench.Use("write_file", write)).IsError);
        Assert.False((await bench.Use("write_file", write)).IsError);
        // From here on without a question.
        Assert.False((await bench.Use("write_file", ("path", "c.txt"), ("content", "c"))).IsError);
        Assert.True((await bench.Use("run_command", ("command", "echo 1"))).IsError);
        Assert.False((await bench.Use("run_command", ("command", "echo 2"))).IsError);
        Assert.False((await bench.Use("run_command", ("command", "echo 2"))).IsError);
        Assert.Empty(answers);
        Assert.Equal(5, bench.Asked.Count);
        Assert.Equal((PermissionKind.Write, "a.txt", "+b"), (bench.Asked[0].Kind, bench.Asked[0].Subject, bench.Asked[0].Diff));
        Assert.Equal((PermissionKind.Run, "echo 2"), (bench.Asked[4].Kind, bench.Asked[4].Subject));
    }

    // What cannot be done anyway is nobody's question.
    [Fact]
    public async Task NobodyIsAskedInVain()
    {
        using var bench = new Bench(new Permissions { Ask = (_, _) => Task.FromResult(PermissionAnswer.Once) });
        await bench.Use("write_file", ("path", "../x"), ("content", "b"));
        await bench.Use("edit_file", ("path", "none"), ("old", "a"), ("new", "b"));
        await bench.Use("run_command", ("command", ""));
        Assert.Empty(bench.Asked);
    }

    [Fact]
    public async Task WritesMayBeAllowedWithoutCommands()
    {
        using var bench = new Bench(new Permissions { AllowWrite = true });
        Assert.False((await bench.Use("write_file", ("path", "a.txt"), ("content", "b"))).IsError);
        Assert.True((await bench.Use("run_command", ("command", "true"))).IsError);
    }

    [Theory]
    [InlineData("make test", "make test", true)]
    [InlineData("make test", "make test2", false)]
    [InlineData("make test", "sudo make test", false)]
    [InlineData("make test", "make test\n", true)]
    [InlineData("make *", "make test -j 2", true)]
    [InlineData("make *", "make test; touch bad", false)]
    [InlineData("make *", "make test && touch bad", false)]
    [InlineData("make *", "make test | tee bad", false)]
    [InlineData("make *", "make $(touch bad)", false)]
    [InlineData("make *", "make `touch bad`", false)]
    [InlineData("make *", "make test > bad", false)]
    [InlineData("make *", "make test\ntouch bad", false)]
    [InlineData("make *", "make test &", false)]
    [InlineData("make test; true", "make test; true", true)]
    [InlineData("m.ke *", "make test", false)]
    [InlineData("*", "make test", true)]
    public async Task PatternsAllowOneCommandOnly(string pattern, string command, bool isAllowed)
    {
        using var bench = new Bench(new Permissions { RunPatterns = [pattern] });
        ToolResult result = await bench.Use("run_command", ("command", command));
        Assert.Equal(isAllowed, !result.Text.Contains("not permitted", StringComparison.Ordinal));
        Assert.False(File.Exists(bench.At("bad")));
    }
}
