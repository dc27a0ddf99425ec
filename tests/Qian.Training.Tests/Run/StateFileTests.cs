using Qian.Inference;
using Qian.Kernels;
using Qian.Training.Run;

namespace Qian.Training.Tests.Run;

public sealed class StateFileTests : IDisposable
{
    private readonly TempFolder _folder = new();
    private readonly NativeBuffer _buffer = NativeBuffer.AllocateFloats(1000);

    public void Dispose()
    {
        _buffer.Dispose();
        _folder.Dispose();
    }

    [Fact]
    public void AStateComesBackAsItWas()
    {
        Fill(1);
        float[] values = _buffer.AllFloats.Span.ToArray();
        StateHeader header = Header(7);
        string file = new StateFolder(_folder.Path).Write(header, Tensors());
        Fill(2);
        StateHeader found = StateFile.Read(file, Tensors());
        Assert.Equal(values, _buffer.AllFloats.Span.ToArray());
        Assert.Equal(header.ToJson(), found.ToJson());
        Assert.Equal(["state-00000007.qts"], Directory.GetFiles(_folder.Path).Select(Path.GetFileName));
    }

    // A byte changed, missing or added anywhere is noticed, and nothing of the run is touched.
    [Fact]
    public void EveryDamageIsNoticed()
    {
        Fill(1);
        string file = new StateFolder(_folder.Path).Write(Header(1), Tensors());
        byte[] whole = File.ReadAllBytes(file);
        Fill(2);
        float[] before = _buffer.AllFloats.Span.ToArray();
        var damages = new List<byte[]> { whole[..^1], whole[..20], Array.Empty<byte>(), (byte[])[.. whole, 0] };
        for (int at = 0; at < whole.Length; at += 97)
        {
            byte[] changed = [.. whole];
            changed[at] ^= 0x10;
            damages.Add(changed);
        }

        foreach (byte[] damaged in damages)
        {
            File.WriteAllBytes(file, damaged);
            Assert.Throws<BadModelFileException>(() => StateFile.Read(file, Tensors()));
            Assert.Equal(before, _buffer.AllFloats.Span.ToArray());
        }
    }

    [Fact]
    public void TheLastTwoStayAndTheOlderStandsInForADamagedOne()
    {
        var states = new StateFolder(_folder.Path);
        for (int step = 1; step <= 4; step++)
        {
            Fill(step);
            states.Write(Header(step), Tensors());
        }

        Assert.Equal(["state-00000004.qts", "state-00000003.qts"], states.Files().Select(Path.GetFileName));
        byte[] newest = File.ReadAllBytes(states.Files()[0]);
        newest[newest.Length / 2] ^= 1;
        File.WriteAllBytes(states.Files()[0], newest);
        var notes = new List<string>();
        Assert.Equal(3, states.ReadNewest(Tensors(), notes.Add)!.Position.StepCount);
        Assert.Contains("state-00000004.qts", Assert.Single(notes), StringComparison.Ordinal);
        Fill(3);
        float[] third = _buffer.AllFloats.Span.ToArray();
        states.ReadNewest(Tensors(), notes.Add);
        Assert.Equal(third, _buffer.AllFloats.Span.ToArray());
    }

    [Fact]
    public void AStateOfOtherTensorsIsRefusedAndTouchesNothing()
    {
        Fill(1);
        string file = new StateFolder(_folder.Path).Write(Header(1), Tensors());
        Fill(2);
        float[] before = _buffer.AllFloats.Span.ToArray();
        StateTensor[] tensors = Tensors();
        foreach (StateTensor[] others in (StateTensor[][])[[tensors[0]], [tensors[0], tensors[1] with { Name = "c" }], [tensors[0], new StateTensor("b", _buffer.Floats(600, 399))], [tensors[1], tensors[0]]])
        {
            Assert.Throws<BadRequestException>(() => StateFile.Read(file, others));
            Assert.Equal(before, _buffer.AllFloats.Span.ToArray());
        }
    }

    [Fact]
    public void AFileThatIsBeingWrittenIsNoState()
    {
        File.WriteAllText(Path.Combine(_folder.Path, "state-00000009.qts.part"), "half");
        File.WriteAllText(Path.Combine(_folder.Path, "state-x.qts"), "no number");
        Assert.Empty(new StateFolder(_folder.Path).Files());
        Assert.Empty(new StateFolder(Path.Combine(_folder.Path, "missing")).Files());
    }

    [Fact]
    public void WhatDiffersFromTheRunThatWroteItIsNamed()
    {
        StateHeader before = Header(1);
        StateHeader now = before with { ThreadCount = 3, DataFingerprint = "other", Settings = [new("clip", "2"), new("model", "m")] };
        Assert.Empty(before.Differences(before));
        string[] differences = [.. before.Differences(now)];
        Assert.Equal(3, differences.Length);
        Assert.Equal("clip: 1 before, 2 now", differences[0]);
        Assert.StartsWith("threads: 2 before, 3 now", differences[1], StringComparison.Ordinal);
    }

    private static StateHeader Header(long step) => new()
    {
        Position = new RunPosition(step, step * 100, step * 0.1),
        StreamStart = 0,
        DataFingerprint = "data",
        ThreadCount = 2,
        Settings = [new("clip", "1"), new("model", "m")],
    };

    private StateTensor[] Tensors() => [new("a", _buffer.Floats(0, 600)), new("b", _buffer.Floats(600, 400))];

    private void Fill(int seed)
    {
        var random = new Random(seed);
        foreach (ref float value in _buffer.AllFloats.Span)
            value = random.NextSingle();
    }
}
