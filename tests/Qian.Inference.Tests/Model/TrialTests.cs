using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Tests.Model;

// A trial leaves its sequence alone; committing part of it is having decoded that part. To the last bit.
[Trait("Tier", "All")]
public sealed class TrialTests
{
    private const int PromptLength = 70;
    private const int RunLength = 6;

    public static TheoryData<string> Folders => new() { GoldenFolders.TextDenseTiny, GoldenFolders.TextMoeTiny, GoldenFolders.MtpTiny };

    [Theory]
    [MemberData(nameof(Folders))]
    public void CommittedRowsAreDecodedRows(string folder)
    {
        using LoadedModel model = Load(folder);
        using var run = new Runner(model);
        int[] ids = Ids(model, PromptLength + RunLength + 4, 1), wrong = Ids(model, RunLength, 2);

        // The truth: decoded one by one; states after each count.
        var logits = new List<float[]>();
        var states = new List<float[]>();
        using SequenceState plain = model.NewSequence();
        run.Pass((plain, ids[..PromptLength], false));
        states.Add(State(model, plain));
        for (int i = 0; i < RunLength + 4; i++)
        {
            run.Pass((plain, ids.AsSpan(PromptLength + i, 1).ToArray(), false));
            logits.Add(run.Logits(0));
            states.Add(State(model, plain));
        }

        using SequenceState other = model.NewSequence(), prefill = model.NewSequence();
        run.Pass((other, wrong, false));
        for (int right = 0; right <= RunLength; right++)
        {
            using SequenceState sequence = model.NewSequence();
            run.Pass((sequence, ids[..PromptLength], false));
            int[] drafts = [.. ids[PromptLength..(PromptLength + right)], .. wrong[right..]];
            prefill.Reset();
            run.Pass((other, [5], false), (sequence, drafts, true), (prefill, ids[..40], false));
            for (int i = 0; i < right; i++)
                Assert.Equal(logits[i], run.Logits(1 + i));
            Assert.Equal(PromptLength, sequence.TokenCount);
            Assert.Equal(states[0], State(model, sequence));

            model.Network.Commit(run.Batch.Segments[1], right);
            Assert.Equal(PromptLength + right, sequence.TokenCount);
            Assert.Equal(states[right], State(model, sequence));
            for (int i = right; i < RunLength + 4; i++)
            {
                run.Pass((sequence, [ids[PromptLength + i]], false));
                Assert.Equal(logits[i], run.Logits(0));
            }
        }
    }

    [Fact]
    public void WhatCannotBeTriedIsRefused()
    {
        using LoadedModel model = Load(GoldenFolders.TextDenseTiny);
        using var run = new Runner(model);
        using SequenceState sequence = model.NewSequence();
        Assert.Throws<ArgumentOutOfRangeException>(() => run.Pass((sequence, Ids(model, Network.MaxTrialRun + 1, 1), true)));
        run.Pass((sequence, [1, 2, 3], false));
        Assert.Throws<ArgumentOutOfRangeException>(() => model.Network.Commit(run.Batch.Segments[0], 1));
        run.Pass((sequence, [1, 2, 3], true));
        Assert.Throws<ArgumentOutOfRangeException>(() => model.Network.Commit(run.Batch.Segments[0], 4));
        using LoadedModel off = Load(GoldenFolders.TextDenseTiny, Speculation.Off);
        Assert.Equal(0, off.Network.MaxTrialRows);
    }

    private static LoadedModel Load(string folder, Speculation speculation = Speculation.Auto) =>
        LoadedModel.Load(Checkpoint.Open(folder), new EngineOptions { MaxBatchRows = 128, Speculation = speculation, ThreadCount = 2 }, contextLength: 256, maxBlocks: 64);

    private static int[] Ids(LoadedModel model, int count, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(model.Config.VocabularySize))];
    }

    private static float[] State(LoadedModel model, SequenceState state)
    {
        var floats = new List<float>();
        for (int i = 0; i < model.Config.LayerCount - model.Config.FullAttentionLayerCount; i++)
        {
            floats.AddRange(state.Recurrent(i).Span);
            floats.AddRange(state.Window(i).Span);
        }

        floats.AddRange(state.LastHidden.Span);
        return [.. floats];
    }

    private sealed class Runner(LoadedModel model) : IDisposable
    {
        private readonly NativeBuffer _logits = NativeBuffer.AllocateFloats(model.Config.VocabularySize);

        public ForwardBatch Batch { get; } = new(128);

        public void Pass(params (SequenceState Sequence, int[] Tokens, bool IsTrial)[] runs)
        {
            Batch.Clear();
            foreach ((SequenceState sequence, int[] tokens, bool isTrial) in runs)
            {
                Assert.True(sequence.TryReserve(sequence.TokenCount + tokens.Length));
                if (isTrial)
                    Batch.AddTrial(sequence, tokens);
                else
                    Batch.Add(sequence, tokens);
            }

            model.Network.Forward(Batch);
        }

        public float[] Logits(int row)
        {
            model.Network.Logits([row], _logits.AllFloats);
            return _logits.AllFloats.Span.ToArray();
        }

        public void Dispose() => _logits.Dispose();
    }
}
