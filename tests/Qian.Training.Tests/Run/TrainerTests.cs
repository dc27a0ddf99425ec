using Qian.Inference;
using Qian.Kernels;
using Qian.Training.Model;
using Qian.Training.Optimization;
using Qian.Training.Run;
using Qian.Training.Tests.Model;

namespace Qian.Training.Tests.Run;

// Runs of the golden dense model on a made-up language: every token follows from the one before.
public sealed class TrainerTests : IDisposable
{
    private static readonly PackingOptions s_packing = new() { MaxRows = 96, MaxSampleRows = 32, MicroBatchCount = 2, Seed = 5 };

    private readonly TempFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(nameof(OptimizerKind.AdamW))]
    [InlineData(nameof(OptimizerKind.Muon))]
    public void TheLossFalls(string kind)
    {
        TrainerOptions options = Options("out", 20);
        options = options with { Optimizer = options.Optimizer with { Kind = Enum.Parse<OptimizerKind>(kind) } };
        using var run = new OneRun(options);
        TrainingSummary summary = run.Trainer.Run(null, default);
        Assert.Equal((TrainingOutcome.Finished, 20L), (summary.Outcome, summary.Position.StepCount));
        IReadOnlyList<LogEntry> log = TrainingLog.Read(options.LogPath);
        Assert.Equal(Enumerable.Range(0, 21).Select(step => (long)step), log.Select(entry => entry.Step));
        double first = log[1].Loss!.Value, last = log[^1].Loss!.Value;
        Assert.InRange(first, 6, 9);
        Assert.True(last < first - 1.5, $"{first} to {last}");
        Assert.Equal([0, 5, 10, 15, 20], log.Where(entry => entry.HeldOutLoss is not null).Select(entry => entry.Step));
        Assert.True(summary.HeldOutLoss < summary.FirstHeldOutLoss - 1, $"{summary.FirstHeldOutLoss} to {summary.HeldOutLoss}");
        Assert.Equal(summary.Position.TokenCount, log[^1].TokenCount);
        Assert.All(log.Skip(1), entry => Assert.True(entry.GradientNorm > 0 && entry.TokensPerSecond > 0));
        Assert.True(File.Exists(options.CurvePath));
        // What was saved is what was trained.
        using var engine = Engine.Load(options.OutFolder, new EngineOptions { ContextLength = 256 });
        Assert.Equal(run.Model.Config.LayerCount, engine.Config.LayerCount);
    }

    // Text that is only watched is measured when the held-out text is, and changes nothing.
    [Fact]
    public void WatchedTextIsMeasuredAndNotLearned()
    {
        Sample[] other = [Sample.FromTokens([.. Enumerable.Range(0, 30).Select(i => (i * i * 11 + 5) % 97)], "other")!];
        TrainerOptions plain = Options("plain", 10), watching = Options("watching", 10);
        using var alone = new OneRun(plain);
        Assert.Null(alone.Trainer.Run(null, default).WatchedLoss);
        using var run = new OneRun(watching, watched: other);
        TrainingSummary summary = run.Trainer.Run(null, default);
        Assert.Equal(alone.Values, run.Values);
        IReadOnlyList<LogEntry> log = TrainingLog.Read(watching.LogPath);
        Assert.Equal([0, 5, 10], log.Where(entry => entry.WatchedLoss is not null).Select(entry => entry.Step));
        Assert.Equal((log[0].WatchedLoss, log[^1].WatchedLoss), (summary.FirstWatchedLoss, summary.WatchedLoss));
        Assert.NotEqual(summary.HeldOutLoss, summary.WatchedLoss);
        // Another language: what is learned does not help it.
        Assert.True(summary.WatchedLoss > summary.HeldOutLoss + 1, $"{summary.WatchedLoss} against {summary.HeldOutLoss}");
        Assert.Contains("watched loss", File.ReadAllText(watching.CurvePath), StringComparison.Ordinal);
    }

    // Interrupted between steps, within a step, or killed at any time: the resumed run ends with the same bits.
    [Theory]
    [InlineData("asked")]
    [InlineData("killed")]
    public void AResumedRunIsTheUninterruptedOne(string how)
    {
        TrainerOptions whole = Options("whole", 12);
        float[] expected;
        using (var run = new OneRun(whole))
        {
            Assert.Equal(TrainingOutcome.Finished, run.Trainer.Run(null, default).Outcome);
            expected = run.Values;
        }

        TrainerOptions options = Options("pieces", 12) with { SaveEvery = how == "killed" ? 3 : null };
        using (var run = new OneRun(options))
        {
            using var stop = new CancellationTokenSource();
            if (how == "asked")
            {
                Assert.Equal(TrainingOutcome.Interrupted, run.Trainer.Run(new At(5, stop.Cancel), stop.Token).Outcome);
                Assert.Equal(5, run.Trainer.Position.StepCount);
            }
            else
            {
                // The state of step 3 is what a killed process leaves behind; the fourth and fifth step are lost.
                Assert.Throws<TimeoutException>(() => run.Trainer.Run(new At(5, () => throw new TimeoutException()), default));
            }
        }

        using (var run = new OneRun(options))
        {
            var notes = new List<string>();
            run.Trainer.Resume(notes.Add);
            Assert.Empty(notes);
            Assert.Equal(how == "asked" ? 5 : 3, run.Trainer.Position.StepCount);
            Assert.Equal(TrainingOutcome.Finished, run.Trainer.Run(null, default).Outcome);
            Assert.Equal(expected, run.Values);
        }

        Assert.Equal(
            TrainingLog.Read(whole.LogPath).Select(entry => entry with { TokensPerSecond = 0 }),
            TrainingLog.Read(options.LogPath).Select(entry => entry with { TokensPerSecond = 0 }));
        Assert.Equal(File.ReadAllBytes(Path.Combine(whole.OutFolder, "model.safetensors")), File.ReadAllBytes(Path.Combine(options.OutFolder, "model.safetensors")));
    }

    [Fact]
    public void OtherPackingBeginsANewPassAndSaysSo()
    {
        TrainerOptions options = Options("out", 4);
        using (var run = new OneRun(options))
            run.Trainer.Run(null, default);
        options = options with { Limit = RunLimit.OfSteps(6) };
        using var longer = new OneRun(options, s_packing with { MaxRows = 128, MaxSampleRows = 64 });
        var notes = new List<string>();
        longer.Trainer.Resume(notes.Add);
        Assert.Contains(notes, note => note.Contains("a new pass over the data", StringComparison.Ordinal));
        Assert.Equal(6, longer.Trainer.Run(null, default).Position.StepCount);
        Assert.Equal([0L, 1, 2, 3, 4, 5, 6], TrainingLog.Read(options.LogPath).Select(entry => entry.Step));
    }

    [Fact]
    public void ANumberThatIsNotFiniteStopsTheRunAndNamesItsSources()
    {
        TrainerOptions options = Options("out", 10) with { SaveEvery = 2, EvaluateEvery = 100 };
        using var run = new OneRun(options);
        TrainingSummary summary = run.Trainer.Run(new At(3, () => run.Model.Parameters[0].Value.Span.Fill(float.NaN)), default);
        Assert.Equal(TrainingOutcome.NotFinite, summary.Outcome);
        Assert.Contains("step 4: the loss is NaN", summary.Failure, StringComparison.Ordinal);
        Assert.Matches(@"came from line \d+", summary.Failure);
        Assert.Contains("state-00000002.qts", summary.Failure, StringComparison.Ordinal);
        Assert.Null(summary.ModelFolder);
        Assert.False(File.Exists(Path.Combine(options.OutFolder, "model.safetensors")));
        using var resumed = new OneRun(options);
        resumed.Trainer.Resume(_ => { });
        Assert.Equal(2, resumed.Trainer.Position.StepCount);
        Assert.DoesNotContain(resumed.Values, float.IsNaN);
    }

    [Fact]
    public void WithoutAStateThereIsNothingToResume()
    {
        using var run = new OneRun(Options("out", 4));
        Assert.Contains("holds no state", Assert.Throws<BadRequestException>(() => run.Trainer.Resume(_ => { })).Message, StringComparison.Ordinal);
    }

    // A step of two micro-batches is the step of one batch with the same samples: the loss is a mean over targets, not over batches.
    [Fact]
    public void AccumulatedGradientsAreThoseOfTheWholeStep()
    {
        TrainingBatch first = Batch(1, 30), second = Batch(2, 10), both = new(96);
        foreach (TrainingBatch part in (TrainingBatch[])[first, second])
            both.Add(part.TokenIds.AsSpan(0, part.RowCount), part.Labels.AsSpan(0, part.RowCount));
        using var team = new ThreadTeam(2);
        using TrainingModel model = TrainingModel.Full(ModelFolders.Dense, new TrainingModelOptions { MaxRows = 96 }, team);
        model.ZeroGradients();
        model.ForwardBackward(both, 1f / both.TargetCount);
        float[] whole = model.Store.Gradients.Span.ToArray();
        model.ZeroGradients();
        foreach (TrainingBatch part in (TrainingBatch[])[first, second])
            model.ForwardBackward(part, 1f / both.TargetCount);
        float[] parts = model.Store.Gradients.Span.ToArray();
        double largest = whole.Max(Math.Abs);
        for (int i = 0; i < whole.Length; i++)
            Assert.Equal(whole[i], parts[i], 1e-4 * largest);
    }

    private static TrainingBatch Batch(int start, int length)
    {
        var batch = new TrainingBatch(96);
        Sample sample = Made(start, length);
        batch.Add(sample.Tokens, sample.Labels);
        return batch;
    }

    private static Sample Made(int seed, int length)
    {
        var tokens = new int[length];
        tokens[0] = seed % 40;
        for (int i = 1; i < length; i++)
            tokens[i] = (tokens[i - 1] * 7 + 3) % 41;
        return Sample.FromTokens(tokens, $"line {seed}")!;
    }

    private TrainerOptions Options(string name, int steps) => new()
    {
        OutFolder = Path.Combine(_folder.Path, name),
        Title = name,
        Limit = RunLimit.OfSteps(steps),
        Schedule = new Schedule(ScheduleKind.Cosine, 3e-3, WarmupSteps: 2),
        Optimizer = new OptimizerOptions { WeightDecay = 0.01 },
        EvaluateEvery = 5,
        Settings = [new("clip", "1")],
    };

    private sealed class OneRun : IDisposable
    {
        private readonly ThreadTeam _team = new(2);

        public OneRun(TrainerOptions options, PackingOptions? packing = null, IReadOnlyList<Sample>? watched = null)
        {
            packing ??= s_packing;
            SampleSet samples = SampleSet.Create(Enumerable.Range(0, 60).Select(i => Made(i, 12 + i % 21)), heldOut: [Made(7, 40), Made(23, 35)]);
            Model = TrainingModel.Full(ModelFolders.Dense, new TrainingModelOptions { MaxRows = packing.MaxRows, MaxSampleCount = 16 }, _team);
            Trainer = new Trainer(Model, samples, watched ?? [], packing, options, _team);
        }

        public TrainingModel Model { get; }

        public Trainer Trainer { get; }

        public float[] Values => Model.Store.Values.Span.ToArray();

        public void Dispose()
        {
            Trainer.Dispose();
            Model.Dispose();
            _team.Dispose();
        }
    }

    // Does something when a step has been taken.
    private sealed class At(long step, Action action) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value)
        {
            if (value.Position.StepCount == step)
                action();
        }
    }
}
