using System.Diagnostics;
using System.Globalization;
using Qian.Inference;
using Qian.Kernels;
using Qian.Training.Model;
using Qian.Training.Optimization;

namespace Qian.Training.Run;

// The run: batches through the model, gradients through the clip into the optimiser, the rate from the schedule; now and then
// held-out text, a curve and a state. A step is whole or it is not taken: an interruption between two micro-batches forgets
// the gradients, so every state lies between steps, and a resumed run goes on as if it had never stopped. Parameters change
// only after the loss and the norm of all gradients have proved finite. Knows neither files of data nor the command line.
internal sealed class Trainer : IDisposable
{
    private const int MeanSteps = 20;

    private readonly TrainingModel _model;
    private readonly SampleSet _samples;
    private readonly PackingOptions _packing;
    private readonly TrainerOptions _options;
    private readonly ThreadTeam _team;
    private readonly OptimizerState _optimizer;
    private readonly StateTensor[] _tensors;
    private readonly StateFolder _states;
    private readonly TrainingBatch _batch;
    private readonly MeasuringBatches _heldOut, _watched;
    private readonly string _fingerprint;
    private readonly int _rowsPerStep;
    private BatchPacker _packer;
    private long _streamStart;          // the step at which the packer's stream of batches began
    private RunPosition _position;
    private Measurement _measured;
    private string? _statePath;

    public Trainer(TrainingModel model, SampleSet samples, IReadOnlyList<Sample> watched, PackingOptions packing, TrainerOptions options, ThreadTeam team)
    {
        _model = model;
        _samples = samples;
        _packing = packing;
        _options = options;
        _team = team;
        _packer = new BatchPacker(samples.Training, packing);
        _heldOut = new MeasuringBatches(samples.HeldOut, packing, options.HeldOutRowLimit);
        _watched = new MeasuringBatches(watched, packing, options.HeldOutRowLimit);
        _fingerprint = DataFingerprint.Of(samples.Training, packing);
        _batch = new TrainingBatch(packing.MaxRows);
        _rowsPerStep = packing.MaxRows * packing.MicroBatchCount;
        _states = new StateFolder(options.TrainingFolder);
        _optimizer = new OptimizerState(model.Parameters, options.Optimizer, options.Precision, team);
        _tensors =
        [
            .. model.Parameters.Select(parameter => new StateTensor("value:" + parameter.Name, parameter.Value)),
            .. _optimizer.Tensors().Select(moment => new StateTensor(moment.Name, moment.Values)),
        ];
    }

    // The setting that names the model under an adapter: a state is no use over another.
    public const string BaseSetting = "base";

    public RunPosition Position => _position;

    // Continues the newest whole state of the folder. What differs from the run that wrote it goes to `note`.
    public void Resume(Action<string> note)
    {
        _states.RequireSome();
        StateHeader header = _states.ReadNewest(_tensors, note)
            ?? throw new BadRequestException($"--resume: every state in {_options.TrainingFolder} is damaged. To go on from a saved model with fresh moments, begin a new run from it.");
        StateHeader now = Header();
        if (header.Setting(BaseSetting) is { } before && before != now.Setting(BaseSetting))
            throw new BadRequestException($"--resume: {_options.TrainingFolder} was begun over another model than the one given now; give the -m of that run (none was the embedded nano).");
        foreach (string difference in header.Differences(now))
            note($"not the same run: {difference}");
        _position = header.Position;
        _streamStart = header.DataFingerprint == _fingerprint ? header.StreamStart : _position.StepCount;
        _packer = new BatchPacker(_samples.Training, _packing with { Seed = _packing.Seed + (ulong)_streamStart });
        _packer.Seek(_position.StepCount - _streamStart);
    }

    public TrainingSummary Run(IProgress<TrainingProgress>? progress, CancellationToken cancellation)
    {
        Directory.CreateDirectory(_options.TrainingFolder);
        using TrainingLog log = TrainingLog.Open(_options.LogPath, _position.StepCount);
        LogEntry lastMeasured = log.Entries.LastOrDefault(IsMeasured);
        _measured = new Measurement(lastMeasured.HeldOutLoss, lastMeasured.WatchedLoss);
        var clock = new RunClock(_position, _options);
        if (_position.StepCount == 0 && Evaluate(cancellation) is { } before)
        {
            _measured = before;
            log.Append(new LogEntry(0, 0, null, null, before.HeldOutLoss, 0, 0, 0, before.WatchedLoss));
            progress?.Report(clock.Progress(_position, _packer.EpochsDone, log.Entries[^1], _measured));
        }

        RunPosition saved = _position with { StepCount = -1 };
        while (!_options.Limit.IsReached(_position) && !cancellation.IsCancellationRequested)
        {
            StepResult step = TakeStep(clock, cancellation);
            if (step.Failure is not null)
                return Summary(TrainingOutcome.NotFinite, log, clock, null) with { Failure = step.Failure };
            if (step.Entry is not { } entry)
                break;
            bool isLast = _options.Limit.IsReached(_position);
            if ((isLast || _position.StepCount % _options.EvaluateEvery == 0) && Evaluate(cancellation) is { } loss)
            {
                if (!double.IsFinite(loss.HeldOutLoss ?? loss.WatchedLoss ?? 0))
                    return Summary(TrainingOutcome.NotFinite, log, clock, null) with { Failure = Failure(_position.StepCount, $"the held-out loss after it is {loss.HeldOutLoss ?? loss.WatchedLoss}", StepSources()) };
                _measured = loss;
                entry = entry with { HeldOutLoss = loss.HeldOutLoss, WatchedLoss = loss.WatchedLoss };
            }

            log.Append(entry);
            _position = _position with { Seconds = clock.Seconds };
            if (IsMeasured(entry) || isLast)
                LossCurve.Write(_options.CurvePath, _options.Title, log.Entries);
            if (!isLast && IsSaveDue(clock))
            {
                Save();
                saved = _position;
                if (_options.SaveModelWithState)
                    _model.Save(_options.OutFolder);
            }

            progress?.Report(clock.Progress(_position, _packer.EpochsDone, entry, _measured));
        }

        if (saved.StepCount != _position.StepCount)
            Save();
        _model.Save(_options.OutFolder);
        LossCurve.Write(_options.CurvePath, _options.Title, log.Entries);
        return Summary(_options.Limit.IsReached(_position) ? TrainingOutcome.Finished : TrainingOutcome.Interrupted, log, clock, _options.OutFolder);
    }

    public void Dispose() => _optimizer.Dispose();

    // Entry is null when the step was given up for an interruption.
    private StepResult TakeStep(RunClock clock, CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp();
        long number = _position.StepCount + 1;
        _packer.NextStep();
        _model.ZeroGradients();
        float scale = 1f / Math.Max(1, _packer.StepTargetCount);
        BatchLoss sum = default;
        for (int i = 0; i < _packer.MicroBatchCount; i++)
        {
            if (cancellation.IsCancellationRequested)
                return default;
            _packer.Fill(i, _batch);
            // What dropout draws by: a pure function of the step, whatever was given up or resumed in between.
            _model.PassIndex = _position.StepCount * _packer.MicroBatchCount + i;
            BatchLoss loss = _model.ForwardBackward(_batch, scale);
            if (!double.IsFinite(loss.LossSum) || !double.IsFinite(loss.MtpLossSum))
                return new StepResult(null, Failure(number, $"the loss is {loss.Mean:0.###} and the MTP loss {loss.MtpMean:0.###}", _packer.Sources(i)));
            sum += loss;
        }

        double norm = Clipping.GlobalNorm(_model.Parameters, _team);
        if (!double.IsFinite(norm))
            return new StepResult(null, Failure(number, $"the norm of the gradients is {norm}", StepSources()));
        double rate = _options.Schedule.Rate(_position.StepCount, _options.Limit.Progress(_position), _options.Limit.WarmupProgress(_options.Schedule.WarmupSteps, _rowsPerStep));
        _optimizer.Step(rate, Clipping.Factor(norm, _options.ClipNorm), number);
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        clock.Worked(_packer.StepRowCount, seconds);
        _position = new RunPosition(number, _position.TokenCount + _packer.StepRowCount, clock.Seconds);
        return new StepResult(new LogEntry(number, _position.TokenCount, sum.Mean, sum.MtpTargetCount > 0 ? sum.MtpMean : null, null, rate, norm, _packer.StepRowCount / seconds), null);
    }

    private string Failure(long step, string what, IReadOnlyList<string> sources)
    {
        const int mostNamed = 20;
        string named = string.Join(", ", sources.Take(mostNamed)) + (sources.Count > mostNamed ? $" and {sources.Count - mostNamed} more" : "");
        string kept = _states.Files() is [var newest, ..] ? $"The last state is {newest}" : "There is no state yet";
        return string.Create(CultureInfo.InvariantCulture, $"step {step}: {what}. Its batch came from {named}. {kept}; nothing was saved after it. A smaller --lr, a longer --warmup or --precision f32 may help.");
    }

    private IReadOnlyList<string> StepSources() => [.. Enumerable.Range(0, _packer.MicroBatchCount).SelectMany(_packer.Sources)];

    private static bool IsMeasured(LogEntry entry) => entry.HeldOutLoss is not null || entry.WatchedLoss is not null;

    // Null without any text to measure, or when interrupted.
    private Measurement? Evaluate(CancellationToken cancellation)
    {
        var measured = new Measurement(MeanLoss(_heldOut, cancellation), MeanLoss(_watched, cancellation));
        return cancellation.IsCancellationRequested || measured == default ? null : measured;
    }

    private double? MeanLoss(MeasuringBatches batches, CancellationToken cancellation)
    {
        BatchLoss sum = default;
        for (int i = 0; i < batches.Count; i++)
        {
            if (cancellation.IsCancellationRequested)
                return null;
            batches.Fill(i, _batch);
            sum += _model.Evaluate(_batch);
        }

        return sum.TargetCount > 0 ? sum.Mean : null;
    }

    private bool IsSaveDue(RunClock clock)
    {
        bool isDue = _options.SaveEvery is { } steps ? _position.StepCount % steps == 0 : clock.SecondsSinceSave >= _options.SaveSeconds;
        if (isDue)
            clock.Saved();
        return isDue;
    }

    private void Save() => _statePath = _states.Write(Header(), _tensors);

    private StateHeader Header() => new()
    {
        Position = _position,
        StreamStart = _streamStart,
        DataFingerprint = _fingerprint,
        ThreadCount = _team.ThreadCount,
        Settings = _options.Settings,
    };

    private TrainingSummary Summary(TrainingOutcome outcome, TrainingLog log, RunClock clock, string? modelFolder)
    {
        double[] last = [.. log.Entries.TakeLast(MeanSteps).Where(entry => entry.Loss is not null).Select(entry => entry.Loss!.Value)];
        return new TrainingSummary
        {
            Outcome = outcome,
            Position = _position,
            Epochs = _packer.EpochsDone,
            Loss = last.Length > 0 ? last.Average() : null,
            FirstHeldOutLoss = log.Entries.FirstOrDefault(entry => entry.HeldOutLoss is not null).HeldOutLoss,
            HeldOutLoss = _measured.HeldOutLoss,
            FirstWatchedLoss = log.Entries.FirstOrDefault(entry => entry.WatchedLoss is not null).WatchedLoss,
            WatchedLoss = _measured.WatchedLoss,
            TokensPerSecond = clock.TokensPerSecond,
            PeakShare = clock.PeakShare(clock.TokensPerSecond),
            StatePath = _statePath,
            ModelFolder = modelFolder,
        };
    }

    private readonly record struct StepResult(LogEntry? Entry, string? Failure);
}
