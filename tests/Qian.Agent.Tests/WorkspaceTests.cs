using System.Diagnostics;
using System.Runtime.Versioning;

namespace Qian.Agent.Tests;

// The boundary: a model may name any path, and gets at nothing outside its folder. Links, pipes and modes are those of Unix.
[UnsupportedOSPlatform("windows")]
public sealed class WorkspaceTests
{
    [Theory]
    [InlineData("../project-2/secret.txt")]
    [InlineData("a/../../project-2/secret.txt")]
    [InlineData("/etc/hostname")]
    [InlineData("link.txt")]
    [InlineData("folder/secret.txt")]
    [InlineData("chain.txt")]
    [InlineData("up/project-2/secret.txt")]
    [InlineData("inner/../../project-2/secret.txt")]
    [InlineData("loop")]
    public async Task NothingOutsideIsReadOrWritten(string path)
    {
        using var bench = new Bench();
        bench.Put("deep/er/x.txt", "x\n");
        File.CreateSymbolicLink(bench.At("link.txt"), bench.Secret);
        File.CreateSymbolicLink(bench.At("chain.txt"), "link.txt");
        Directory.CreateSymbolicLink(bench.At("folder"), Path.GetDirectoryName(bench.Secret)!);
        Directory.CreateSymbolicLink(bench.At("up"), "..");
        // "inner/.." is deep: with both dots the path stays inside, where there is no such file. Spelled out, it would lead outside.
        Directory.CreateSymbolicLink(bench.At("inner"), "deep/er");
        File.CreateSymbolicLink(bench.At("loop"), "loop");
        ToolResult[] results =
        [
            await bench.Use("read_file", ("path", path)),
            await bench.Use("edit_file", ("path", path), ("old", "secret"), ("new", "open")),
        ];
        Assert.All(results, result => Assert.StartsWith("error: ", result.Text, StringComparison.Ordinal));
        if (path.StartsWith("inner", StringComparison.Ordinal))
            return;
        Assert.True((await bench.Use("write_file", ("path", path), ("content", "mine"))).IsError);
        Assert.Equal("secret\n", File.ReadAllText(bench.Secret));
        Assert.Equal([bench.Secret], Directory.GetFiles(Path.GetDirectoryName(bench.Secret)!));
    }

    // The neighbour's name begins with ours.
    [Fact]
    public async Task ANeighbourIsNotInside()
    {
        using var bench = new Bench();
        Assert.Contains("outside", (await bench.Use("read_file", ("path", bench.Secret))).Text, StringComparison.Ordinal);
        bench.Put("a.txt", "a\n");
        Assert.Equal("a", (await bench.Use("read_file", ("path", bench.At("a.txt")))).Text);
    }

    [Fact]
    public async Task ALinkToNowhereIsNotWrittenThrough()
    {
        using var bench = new Bench();
        string outside = Path.Combine(Path.GetDirectoryName(bench.Secret)!, "new.txt");
        File.CreateSymbolicLink(bench.At("new.txt"), outside);
        Assert.True((await bench.Use("write_file", ("path", "new.txt"), ("content", "mine"))).IsError);
        Assert.False(File.Exists(outside));
        // One that stays inside is followed, and stays a link.
        File.CreateSymbolicLink(bench.At("inside.txt"), "real.txt");
        Assert.Equal("wrote inside.txt", (await bench.Use("write_file", ("path", "inside.txt"), ("content", "mine"))).Text);
        Assert.Equal("mine\n", File.ReadAllText(bench.At("real.txt")));
        Assert.NotNull(new FileInfo(bench.At("inside.txt")).LinkTarget);
    }

    // The folder itself may be given through a link.
    [Fact]
    public async Task TheRootMayBeALink()
    {
        using var bench = new Bench();
        bench.Put("a.txt", "a\n");
        string link = Path.Combine(Path.GetDirectoryName(bench.Folder)!, "link");
        Directory.CreateSymbolicLink(link, bench.Folder);
        var tools = new ToolBox(new Workspace(link), new Permissions(), TimeSpan.FromSeconds(1));
        Assert.Equal("a", (await tools.RunAsync("read_file", new Dictionary<string, string> { ["path"] = Path.Combine(link, "a.txt") }, _ => { }, default)).Text);
        Assert.Throws<DirectoryNotFoundException>(() => new Workspace(bench.At("none")));
    }

    [Fact]
    public async Task ListingAndSearchingFollowNoLinks()
    {
        using var bench = new Bench();
        bench.Put("b/two.cs", "int two = 2;\n");
        bench.Put("a.cs", "int one = 1;\r\nint two = 2;\r\n");
        bench.Put(".git/config", "two\n");
        bench.Put("bin/two.cs", "two\n");
        bench.Put("x\ny", "none\n");
        Directory.CreateSymbolicLink(bench.At("folder"), Path.GetDirectoryName(bench.Secret)!);
        File.CreateSymbolicLink(bench.At("link.txt"), bench.Secret);
        Assert.Equal("a.cs\nb/two.cs\nx?y", (await bench.Use("list_files")).Text);
        Assert.Equal("a.cs:2: int two = 2;\nb/two.cs:1: int two = 2;", (await bench.Use("search_files", ("pattern", "t[w]o"))).Text);
        Assert.Equal("nothing found", (await bench.Use("search_files", ("pattern", "secret"))).Text);
    }

    [Fact]
    public async Task SizesAreBounded()
    {
        using var bench = new Bench();
        bench.Put("huge.txt", new string('x', Workspace.MostBytes + 1));
        Assert.True((await bench.Use("read_file", ("path", "huge.txt"))).IsError);
        Assert.True((await bench.Use("write_file", ("path", "new.txt"), ("content", new string('é', Workspace.MostBytes / 2 + 1)))).IsError);
        Assert.True((await bench.Use("read_file", ("path", new string('a', 5000)))).IsError);
        Assert.True((await bench.Use("read_file", ("path", new string('a', 1000)))).IsError);
        bench.Put("long.txt", string.Concat(Enumerable.Repeat("word ", 40_000)));
        Assert.InRange((await bench.Use("read_file", ("path", "long.txt"))).Text.Length, 50_000, 50_200);
        bench.Put("many.txt", string.Concat(Enumerable.Repeat(new string('y', 5000) + "\n", 150)));
        Assert.InRange((await bench.Use("search_files", ("pattern", "y"))).Text.Length, 20_000, 30_000);
        Assert.False(File.Exists(bench.At("new.txt")));
    }

    [Fact]
    public async Task WhatIsNoTextIsRefused()
    {
        using var bench = new Bench();
        File.WriteAllBytes(bench.At("a.bin"), [1, 0, 2]);
        File.WriteAllBytes(bench.At("b.bin"), [0xFF, 0xFE, 0x41]);
        Assert.Contains("not a text", (await bench.Use("read_file", ("path", "a.bin"))).Text, StringComparison.Ordinal);
        Assert.Contains("UTF-8", (await bench.Use("read_file", ("path", "b.bin"))).Text, StringComparison.Ordinal);
        Assert.True((await bench.Use("write_file", ("path", "a.bin"), ("content", "x"))).IsError);
        Assert.Equal([1, 0, 2], File.ReadAllBytes(bench.At("a.bin")));
    }

    // A pipe that nobody writes to would keep a reader waiting for ever.
    [Fact]
    public async Task APipeIsNotWaitedFor()
    {
        using var bench = new Bench();
        using (Process made = Process.Start("mkfifo", [bench.At("pipe")]))
            await made.WaitForExitAsync();
        Assert.Equal("", (await bench.Use("read_file", ("path", "pipe"))).Text);
        Assert.Equal("nothing found", (await bench.Use("search_files", ("pattern", "x"))).Text);
    }

    [Fact]
    public async Task WritingLeavesAWholeFileAndNothingElse()
    {
        using var bench = new Bench();
        bench.Put("run.sh", "#!/bin/sh\nexit 1\n");
        File.SetUnixFileMode(bench.At("run.sh"), UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        ToolResult edited = await bench.Use("edit_file", ("path", "run.sh"), ("old", "exit 1"), ("new", "exit 0"));
        Assert.Equal(("edited run.sh", " #!/bin/sh\n-exit 1\n+exit 0"), (edited.Text, edited.Diff));
        Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(bench.At("run.sh")));
        Assert.Equal("wrote deep/er/new.txt", (await bench.Use("write_file", ("path", "deep/er/new.txt"), ("content", "text"))).Text);
        Assert.Equal("text\n", File.ReadAllText(bench.At("deep/er/new.txt")));
        Assert.Equal(2, Directory.GetFiles(bench.Folder, "*", SearchOption.AllDirectories).Length);
        Assert.True((await bench.Use("write_file", ("path", "deep"), ("content", "x"))).IsError);
        Assert.True((await bench.Use("write_file", ("path", "run.sh/x"), ("content", "x"))).IsError);
        Assert.True((await bench.Use("write_file", ("path", ".git/hooks/pre-commit"), ("content", "x"))).IsError);
        Assert.Equal(2, Directory.GetFiles(bench.Folder, "*", SearchOption.AllDirectories).Length);
    }

    [Fact]
    public async Task AnEditMatchesExactlyOnce()
    {
        using var bench = new Bench();
        bench.Put("a.txt", "x = 1\ny = 1\naaa\n");
        foreach ((string old, string says) in ((string, string)[])[("= 1", "more than once"), ("aa", "more than once"), ("z", "not in"), ("X = 1", "not in"), ("", "empty")])
            Assert.Contains(says, (await bench.Use("edit_file", ("path", "a.txt"), ("old", old), ("new", "2"))).Text, StringComparison.Ordinal);
        Assert.Equal("x = 1\ny = 1\naaa\n", File.ReadAllText(bench.At("a.txt")));
        bench.Put("dos.txt", "\ufeffone\r\ntwo\r\n");
        Assert.False((await bench.Use("edit_file", ("path", "dos.txt"), ("old", "one\ntwo"), ("new", "one\nand\ntwo"))).IsError);
        Assert.Equal("\ufeffone\r\nand\r\ntwo\r\n"u8.ToArray(), File.ReadAllBytes(bench.At("dos.txt")));
    }

    [Theory]
    [InlineData("", "a\nb\n", "+a\n+b")]
    [InlineData("a\n", "", "-a")]
    [InlineData("a\nb\nc\nd\ne\n", "a\nb\nX\nd\ne\n", " a\n b\n-c\n+X\n d\n e")]
    [InlineData("a\na\n", "a\na\na\n", " a\n a\n+a")]
    [InlineData("same\n", "same\n", "")]
    public void DiffsShowWhatChanged(string before, string after, string diff) => Assert.Equal(diff, LineDiff.Of(before, after));
}
