
namespace Qian.Training.Tests.Data;

public sealed class SourceTreeTests : IDisposable
{
    private readonly DataFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    // What git itself answered (git check-ignore) for these patterns and paths.
    [Theory]
    [InlineData("*.log", "a.log", true)]
    [InlineData("*.log", "x/y/a.log", true)]
    [InlineData("/a.txt", "a.txt", true)]
    [InlineData("/a.txt", "x/a.txt", false)]
    [InlineData("x/a.txt", "x/a.txt", true)]
    [InlineData("x/a.txt", "y/x/a.txt", false)]
    [InlineData("out/", "out/a.cs", true)]
    [InlineData("out/", "y/out/a.cs", true)]
    [InlineData("out/", "out", false)]
    [InlineData("**/gen/*.cs", "gen/a.cs", true)]
    [InlineData("**/gen/*.cs", "x/y/gen/a.cs", true)]
    [InlineData("**/gen/*.cs", "gen/x/a.cs", false)]
    [InlineData("x/**/z.cs", "x/z.cs", true)]
    [InlineData("x/**/z.cs", "x/a/b/z.cs", true)]
    [InlineData("x/**", "x/a/b.cs", true)]
    [InlineData("x/*", "x/a/b.cs", true)]
    [InlineData("x/*.cs", "x/a/b.cs", false)]
    [InlineData("*.cs\n!keep.cs", "keep.cs", false)]
    [InlineData("!keep.cs\n*.cs", "keep.cs", true)]
    [InlineData("x/\n!x/keep.cs", "x/keep.cs", true)]
    [InlineData("x/*\n!x/keep.cs", "x/keep.cs", false)]
    [InlineData("# note", "# note", false)]
    [InlineData("\\#a", "#a", true)]
    [InlineData("a?.cs", "ab.cs", true)]
    [InlineData("a[b-d].cs", "ac.cs", true)]
    [InlineData("a[!b-d].cs", "ac.cs", false)]
    [InlineData("a[]x].cs", "a].cs", true)]
    [InlineData("a[b", "ab", false)]
    [InlineData("a.cs  ", "a.cs", true)]
    [InlineData("a*b*c", "aXbYbZc", true)]
    [InlineData("a*b*c", "aXbYbZ", false)]
    [InlineData("A.cs", "a.cs", false)]
    public void IgnoreRulesAreThoseOfGit(string rules, string path, bool isIgnored)
    {
        _folder.Write("tree/.gitignore", rules);
        _folder.Write("tree/" + path, "text\n");
        bool isListed = Paths().Contains(path);
        Assert.Equal(isIgnored, !isListed);
    }

    [Fact]
    public void NestedRulesWinOverOuterOnes()
    {
        _folder.Write("tree/.gitignore", "*.txt\n");
        _folder.Write("tree/inner/.gitignore", "!b.txt\n/c.cs\n");
        foreach (string path in new[] { "a.txt", "inner/a.txt", "inner/b.txt", "inner/c.cs", "inner/deep/c.cs" })
            _folder.Write("tree/" + path, "text\n");
        Assert.Equal([".gitignore", "inner/.gitignore", "inner/b.txt", "inner/deep/c.cs"], Paths());
    }

    [Fact]
    public void WhatIsNoSourceIsLeftOut()
    {
        _folder.Write("tree/a.cs", "text\n");
        _folder.Write("tree/.git/config", "text\n");
        _folder.Write("tree/node_modules/x/index.js", "text\n");
        _folder.Write("tree/src/obj/a.cs", "text\n");
        _folder.Write("tree/yarn.lock", "text\n");
        _folder.Write("tree/x.min.js", "text\n");
        _folder.Write("tree/one-line.js", new string('x', 5000));
        _folder.Write("tree/zero.bin", "a\0b\n"u8.ToArray());
        _folder.Write("tree/latin.cs", [0x63, 0xE9, 0x0A]);
        _folder.Write("tree/large.cs", string.Concat(Enumerable.Repeat("line\n", 100_000)));
        _folder.Write("tree/empty.cs", "");
        File.CreateSymbolicLink(Path.Combine(_folder.Root, "tree", "loop"), Path.Combine(_folder.Root, "tree"));
        File.CreateSymbolicLink(Path.Combine(_folder.Root, "tree", "link.cs"), Path.Combine(_folder.Root, "tree", "a.cs"));
        Assert.Equal(["a.cs"], Paths());
    }

    [Fact]
    public void HostilePatternsEnd()
    {
        string stars = string.Concat(Enumerable.Repeat("*a", 500)) + "b";
        string folders = string.Concat(Enumerable.Repeat("**/a/", 500)) + "b";
        _folder.Write("tree/.gitignore", string.Concat(Enumerable.Repeat($"{stars}\n{folders}\n", 20)));
        string path = string.Join('/', Enumerable.Repeat("a", 60)) + "/" + new string('a', 200);
        _folder.Write("tree/" + path, "text\n");
        // The rules themselves look minified.
        Assert.Equal([path], Paths());
    }

    [Fact]
    public void AFileBecomesItselfAndGaps()
    {
        const string Text = "def add(a, b):\n    total = a + b\n    return total\n\n\ndef sub(a, b):\n    return a - b\n";
        _folder.Write("calc/src/calc.py", Text);
        SampleSet set = _folder.Load(new DataOptions { CodeFolders = [Path.Combine(_folder.Root, "calc")], Code = new CodeOptions { FillInTheMiddleRate = 40 } });
        Assert.Equal("<|repo_name|>calc\n<|file_sep|>src/calc.py\n" + Text, DataFolder.Mini.Decode(set.Training[0].Tokens));
        Assert.Equal(Text + "<|endoftext|>", DataFolder.Taught(set.Training[0]));
        int prefixFirstCount = 0, headerCount = 0;
        foreach (Sample sample in set.Training.Skip(1))
        {
            string taught = DataFolder.Taught(sample);
            string middle = taught[..^"<|endoftext|>".Length];
            string shown = DataFolder.Mini.Decode(sample.Tokens);
            string[] parts = shown.Split("<|fim_prefix|>")[1].Split("<|fim_suffix|>", 2);
            string[] rest = parts[1].Split("<|fim_middle|>");
            bool isPrefixFirst = parts[0].Length > 0 || rest[1] == middle;
            prefixFirstCount += isPrefixFirst ? 1 : 0;
            headerCount += shown.StartsWith("<|repo_name|>calc\n<|file_sep|>src/calc.py\n<|fim_prefix|>", StringComparison.Ordinal) ? 1 : 0;
            Assert.EndsWith("<|endoftext|>", taught, StringComparison.Ordinal);
            Assert.Equal(Text, isPrefixFirst ? parts[0] + rest[1] + rest[0] : rest[1] + rest[0]);
            Assert.True(middle.Length > 0 && rest[1].EndsWith(middle, StringComparison.Ordinal));
        }

        int gapCount = set.Training.Count - 1;
        Assert.InRange(gapCount, 25, 40);
        Assert.InRange(prefixFirstCount, 5, gapCount - 5);
        Assert.InRange(headerCount, 5, gapCount - 5);
    }

    [Fact]
    public void GapsKeepToTheLengthLimit()
    {
        _folder.Write("tree/a.cs", string.Concat(Enumerable.Range(0, 400).Select(i => $"int value{i} = {i};\n")));
        SampleSet set = _folder.Load(new DataOptions { CodeFolders = [Path.Combine(_folder.Root, "tree")], Code = new CodeOptions { FillInTheMiddleRate = 20, LongestSampleTokens = 300 } });
        Assert.True(set.Training.Count > 15);
        Assert.All(set.Training.Skip(1), sample => Assert.InRange(sample.Tokens.Length, 4, 300));
        Assert.Contains(set.Training, sample => sample.Tokens.Length == 300);
    }

    [Fact]
    public void TheSplitIsByFileAndRepeatable()
    {
        for (int i = 0; i < 60; i++)
            _folder.Write($"tree/file{i}.cs", $"class C{i}\n{{\n    int Value => {i * 17};\n    string Name => \"{i}\";\n}}\n");
        var options = new DataOptions { CodeFolders = [Path.Combine(_folder.Root, "tree")], HeldOutFraction = 0.2, Seed = 5, Code = new CodeOptions { FillInTheMiddleRate = 2 } };
        SampleSet set = _folder.Load(options);
        Assert.NotEmpty(set.HeldOut);
        Assert.Empty(set.HeldOut.Select(sample => sample.Source).Intersect(set.Training.Select(sample => sample.Source)));
        SampleSet again = _folder.Load(options);
        Assert.Equal(set.Training.SelectMany(sample => sample.Tokens), again.Training.SelectMany(sample => sample.Tokens));
    }

    [Fact]
    public void NearDuplicatesAreLeftOut()
    {
        string text = string.Concat(Enumerable.Range(0, 40).Select(i => $"    public int Property{i} {{ get; set; }}\n"));
        _folder.Write("tree/a.cs", text);
        _folder.Write("tree/b.cs", text.Replace("Property7 ", "Renamed7 ", StringComparison.Ordinal) + "// end of file\n");
        _folder.Write("tree/c.cs", text.Replace("Property1", "Other", StringComparison.Ordinal).Replace("Property2", "Another", StringComparison.Ordinal));
        var options = new DataOptions { CodeFolders = [Path.Combine(_folder.Root, "tree")], Code = new CodeOptions { FillInTheMiddleRate = 0 } };
        SampleSet set = _folder.Load(options);
        Assert.Equal(["a.cs", "c.cs"], set.Training.Select(sample => Path.GetFileName(sample.Source)));
        Assert.Equal(1, set.Statistics.NearDuplicateCount);
        Assert.Equal(3, _folder.Load(options with { Code = options.Code with { RemovesNearDuplicates = false } }).Training.Count);
    }

    [Fact]
    public void GapsNeverSplitACharacter()
    {
        var random = new Draws(3);
        const string Text = "😀😀\r\n  😀\r\n\r\n    x😀\r\ny";
        for (int i = 0; i < 2000; i++)
        {
            (int start, int end) = CodeGap.Choose(Text, ref random);
            Assert.True(start < end && end <= Text.Length);
            Assert.Equal(Text, Roundtrip(Text[..start]) + Roundtrip(Text[start..end]) + Roundtrip(Text[end..]));
        }
    }

    private static string Roundtrip(string text) => System.Text.Encoding.UTF8.GetString(System.Text.Encoding.UTF8.GetBytes(text));

    private string[] Paths() => [.. new SourceTree(Path.Combine(_folder.Root, "tree"), new DataOptions()).Files().Select(file => file.Path)];
}
