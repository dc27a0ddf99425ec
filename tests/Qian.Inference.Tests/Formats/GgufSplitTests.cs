using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

// Split sets open from any part, and only whole and consistent.
public sealed class GgufSplitTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void AnyPartOpensTheSet(int given)
    {
        using var folder = new TempFolder();
        WriteSet(folder);
        using GgufFile file = GgufFile.Open(folder.File($"m-{given:d5}-of-00003.gguf"));
        Assert.Equal(["t1", "t2", "t3"], file.Tensors.Select(tensor => tensor.Name));
        Assert.Equal("of part 1", file.Text("note"));
        for (int i = 1; i <= 3; i++)
            Assert.Equal(Enumerable.Repeat((byte)i, 16), file.Find($"t{i}")!.Data.Span(0, 16).ToArray());
        Assert.EndsWith("m-00001-of-00003.gguf", file.Path);
    }

    [Fact]
    public void AMissingPartIsNamed()
    {
        using var folder = new TempFolder();
        WriteSet(folder);
        File.Delete(folder.File("m-00002-of-00003.gguf"));
        Assert.Contains("m-00002-of-00003.gguf: part 2 of 3 is missing", Error(folder.File("m-00003-of-00003.gguf")));
    }

    [Fact]
    public void ARenamedPartIsRefused()
    {
        using var folder = new TempFolder();
        WriteSet(folder);
        File.Move(folder.File("m-00001-of-00003.gguf"), folder.File("model.gguf"));
        Assert.Contains("its name must end in -00001-of-00003.gguf", Error(folder.File("model.gguf")));
    }

    [Fact]
    public void AForeignPartIsRefused()
    {
        using var folder = new TempFolder();
        WriteSet(folder);
        File.Copy(folder.File("m-00001-of-00003.gguf"), folder.File("m-00002-of-00003.gguf"), overwrite: true);
        Assert.Contains("m-00002-of-00003.gguf: expected part 2 of 3", Error(folder.File("m-00001-of-00003.gguf")));
    }

    [Fact]
    public void ATensorInTwoPartsIsRefused()
    {
        using var folder = new TempFolder();
        WriteSet(folder);
        WritePart(folder, 2, "t1", 3);
        Assert.Contains("tensor 't1' occurs twice in this split set", Error(folder.File("m-00001-of-00003.gguf")));
    }

    [Fact]
    public void TheTensorCountMustAgree()
    {
        using var folder = new TempFolder();
        WriteSet(folder);
        WritePart(folder, 1, "t1", 4);
        Assert.Contains("'split.tensors.count' says 4 tensors, the 3 parts hold 3", Error(folder.File("m-00001-of-00003.gguf")));
    }

    private static string Error(string path) => Assert.Throws<BadModelFileException>(() => GgufFile.Open(path)).Message;

    private static void WriteSet(TempFolder folder)
    {
        for (int i = 1; i <= 3; i++)
            WritePart(folder, i, $"t{i}", 3);
    }

    private static void WritePart(TempFolder folder, int number, string tensor, int tensorCount)
    {
        using var writer = new GgufWriter(folder.File($"m-{number:d5}-of-00003.gguf"));
        writer.Add("note", $"of part {number}");
        writer.Add("split.no", (uint)(number - 1));
        writer.Add("split.count", 3u);
        writer.Add("split.tensors.count", tensorCount);
        writer.Declare(tensor, WeightType.F32, 4);
        writer.Write(Enumerable.Repeat((byte)number, 16).ToArray());
        writer.Complete();
    }
}
