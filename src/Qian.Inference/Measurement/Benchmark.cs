using System.Diagnostics;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Measurement;

// One run of `qian bench`: loads the model, then measures point after point, cheapest first, each in windows that alternate
// with samples of the machine's ceilings. A window that others disturbed is taken again. It knows no text and no requests:
// passes are driven directly, as the scheduler would, with made-up tokens.
internal sealed partial class Benchmark : IDisposable
{
    // Tokens decoded before a sequence is set back to its depth, so that a point stays where it says it is.
    private const int BurstTokens = 32;
    private const int MostRepetitions = 3;
    private const int WarmUpRows = 64;

    private readonly LoadedModel _model;
    private readonly PassCost _cost;
    private readonly PassCost? _mtpCost;
    private readonly BenchRequest _request;
    private readonly int _contextLength;
    private readonly CeilingMeter _ceilings;
    private readonly LowRankAdapter? _adapter;
    private readonly SeededContext _context;
    private readonly ForwardBatch _batch;
    private readonly NativeBuffer _logits;
    private readonly int[] _tokens;
    private readonly int[] _rowIndices;
    private readonly bool _usesInt8;
    private readonly IProgress<string>? _progress;
    private readonly CancellationToken _cancellation;
    private readonly List<BenchPoint> _points = [];
    private readonly List<string> _leftOut = [];
    private readonly double _windowSeconds;
    private readonly long _start = Stopwatch.GetTimestamp();

    private Benchmark(LoadedModel model, PassCost cost, PassCost? mtpCost, BenchRequest request, EngineOptions options, int contextLength, long freeBytes, IProgress<string>? progress, CancellationToken cancellation)
    {
        _model = model;
        _cost = cost;
        _mtpCost = mtpCost;
        _request = request;
        _contextLength = contextLength;
        _progress = progress;
        _cancellation = cancellation;
        _usesInt8 = model.HasQuantizedWeights && !options.ExactArithmetic;
        _windowSeconds = request.Quick ? 0.05 : 1;
        _batch = new ForwardBatch(model.Network.MaxRows);
        int mostSequences = request.Batches.Append(1).Max();
        _rowIndices = [.. Enumerable.Range(0, Math.Max(mostSequences, model.Network.MaxRows))];
        var random = new Random(20260402);
        _tokens = new int[Math.Max(mostSequences, request.PrefillCounts.Append(WarmUpRows).Max())];
        for (int i = 0; i < _tokens.Length; i++)
            _tokens[i] = random.Next(model.Config.VocabularySize);
        _adapter = request.AdapterPath is { } adapter ? ReadAdapter(adapter, model) : null;
        _context = new SeededContext(model, _adapter);
        _logits = NativeBuffer.AllocateFloats((long)Math.Max(mostSequences, 1 + s_acceptance.Length) * model.Config.VocabularySize);
        _progress?.Report("the machine's ceilings");
        _ceilings = new CeilingMeter(model.Team, freeBytes, request.Quick, cancellation);
    }

    public static BenchReport Run(string path, EngineOptions options, BenchRequest request, IProgress<string>? progress = null, IProgress<LoadProgress>? loading = null, CancellationToken cancellation = default)
    {
        options.Validate();
        long start = Stopwatch.GetTimestamp();
        Checkpoint checkpoint = Checkpoint.Open(path, options.MtpPath);
        bool drafts = request.DraftCounts.Count > 0 && checkpoint.Config.MtpLayerCount > 0;
        options = options with { LoadMtp = drafts, Speculation = drafts ? Speculation.Auto : Speculation.Off };
        MemoryPlan plan;
        PassCost cost;
        PassCost? mtpCost;
        int contextLength;
        try
        {
            Check(request, options);
            LayerRange all = LayerRange.All(checkpoint.Config);
            plan = MemoryEstimate.For(checkpoint, options, all);
            contextLength = ChooseContext(plan, checkpoint.Config, options, request);
            cost = PassCost.Of(checkpoint, options, plan.KvBytesPerToken);
            mtpCost = drafts ? PassCost.OfMtp(checkpoint, options) : null;
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }

        int blocks = BlocksFor(contextLength) + request.Batches.Append(1).Max() * BlocksFor(BurstTokens);
        using LoadedModel model = LoadedModel.Load(checkpoint, options, contextLength, blocks, loading, cancellation);
        double loadSeconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        long nativeBytes = NativeBuffer.AllocatedBytes;
        // What is free now, less the keys and values that are still to come.
        long freeBytes = MemoryEstimate.For(checkpoint, options, LayerRange.All(checkpoint.Config)).AvailableBytes - contextLength * plan.KvBytesPerToken;
        using var run = new Benchmark(model, cost, mtpCost, request, options, contextLength, freeBytes, progress, cancellation);
        run.MeasureAll();
        using var process = Process.GetCurrentProcess();
        return new BenchReport
        {
            Model = path,
            Adapter = request.AdapterPath,
            IsMapped = model.Weights.IsMapped,
            LoadNotes = model.LoadNotes,
            ThreadCount = model.Team.ThreadCount,
            LoadSeconds = loadSeconds,
            LoadedBytes = checkpoint.WeightBytes,
            ReadBufferBytes = run._ceilings.BufferBytes,
            Ceilings = run._ceilings.Medians,
            UsesInt8 = run._usesInt8,
            Points = run._points,
            LeftOut = run._leftOut,
            NativeBytes = nativeBytes,
            PeakBytes = process.PeakWorkingSet64,
        };
    }

    public void Dispose()
    {
        _batch.Clear();
        _context.Dispose();
        _adapter?.Dispose();
        _logits.Dispose();
        _ceilings.Dispose();
    }

    private static LowRankAdapter ReadAdapter(string path, LoadedModel model)
    {
        using AdapterFile file = AdapterFile.Open(path);
        return new LowRankAdapter(file.Read(model.Config), model.Config, model.Network.MaxRows);
    }

    private static void Check(BenchRequest request, EngineOptions options)
    {
        Require(request.PrefillCounts, 1, 1 << 20, "--prefill");
        Require(request.Depths, 0, (1 << 24) - BurstTokens, "--depth");
        Require(request.DraftCounts, 1, s_acceptance.Length, "--drafts");
        Require(request.Batches, 1, Math.Min(64, options.MaxBatchRows), "--batch");
        if (!(request.BudgetSeconds > 0))
            throw new BadRequestException("--budget: expected more than 0 seconds.");

        static void Require(IReadOnlyList<int> values, int least, int most, string flag)
        {
            foreach (int value in values)
            {
                if (value < least || value > most)
                    throw new BadRequestException($"{flag}: expected {least} to {most}, found {value}.");
            }
        }
    }

    // The longest point that was asked for, or what fits; a model that does not fit at all is refused with the usual advice.
    private static int ChooseContext(MemoryPlan plan, ModelConfig config, EngineOptions options, BenchRequest request)
    {
        int longest = Math.Max(request.Depths.Append(0).Max() + BurstTokens, request.PrefillCounts.Append(WarmUpRows).Max());
        if (options.LoadMtp)
            longest = Math.Max(longest, DraftDepth + DraftRoom);
        longest = Math.Min(longest, (int)Math.Min(options.ContextLength ?? int.MaxValue, config.ContextLength * (options.Yarn?.Factor ?? 1)));
        if (plan.TotalBytes(longest) <= plan.AvailableBytes)
            return longest;
        return MemoryEstimate.ChooseContext(plan, config, options with { ContextLength = (int)Math.Clamp(plan.LargestContext, Math.Min(WarmUpRows, longest), longest) });
    }

    private static int BlocksFor(int tokenCount) => (tokenCount + Network.BlockTokens - 1) / Network.BlockTokens + 1;

    private void MeasureAll()
    {
        _progress?.Report("warm-up");
        double prefillRate = WarmUp();
        foreach (int depth in _request.Depths.Distinct().Order())
            MeasureDecode(depth, 1);
        foreach (int count in _request.Batches.Distinct().Order())
        {
            if (count > 1 || !_request.Depths.Contains(0))
                MeasureDecode(0, count);
        }

        foreach (int count in _request.DraftCounts.Distinct().Order())
            MeasureDrafts(count);
        foreach (int count in _request.PrefillCounts.Distinct().Order())
        {
            MeasurePrefill(count, prefillRate);
            if (_points.LastOrDefault() is { Kind: BenchKind.Prefill } last)
                prefillRate = last.TokensPerSecond;
        }
    }

    // Compiles every path before the clock matters; returns tokens per second of a short prefill, for estimates.
    private double WarmUp()
    {
        using SequenceState sequence = _context.NewSequence(0, Math.Min(WarmUpRows, _contextLength), _cancellation);
        int rows = Math.Min(WarmUpRows, _contextLength);
        long start = Stopwatch.GetTimestamp();
        double seconds;
        int count = 0;
        do
        {
            Prefill(sequence, rows);
            count++;
            seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
        while (seconds < _windowSeconds);
        return count * rows / seconds;
    }

    private void MeasureDecode(int depth, int sequenceCount)
    {
        string name = sequenceCount == 1 ? $"decode at {depth}" : $"decode at {depth}, batch {sequenceCount}";
        if (depth + BurstTokens > _contextLength)
        {
            _leftOut.Add($"{name}: a context of {_contextLength} tokens is what was asked for or fits");
            return;
        }

        // A pass at this depth takes longer than the first point's, and each window at least one: a rough lower bound.
        double pass = _points.Count > 0 ? _points[0].MillisecondsPerPass / 1000 : 0;
        if (!Affords(name, 2 * Math.Max(pass, _windowSeconds)))
            return;
        _progress?.Report(name);
        var sequences = new SequenceState[sequenceCount];
        try
        {
            for (int i = 0; i < sequenceCount; i++)
                sequences[i] = _context.NewSequence(depth, BurstTokens, _cancellation);
            // Attention at a new depth may run code that was not compiled in full before.
            long start = Stopwatch.GetTimestamp();
            do
                DecodeOnce(sequences, depth);
            while (Stopwatch.GetElapsedTime(start).TotalSeconds < _windowSeconds / 2);
            Measure(
                new BenchWork(BenchKind.Decode, depth, sequenceCount, sequenceCount, _cost.DecodeBytes(sequenceCount, depth), _cost.DecodeMacs(sequenceCount)),
                _request.Quick ? 2 : 5, () => DecodeOnce(sequences, depth));
        }
        finally
        {
            foreach (SequenceState? sequence in sequences)
                sequence?.Dispose();
        }
    }

    private void MeasurePrefill(int tokenCount, double tokensPerSecond)
    {
        string name = $"prefill {tokenCount}";
        if (tokenCount > _contextLength)
        {
            _leftOut.Add($"{name}: a context of {_contextLength} tokens is what was asked for or fits");
            return;
        }

        double estimate = tokenCount / tokensPerSecond;
        if (!Affords(name, estimate))
            return;
        _progress?.Report(name);
        int sampleCount = (int)Math.Clamp(LeftSeconds / 2 / estimate, 1, _request.Quick ? 2 : 3);
        int passRows = _model.Network.MaxRows;
        using SequenceState sequence = _context.NewSequence(0, tokenCount, _cancellation);
        Measure(
            new BenchWork(BenchKind.Prefill, 0, tokenCount, tokenCount, _cost.PrefillBytes(tokenCount, passRows), _cost.PrefillMacs(tokenCount)),
            sampleCount, () => Prefill(sequence, tokenCount));
    }

    private double LeftSeconds => _request.BudgetSeconds - Stopwatch.GetElapsedTime(_start).TotalSeconds;

    private bool Affords(string name, double seconds)
    {
        if (seconds <= LeftSeconds)
            return true;
        _leftOut.Add(FormattableString.Invariant($"{name}: would take {seconds:0} s or more, {Math.Max(0, LeftSeconds):0} s of the budget of {_request.BudgetSeconds:0} s are left (--budget)"));
        return false;
    }

    // Windows of whole executions of `once`, with the ceilings before each and after the last.
    private void Measure(BenchWork work, int sampleCount, Action once)
    {
        var kept = new List<Window>();
        while (kept.Count < sampleCount)
        {
            Window window = TakeWindow(once);
            for (int i = 0; i < MostRepetitions && window.Foreign > ForeignLoad.Disturbing && window.Seconds < LeftSeconds; i++)
            {
                Window again = TakeWindow(once);
                window = (again.Foreign ?? 0) < window.Foreign ? again : window;
            }

            kept.Add(window);
        }

        CeilingSample last = _ceilings.Sample();
        double seconds = Statistics.Median([.. kept.Select(window => window.Seconds / window.Count)]);
        double[] known = [.. kept.Where(window => window.Foreign is not null).Select(window => window.Foreign!.Value)];
        _points.Add(new BenchPoint
        {
            Kind = work.Kind,
            Depth = work.Depth,
            Rows = work.Rows,
            SampleCount = kept.Count,
            TokensPerSecond = work.Tokens / seconds,
            MillisecondsPerPass = 1000 * seconds,
            GigabytesPerSecond = work.Bytes / seconds / 1e9,
            GmacsPerSecond = work.Macs / seconds / 1e9,
            ReadCeiling = Statistics.Median([.. kept.Select(window => window.Ceilings.Read), last.Read]),
            ProductCeiling = Statistics.Median([.. kept.Select(window => Product(window.Ceilings)), Product(last)]),
            ForeignShare = known.Length > 0 ? known.Max() : null,
            IsDisturbed = known.Any(share => share > ForeignLoad.Disturbing),
            AllocatedBytesPerToken = kept.Sum(window => window.AllocatedBytes) / (work.Tokens * kept.Sum(window => window.Count)),
        });
    }

    private Window TakeWindow(Action once)
    {
        ForeignLoad load = ForeignLoad.Start();
        CeilingSample ceilings = _ceilings.Sample();
        long allocated = GC.GetAllocatedBytesForCurrentThread();
        long start = Stopwatch.GetTimestamp();
        int count = 0;
        double seconds;
        do
        {
            once();
            count++;
            seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
        while (seconds < _windowSeconds);
        allocated = GC.GetAllocatedBytesForCurrentThread() - allocated;
        return new Window(seconds, count, ceilings, load.Share(), allocated);
    }

    private double Product(CeilingSample sample) => _usesInt8 ? sample.Int8 : sample.Float32;

    private void DecodeOnce(SequenceState[] sequences, int depth)
    {
        _cancellation.ThrowIfCancellationRequested();
        _batch.Clear();
        for (int i = 0; i < sequences.Length; i++)
        {
            // Never done to a text: the recurrent state goes on as if nothing had happened, which costs the same.
            if (sequences[i].TokenCount >= depth + BurstTokens)
                sequences[i].TokenCount = depth;
            _batch.Add(sequences[i], _tokens.AsSpan(i, 1));
        }

        _model.Network.Forward(_batch);
        _model.Network.Logits(_rowIndices.AsSpan(0, sequences.Length), _logits.AllFloats);
    }

    private void Prefill(SequenceState sequence, int tokenCount)
    {
        sequence.TokenCount = 0;
        for (int done = 0; done < tokenCount;)
        {
            _cancellation.ThrowIfCancellationRequested();
            int rows = Math.Min(_model.Network.MaxRows, tokenCount - done);
            _batch.Clear();
            _batch.Add(sequence, _tokens.AsSpan(done, rows));
            _model.Network.Forward(_batch);
            done += rows;
        }

        _model.Network.Logits(_rowIndices.AsSpan(_batch.RowCount - 1, 1), _logits.AllFloats);
    }

    private readonly record struct BenchWork(BenchKind Kind, int Depth, int Rows, double Tokens, double Bytes, double Macs);

    private readonly record struct Window(double Seconds, int Count, CeilingSample Ceilings, double? Foreign, long AllocatedBytes);
}
