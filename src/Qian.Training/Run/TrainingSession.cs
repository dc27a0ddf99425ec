using System.Globalization;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Text;
using Qian.Kernels;
using Qian.Training.Model;
using Qian.Training.Optimization;

namespace Qian.Training.Run;

// From a request to a run: opens the model's headers, reads the data, fills in what the request leaves open, adds up the
// memory; and only then, when asked to run, takes it.
internal sealed class TrainingSession : IDisposable
{
    private const int DefaultMicroBatchTokens = 2048;
    private const int MostBatchTokens = 1 << 24;
    private const int MostWarmupSteps = 100, EvaluationsPerRun = 25, MostStepsBetweenEvaluations = 200;
    private const double WarmupShare = 0.03, DefaultMtpWeight = 0.3;

    private readonly TrainRequest _request;
    private readonly Checkpoint _checkpoint;
    private readonly SampleSet _samples;
    private readonly IReadOnlyList<Sample> _watched;
    private readonly TrainingModelOptions _modelOptions;
    private readonly Action<string> _note;

    private TrainingSession(TrainRequest request, Checkpoint checkpoint, SampleSet samples, IReadOnlyList<Sample> watched, Action<string> note)
    {
        _request = request;
        _checkpoint = checkpoint;
        _samples = samples;
        _watched = watched;
        _note = note;
        PackingOptions packing = Packing(request);
        double mtpWeight = checkpoint.Config.MtpLayerCount > 0 && request.IsFull ? request.MtpWeight ?? DefaultMtpWeight : 0;
        _modelOptions = new TrainingModelOptions
        {
            MaxRows = packing.MaxRows,
            MaxSampleCount = MostSamples(packing),
            Precision = request.Precision,
            Recompute = request.Recompute,
            MtpLossWeight = (float)mtpWeight,
        };
        Plan = MakePlan(packing);
    }

    public TrainingPlan Plan { get; }

    // Reads the data, which may take a while; takes no memory for training.
    public static TrainingSession Prepare(TrainRequest request, Action<string> note, CancellationToken cancellation)
    {
        Check(request);
        CheckOutFolder(request);
        Checkpoint checkpoint = Checkpoint.Open(request.ModelPath);
        try
        {
            var tokenizer = new Tokenizer(checkpoint.LoadTokenizer() ?? throw new BadModelFileException($"{request.ModelPath} has no tokenizer: put its tokenizer.json beside the model."));
            if (tokenizer.VocabularySize > checkpoint.Config.VocabularySize)
                throw new BadModelFileException($"The tokenizer defines {tokenizer.VocabularySize} ids, the embedding has {checkpoint.Config.VocabularySize} rows: they do not belong together.");
            ChatTemplate template = checkpoint.ChatTemplate is { } own ? ChatTemplate.Compile(own) : ChatTemplate.Default;
            SampleSet samples = TrainingData.Load(request.Data, tokenizer, template, cancellation);
            if (samples.Training.Count == 0)
                throw new BadRequestException("The data holds nothing to learn: no sample is left to train on.");
            return new TrainingSession(request, checkpoint, samples, Watched(request, tokenizer, template, cancellation), note);
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }
    }

    public TrainingSummary Run(IProgress<TrainingProgress>? progress, CancellationToken cancellation)
    {
        using var team = new ThreadTeam(Plan.ThreadCount);
        TrainerOptions options = Plan.Options with { PeakMacsPerSecond = TrainingCost.MeasurePeak(team) };
        using TrainingModel model = _request.Lora is { } lora
            ? TrainingModel.LowRank(_request.ModelPath, lora, _modelOptions, team)
            : TrainingModel.Full(_request.ModelPath, _modelOptions, team);
        using var trainer = new Trainer(model, _samples, _watched, Plan.Packing, options, team);
        if (_request.Resume)
            trainer.Resume(_note);
        return trainer.Run(progress, cancellation);
    }

    public void Dispose() => _checkpoint.Dispose();

    private static IReadOnlyList<Sample> Watched(TrainRequest request, Tokenizer tokenizer, ChatTemplate template, CancellationToken cancellation)
    {
        if (request.WatchedPaths.Count == 0)
            return [];
        var options = request.Data with { Paths = request.WatchedPaths, CodeFolders = [], HeldOutPaths = [], HeldOutFraction = 0 };
        return TrainingData.Load(options, tokenizer, template, cancellation).Training;
    }

    private static void Check(TrainRequest request)
    {
        Within(request.BatchTokens, 1, MostBatchTokens, "--batch-tokens");
        Positive(request.Sequence, "--sequence");
        Within(request.MicroBatchTokens, 1, MostBatchTokens, "--micro-batch-tokens");
        Positive(request.Steps, "--steps");
        Positive(request.Tokens, "--tokens");
        Positive(request.ThreadCount, "--threads");
        Positive(request.EvaluateEvery, "--eval-every");
        Positive(request.SaveEvery, "--save-every");
        Within(request.Epochs, double.Epsilon, 1e6, "--epochs");
        Within(request.Hours, double.Epsilon, 1e5, "--hours");
        Within(request.LearningRate, 0, 10, "--lr");
        Within(request.DecayShare, 0, 1, "--decay-share");
        Within(request.WeightDecay, 0, 10, "--weight-decay");
        Within(request.Clip, 0, 1e9, "--clip");
        Within(request.MtpWeight, 0, 100, "--mtp-weight");
        Within(request.WarmupSteps, 0, 1e9, "--warmup");
        int limits = (request.Epochs is null ? 0 : 1) + (request.Steps is null ? 0 : 1) + (request.Tokens is null ? 0 : 1) + (request.Hours is null ? 0 : 1);
        if (limits > 1)
            throw new BadRequestException("give one of --epochs, --steps, --tokens and --hours.");
        request.Lora?.Validate();
        if (request is { IsFull: false, MtpWeight: > 0 })
            throw new BadRequestException("--mtp-weight: adapters leave the MTP head alone; --full trains it.");
        if (request.IsFull && !Directory.Exists(request.ModelPath))
            throw new BadRequestException($"--full trains a Hugging Face folder of float weights; {request.ModelPath} is none.");
    }

    private static void Positive(long? value, string flag)
    {
        if (value is < 1)
            throw new BadRequestException(string.Create(CultureInfo.InvariantCulture, $"{flag}: expected at least 1, found {value}."));
    }

    private static void Within(double? value, double least, double most, string flag)
    {
        if (value is { } given && !(given >= least && given <= most))
            throw new BadRequestException(string.Create(CultureInfo.InvariantCulture, $"{flag}: expected {(least is 0 or 1 ? $"{least}" : "above 0")} to {most:0.######}, found {given}."));
    }

    // A folder that is somebody else's must not be filled, and a run must not be overwritten by another.
    private static void CheckOutFolder(TrainRequest request)
    {
        string training = Path.Combine(request.OutFolder, "training");
        if (Directory.Exists(request.ModelPath) && Path.TrimEndingDirectorySeparator(Path.GetFullPath(request.ModelPath)) == Path.TrimEndingDirectorySeparator(Path.GetFullPath(request.OutFolder)))
            throw new BadRequestException($"--out {request.OutFolder}: the model that is read lies there; choose another folder.");
        if (File.Exists(request.OutFolder))
            throw new BadRequestException($"--out {request.OutFolder}: expected a folder, found a file.");
        if (request.Resume)
            new StateFolder(training).RequireSome();
        if (request.Resume || !Directory.Exists(request.OutFolder))
            return;
        // Nothing, or what a run leaves that broke off before its first state: nothing that could be lost.
        bool hasStates = new StateFolder(training).Files().Count > 0;
        if (!hasStates && Directory.EnumerateFileSystemEntries(request.OutFolder).All(entry => Path.GetFileName(entry) == "training"))
            return;
        throw new BadRequestException(hasStates
            ? $"--out {request.OutFolder} holds a run: --resume continues it; a new run needs a folder of its own."
            : $"--out {request.OutFolder} is not empty; a new run needs a folder of its own.");
    }

    private static PackingOptions Packing(TrainRequest request)
    {
        int most = request.MicroBatchTokens ?? Math.Min(request.BatchTokens, Math.Max(DefaultMicroBatchTokens, request.Sequence));
        if (request.Sequence > most)
            throw new BadRequestException(string.Create(CultureInfo.InvariantCulture, $"--sequence {request.Sequence}: a sample must fit into a micro-batch of {most} tokens; raise --batch-tokens or --micro-batch-tokens, or lower --sequence."));
        int count = (request.BatchTokens + most - 1) / most;
        return new PackingOptions { MaxRows = (request.BatchTokens + count - 1) / count is var even && even >= request.Sequence ? even : most, MaxSampleRows = request.Sequence, MicroBatchCount = count, Seed = request.Seed, LongSamples = request.LongSamples };
    }

    // No batch can have more samples than the shortest ones that fit into it together. A piece comes once in a pass over the
    // data; how many passes a batch can touch depends on how many pieces it takes, and on those that may have waited for it.
    private int MostSamples(PackingOptions packing)
    {
        var rowCounts = new List<int>();
        foreach (Sample sample in _samples.Training.Concat(_samples.HeldOut).Concat(_watched))
        {
            for (int rows = sample.Tokens.Length; rows > 0; rows -= packing.MaxSampleRows)
                rowCounts.Add(Math.Min(rows, packing.MaxSampleRows));
        }

        rowCounts.Sort();
        int count = 0;
        for (int before = -1; count != before;)
        {
            before = count;
            int passes = 3 + count / rowCounts.Count;
            count = 0;
            int free = packing.MaxRows;
            foreach (int rows in rowCounts)
            {
                int taken = Math.Min(passes, free / rows);
                count += taken;
                free -= taken * rows;
            }
        }

        return Math.Clamp(count, 1, packing.MaxRows);
    }

    // Two copies of the largest matrix between layers, about: the moments were counted as AdamW's, which are more than Muon's.
    private long MuonScratchBytes(OptimizerOptions optimizer) => optimizer.Kind == OptimizerKind.AdamW
        ? 0
        : sizeof(float) * Muon.ScratchFloats(Enum.GetValues<TensorRole>().Where(role => role is not (TensorRole.TokenEmbedding or TensorRole.Output) && !TensorShapes.IsVector(role)).Select(role => TensorShapes.Of(_checkpoint.Config, role)));

    private TrainingPlan MakePlan(PackingOptions packing)
    {
        var packer = new BatchPacker(_samples.Training, packing);
        int threadCount = _request.ThreadCount ?? Environment.ProcessorCount;
        int rowsPerStep = packing.MaxRows * packing.MicroBatchCount;
        RunLimit limit = _request switch
        {
            { Steps: { } steps } => RunLimit.OfSteps(steps),
            { Tokens: { } tokens } => RunLimit.OfTokens(tokens),
            { Hours: { } hours } => RunLimit.OfHours(hours),
            _ => RunLimit.OfSteps(packer.EstimateSteps(_request.Epochs ?? 1)),
        };
        long? expected = limit.ExpectedSteps(rowsPerStep);
        OptimizerOptions optimizer = new()
        {
            Kind = _request.Optimizer,
            WeightDecay = _request.WeightDecay ?? (_request.IsFull ? 0.1 : 0),
            DecayAll = _request.DecayAll,
            Beta2 = _request.IsFull ? 0.95 : 0.999,
        };
        var schedule = new Schedule(
            _request.Schedule ?? (_request.Hours is null ? ScheduleKind.Cosine : ScheduleKind.ConstantWithDecay),
            _request.LearningRate ?? (_request.IsFull ? 3e-4 : 2e-4),
            _request.WarmupSteps ?? (int)Math.Clamp((expected ?? long.MaxValue) * WarmupShare, 1, MostWarmupSteps),
            _request.DecayShare);
        TrainingMemory full = TrainingMemory.Estimate(_checkpoint.Config, _modelOptions, threadCount);
        TrainingMemory memory = _request.Lora is { } lora ? TrainingMemory.Estimate(_checkpoint, lora, _modelOptions, threadCount) : full;
        long trainedCount = memory.ParameterBytes / sizeof(float);
        return new TrainingPlan
        {
            ModelPath = _request.ModelPath,
            IsFull = _request.IsFull,
            ParameterCount = full.ParameterBytes / sizeof(float),
            TrainedCount = trainedCount,
            Samples = _samples.Statistics,
            DroppedRowCount = packer.DroppedRowCount,
            Packing = packing,
            Options = new TrainerOptions
            {
                OutFolder = _request.OutFolder,
                Title = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(_request.OutFolder))),
                Limit = limit,
                Schedule = schedule,
                Optimizer = optimizer,
                Precision = _request.Precision,
                ClipNorm = _request.Clip,
                EvaluateEvery = _request.EvaluateEvery ?? (int)Math.Clamp((expected ?? long.MaxValue) / EvaluationsPerRun, 1, MostStepsBetweenEvaluations),
                SaveEvery = _request.SaveEvery,
                SaveModelWithState = _request.SaveModelWithState,
                Settings = Settings(limit, schedule, optimizer),
                MacsPerRow = TrainingCost.MacsPerRow(_checkpoint, _request.IsFull, _modelOptions.MtpLossWeight > 0, trainedCount),
            },
            ExpectedSteps = expected,
            ExpectedEpochs = expected is { } count ? (double)count * rowsPerStep / packer.RowsPerEpoch : null,
            ThreadCount = threadCount,
            FrozenBytes = memory.FrozenBytes,
            TrainedBytes = memory.ParameterBytes + memory.GradientBytes,
            OptimizerBytes = memory.OptimizerBytes + MuonScratchBytes(optimizer),
            PassBytes = memory.PassBytes,
            AvailableBytes = _request.MemoryLimitBytes ?? MemoryEstimate.For(_checkpoint, new EngineOptions(), LayerRange.All(_checkpoint.Config)).AvailableBytes,
            Recomputes = _request.Recompute,
        };
    }

    // What changes a run's numbers, beside its data: kept in its states, so that a difference is told when it is resumed.
    private List<KeyValuePair<string, string>> Settings(RunLimit limit, Schedule schedule, OptimizerOptions optimizer) =>
    [
        new("limit", limit.ToString()),
        new("schedule", schedule.ToString()),
        new("optimizer", optimizer.ToString()),
        new("model", _modelOptions.ToString()),
        new("adapter", _request.Lora is { } lora ? $"{lora with { Targets = [] }} {string.Join(' ', lora.Targets)}" : "none"),
        new("clip", _request.Clip.ToString("R", CultureInfo.InvariantCulture)),
        new("tier", IsaTier.Current.ToString()),
        new(Trainer.BaseSetting, _request.IsFull ? "trained itself" : BaseFingerprint.Of(_checkpoint)),
    ];
}
