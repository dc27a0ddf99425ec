using System.Text;
using Qian.Inference;

namespace Qian.Training.Tests.Data;

public sealed class DataFilesTests : IDisposable
{
    private readonly DataFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("a\nb\nc", "1:a 2:b 3:c")]
    [InlineData("\uFEFFa\r\n\r\nb\n", "1:a 2: 3:b")]
    [InlineData("", "")]
    [InlineData("\n", "1:")]
    public void LinesAreNumbered(string text, string expected)
    {
        using var file = new LineFile(_folder.Write("a.jsonl", text), 100);
        var found = new List<string>();
        while (file.TryRead(out ReadOnlyMemory<byte> line, out string? fault))
            found.Add(fault ?? $"{file.LineNumber}:{Encoding.UTF8.GetString(line.Span)}");
        Assert.Equal(expected, string.Join(' ', found));
    }

    // Lengths around the buffer's sizes and the bound, each between two lines that must survive.
    [Theory]
    [InlineData(65_533)]
    [InlineData(65_536)]
    [InlineData(65_540)]
    [InlineData(131_072)]
    [InlineData(200_000)]
    [InlineData(200_001)]
    [InlineData(1_000_000)]
    public void LongLinesAreReadUpToTheBound(int length)
    {
        using var file = new LineFile(_folder.Write("a.jsonl", $"first\n{new string('x', length)}\nlast"), 200_000);
        Assert.True(file.TryRead(out ReadOnlyMemory<byte> line, out _));
        Assert.Equal("first", Encoding.UTF8.GetString(line.Span));
        Assert.True(file.TryRead(out line, out string? fault));
        Assert.Equal(length <= 200_000 ? length : 0, line.Length);
        Assert.Equal(length <= 200_000 ? null : $"expected at most 200000 bytes in a line, found {length}", fault);
        Assert.True(file.TryRead(out line, out _));
        Assert.Equal("last", Encoding.UTF8.GetString(line.Span));
        Assert.False(file.TryRead(out _, out _));
    }

    [Fact]
    public void BadBytesFailTheirLineAlone()
    {
        string path = _folder.Write("a.jsonl", [.. "{\"text\":\"one two\"}\n{\"text\":\""u8, 0xFF, 0xC0, .. "\"}\n{\"text\":\"three four\"}\n"u8]);
        SampleSet set = _folder.Load(new DataOptions { Paths = [path], SkippedItemLimit = 1 });
        Assert.Equal(2, set.Training.Count);
        Assert.Equal($"{path}:2: expected UTF-8, found other bytes", Assert.Single(set.Statistics.SkippedReasons));
    }

    [Fact]
    public void DeepJsonIsRefusedNotFollowed()
    {
        string path = _folder.Write("a.jsonl", "{\"messages\":" + new string('[', 100_000) + "\n{\"text\":" + string.Concat(Enumerable.Repeat("{\"a\":", 70)) + "1" + new string('}', 71));
        SampleSet set = _folder.Load(new DataOptions { Paths = [path, _folder.Write("b.txt", "fine text")], SkippedItemLimit = 2 });
        Assert.Equal(2, set.Statistics.SkippedCount);
        Assert.Contains("3 items", Assert.Throws<BadRequestException>(() => _folder.Load(new DataOptions { Paths = [path, _folder.Write("c.jsonl", "1")], SkippedItemLimit = 2 })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FoldersAreReadInOrder()
    {
        _folder.Write("data/b.txt", "second file");
        _folder.Write("data/a.md", "first file");
        _folder.Write("data/c/d.jsonl", "{\"text\":\"third file\"}\n\n{\"text\":\"fourth file\"}");
        _folder.Write("data/other.bin", "not data");
        SampleSet set = _folder.Load(new DataOptions { Paths = [Path.Combine(_folder.Root, "data")] });
        Assert.Equal(["a.md", "b.txt", "d.jsonl:1", "d.jsonl:3"], set.Training.Select(sample => Path.GetFileName(sample.Source)));
    }

    [Fact]
    public void ALongDocumentIsCutAtBlankLinesAndEndsOnce()
    {
        string text = string.Concat(Enumerable.Range(0, 900).Select(i => $"Paragraph {i} says that {i * i} is the square of {i}.\nAnd no more.\n\n"));
        string path = _folder.Write("book.txt", text);
        SampleSet set = _folder.Load(new DataOptions { Paths = [path] });
        Assert.True(set.Training.Count > 2);
        // The last token of a part is a target only.
        string joined = string.Concat(set.Training.Select(sample => DataFolder.Mini.Decode([sample.Tokens[0], .. sample.Labels])));
        Assert.Equal(text + "<|endoftext|>", joined);
    }

    [Fact]
    public void HeldOutFilesAreMeasuredOnly()
    {
        string training = _folder.Write("a.jsonl", "{\"text\":\"one thing\"}\n{\"text\":\"another thing\"}\n");
        string heldOut = _folder.Write("b.jsonl", "{\"text\":\"another thing\"}\n{\"text\":\"a third thing\"}\n");
        SampleSet set = _folder.Load(new DataOptions { Paths = [training], HeldOutPaths = [heldOut] });
        Assert.Equal("one thing", DataFolder.Mini.Decode(Assert.Single(set.Training).Tokens));
        Assert.Equal(2, set.HeldOut.Count);
        Assert.Equal(1, set.Statistics.DuplicateCount);
    }

    [Fact]
    public void WrongPathsAreNamed()
    {
        string missing = Path.Combine(_folder.Root, "none.jsonl");
        Assert.StartsWith(missing, Refusal(missing), StringComparison.Ordinal);
        Assert.Contains(".jsonl, .txt or .md", Refusal(_folder.Write("a.csv", "x")), StringComparison.Ordinal);
        Assert.Contains("found none", Refusal(_folder.Root), StringComparison.Ordinal);
    }

    private string Refusal(string path) => Assert.Throws<BadRequestException>(() => _folder.Load(new DataOptions { Paths = [path] })).Message;
}
