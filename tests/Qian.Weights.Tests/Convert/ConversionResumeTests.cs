using Qian.Inference;

namespace Qian.Weights.Tests;

// Conversions that end early and go on: to the same bytes as in one go, or from the beginning where that could not be.
public sealed class ConversionResumeTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("out.gguf", "Q2_K", "tiny")]
    [InlineData("out.gguf", "Q4_K_M", "tiny-moe")]
    [InlineData("out/", "F32", "tiny")]
    [InlineData("out/", "BF16", "tiny-moe")]
    public void AnInterruptedConversionGoesOnToTheSameBytes(string name, string mix, string shape)
    {
        string input = SynthModels.Write(_folder, "a.gguf", shape, "F32"), whole = _folder.File("whole" + name[3..]), output = _folder.File(name);
        SynthModels.Convert(SynthModels.Request(input, whole, mix));
        ConversionRequest request = SynthModels.Request(input, output, mix);
        string unfinished = Interrupt(request, 0.5);
        Assert.Contains("the same command", unfinished, StringComparison.Ordinal);
        Assert.False(File.Exists(output));

        var notes = new List<string>();
        ConversionResult result = Go(request, notes);
        Assert.Contains("going on", Assert.Single(notes), StringComparison.Ordinal);
        Assert.InRange(result.KeptValueCount, result.ValueCount / 4, result.ValueCount * 3 / 4);
        AssertSame(whole, output);
    }

    // As many times as one likes: one more tensor survives each time.
    [Fact]
    public void ManyInterruptionsStillEnd()
    {
        string input = SynthModels.Write(_folder, "a.gguf"), whole = _folder.File("whole.gguf"), output = _folder.File("out.gguf");
        SynthModels.Convert(SynthModels.Request(input, whole, "Q4_K_M"));
        ConversionRequest request = SynthModels.Request(input, output, "Q4_K_M");
        foreach (double share in (ReadOnlySpan<double>)[0.4, 0.6, 0.8])
            Interrupt(request, share);
        Go(request, []);
        AssertSame(whole, output);
    }

    // A kill leaves a line half written, bytes behind the last whole tensor, and sometimes bytes that never reached the disk.
    [Theory]
    [InlineData("half a line")]
    [InlineData("bytes behind")]
    [InlineData("cut")]
    [InlineData("wrong byte")]
    public void WhatAKillLeavesIsCheckedBeforeItIsUsed(string damage)
    {
        string input = SynthModels.Write(_folder, "a.gguf"), whole = _folder.File("whole.gguf"), output = _folder.File("out.gguf"), part = output + ".part";
        SynthModels.Convert(SynthModels.Request(input, whole, "Q4_K_M"));
        ConversionRequest request = SynthModels.Request(input, output, "Q4_K_M");
        Interrupt(request, 0.5);
        using (FileStream file = File.Open(damage == "half a line" ? output + ".journal.part" : part, FileMode.Open))
        {
            file.Position = file.Length;
            if (damage == "half a line")
                file.SetLength(file.Length - 3);
            else if (damage == "bytes behind")
                file.Write(new byte[5_000_000]);
            else if (damage == "cut")
                file.SetLength(file.Length / 2);
            else
                Flip(file, file.Length / 2);
        }

        Go(request, []);
        AssertSame(whole, output);
    }

    [Theory]
    [InlineData("type", "other options")]
    [InlineData("rule", "other options")]
    [InlineData("fast", "other options")]
    [InlineData("mtp", "other options")]
    [InlineData("importance", "other options")]
    [InlineData("input", "input")]
    [InlineData("time", "input")]
    [InlineData("journal", "damaged")]
    public void WhatWouldGiveOtherBytesBeginsAnewAndSaysSo(string change, string reason)
    {
        string input = SynthModels.Write(_folder, "a.gguf"), output = _folder.File("out.gguf"), fresh = _folder.File("fresh.gguf");
        ConversionRequest request = SynthModels.Request(input, output, "Q4_K_M");
        Interrupt(request, 0.5);
        var matrix = new ImportanceMatrix();
        matrix.Add(new ImportanceEntry("blk.0.ffn_down.weight", [.. Enumerable.Range(1, 768).Select(i => (float)i)], [1]));
        request = change switch
        {
            "type" => request with { Mix = QuantMix.Find("Q5_K_M") },
            "rule" => request with { Rules = [TensorRule.Parse("ffn_down=Q8_0")] },
            "fast" => request with { Fast = true },
            "mtp" => request with { KeepMtp = false },
            "importance" => request with { Importance = matrix },
            _ => request,
        };
        if (change == "input")
        {
            SynthModels.Write(_folder, "b.gguf", mix: "F16");
            File.Move(_folder.File("b.gguf"), input, overwrite: true);
        }
        else if (change == "time")
        {
            File.SetLastWriteTimeUtc(input, File.GetLastWriteTimeUtc(input).AddSeconds(1));
        }
        else if (change == "journal")
        {
            File.WriteAllText(output + ".journal.part", "something else\n");
        }

        var notes = new List<string>();
        Assert.Equal(0, Go(request, notes).KeptValueCount);
        Assert.Contains(reason, Assert.Single(notes), StringComparison.Ordinal);
        Assert.Contains("anew", notes[0], StringComparison.Ordinal);
        Go(request with { OutputPath = fresh }, []);
        AssertSame(fresh, output);
    }

    // Nothing whole yet: nothing to go on with, so nothing is left.
    [Theory]
    [InlineData("out.gguf", "Q2_K")]
    [InlineData("out/", "F32")]
    public void WhatEndsBeforeTheFirstTensorLeavesNothing(string name, string mix)
    {
        string input = SynthModels.Write(_folder, "a.gguf");
        using var conversion = ModelConversion.Prepare(SynthModels.Request(input, _folder.File(name), mix));
        Assert.Throws<OperationCanceledException>(() => conversion.Write(null, new CancellationToken(canceled: true)));
        Assert.Null(conversion.Unfinished);
        Assert.Equal([input], Directory.GetFileSystemEntries(_folder.Path));
    }

    [Fact]
    public void TwoRunsDoNotWriteTheSameFile()
    {
        string input = SynthModels.Write(_folder, "a.gguf"), output = _folder.File("out.gguf");
        ConversionRequest request = SynthModels.Request(input, output, "Q4_K_M");
        using ModelConversion first = ModelConversion.Prepare(request), second = ModelConversion.Prepare(request);
        string? refusal = null;
        first.Write(new Listener(_ => refusal ??= Assert.Throws<IOException>(() => second.Write(null, default)).Message), default);
        Assert.Contains("another run", refusal, StringComparison.Ordinal);
        Assert.Equal([input, output], Directory.GetFileSystemEntries(_folder.Path).Order());
    }

    private static string Interrupt(ConversionRequest request, double share)
    {
        using var interrupt = new CancellationTokenSource();
        using ModelConversion conversion = ModelConversion.Prepare(request);
        var progress = new Listener(value =>
        {
            if (value.ValuesDone >= share * value.ValuesTotal)
                interrupt.Cancel();
        });
        Assert.Throws<OperationCanceledException>(() => conversion.Write(progress, interrupt.Token));
        return conversion.Unfinished!;
    }

    private static ConversionResult Go(ConversionRequest request, List<string> notes)
    {
        using ModelConversion conversion = ModelConversion.Prepare(request);
        return conversion.Write(null, default, notes.Add);
    }

    private static void AssertSame(string whole, string output)
    {
        if (Directory.Exists(whole))
        {
            Assert.Equal(Directory.GetFiles(whole).Select(Path.GetFileName).Order(), Directory.GetFiles(output).Select(Path.GetFileName).Order());
            foreach (string file in Directory.GetFiles(whole))
                Assert.True(File.ReadAllBytes(file).AsSpan().SequenceEqual(File.ReadAllBytes(Path.Combine(output, Path.GetFileName(file)))), file);
            return;
        }

        Assert.True(File.ReadAllBytes(whole).AsSpan().SequenceEqual(File.ReadAllBytes(output)));
        Assert.False(File.Exists(output + ".part") || File.Exists(output + ".journal.part"));
    }

    private static void Flip(FileStream file, long position)
    {
        file.Position = position;
        int value = file.ReadByte();
        file.Position = position;
        file.WriteByte((byte)~value);
    }

    private sealed class Listener(Action<ConversionProgress> report) : IProgress<ConversionProgress>
    {
        public void Report(ConversionProgress value) => report(value);
    }
}
