using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Text;
using Qian.Kernels;

namespace Qian.Inference.Verification;

// The invariants of the engine, run on a user's own model file. Bit-equal ones compare logits with a bound of 0: the same
// text must give the same bits however passes were cut, whoever else was in the batch, and after a fork. Near-equal ones
// compare two roundings of the same mathematics.
internal sealed class Invariants : IDisposable
{
    private const int PromptLength = 200;      // more than three chunks of the delta rule, and a tail
    private const int ShortLength = 37;
    private const int DraftLength = 7;

    private readonly LoadedModel _model;
    private readonly string _subject;
    private readonly List<VerificationResult> _results = [];
    private readonly int[] _prompt;
    private readonly ForwardBatch _batch;

    private Invariants(LoadedModel model, string subject, CancellationToken cancellation)
    {
        model.Network.Cancellation = cancellation;
        _model = model;
        _subject = subject;
        _batch = new ForwardBatch(model.Network.MaxRows);
        _prompt = RandomIds(PromptLength + DraftLength, model.Config.VocabularySize, seed: 20260402);
    }

    // Exact arithmetic decodes every weight for every token, so it is left out for large files unless it is asked for.
    private const long LargestExactBytes = 4L << 30;

    public static List<VerificationResult> Run(string path, string subject, VerificationOptions request, IProgress<string>? progress = null, CancellationToken cancellation = default)
    {
        var options = new EngineOptions { MaxBatchRows = 256, KvType = request.Kv, ThreadCount = request.ThreadCount };
        const int context = 1024;
        using Checkpoint probe = Checkpoint.Open(path);
        MemoryEstimate.ChooseContext(MemoryEstimate.For(probe, options, LayerRange.All(probe.Config)), probe.Config, options with { ContextLength = context });
        using LoadedModel model = LoadedModel.Load(Checkpoint.Open(path), options, context, maxBlocks: 64, null, cancellation);
        using var run = new Invariants(model, subject, cancellation);
        progress?.Report("reference run");
        (float[] whole, float[] decoded) = run.Reference();
        progress?.Report("passes cut in other places");
        run.CutPasses(whole);
        progress?.Report("several sequences in one batch");
        run.Batches(whole);
        progress?.Report("several tokens verified at once");
        run.Drafts(decoded);
        run.WrongDrafts(decoded);
        progress?.Report("forked and continued");
        run.Forks(decoded);
        progress?.Report("written against read");
        run.WrittenAgainstRead();
        progress?.Report("order of the value heads");
        run.ValueHeads(probe, cancellation);
        if (model.HasQuantizedWeights && (request.Exact || probe.WeightBytes <= LargestExactBytes))
        {
            progress?.Report("8-bit activations against exact arithmetic");
            using LoadedModel exact = LoadedModel.Load(Checkpoint.Open(path), options with { ExactArithmetic = true }, context, maxBlocks: 64, null, cancellation);
            using var reference = new Invariants(exact, subject, cancellation);
            run.AgainstExact(reference);
        }
        else if (model.HasQuantizedWeights)
        {
            progress?.Report("exact arithmetic is left out for a file of this size; --exact compares with it");
        }

        return run._results;
    }

    public void Dispose() => _batch.Clear();

    // Logits after the prompt in one pass, then after each further token decoded alone.
    private (float[] Whole, float[] Decoded) Reference()
    {
        using SequenceState sequence = _model.NewSequence();
        Pass((sequence, Prompt));
        float[] whole = LastLogits(0);
        bool finite = true;
        foreach (float logit in whole)
            finite &= float.IsFinite(logit);
        Add("logits that are not finite", finite ? 0 : 1, 0);
        var decoded = new float[DraftLength * whole.Length];
        for (int i = 0; i < DraftLength; i++)
        {
            Pass((sequence, _prompt.AsMemory(PromptLength + i, 1)));
            LastLogits(0).CopyTo(decoded.AsSpan(i * whole.Length));
        }

        return (whole, decoded);
    }

    private ReadOnlyMemory<int> Prompt => _prompt.AsMemory(0, PromptLength);

    private void CutPasses(float[] whole)
    {
        foreach (int cut in (int[])[5, 64, 99])
        {
            using SequenceState sequence = _model.NewSequence();
            for (int start = 0; start < PromptLength; start += cut)
                Pass((sequence, Prompt.Slice(start, Math.Min(cut, PromptLength - start))));
            Add($"prefill in passes of {cut} = in one pass", Compare.MaxAbsolute(LastLogits(0), whole), 0);
        }
    }

    // The prompt once more in a batch with a decoding sequence and another prefill.
    private void Batches(float[] whole)
    {
        using SequenceState decoding = _model.NewSequence(), other = _model.NewSequence();
        int[] ids = RandomIds(2 * ShortLength, _model.Config.VocabularySize, seed: 7);
        Pass((decoding, ids.AsMemory(0, ShortLength)));
        Pass((decoding, ids.AsMemory(ShortLength, 1)));
        float[] alone = LastLogits(0);

        decoding.Reset();
        using SequenceState prompt = _model.NewSequence();
        Pass((decoding, ids.AsMemory(0, ShortLength)), (other, ids.AsMemory(ShortLength, 3)));
        Pass((decoding, ids.AsMemory(ShortLength, 1)), (prompt, Prompt), (other, ids.AsMemory(ShortLength + 3, 20)));
        Add("decoding in a batch = alone", Compare.MaxAbsolute(LastLogits(0), alone), 0);
        Add("prefill in a batch = alone", Compare.MaxAbsolute(LastLogits(1), whole), 0);
    }

    private void Drafts(float[] decoded)
    {
        using SequenceState sequence = _model.NewSequence();
        Pass((sequence, Prompt));
        Pass((sequence, _prompt.AsMemory(PromptLength, DraftLength)));
        Add($"{DraftLength} tokens in one pass = decoded one by one", Compare.MaxAbsolute(Logits([.. Enumerable.Range(0, DraftLength)]), decoded), 0);
    }

    // Drafts of which only some are right: they must be judged by the logits of decoding, and those that were wrong must
    // have left nothing behind.
    private void WrongDrafts(float[] decoded)
    {
        int vocabulary = _model.Config.VocabularySize;
        double judged = 0, after = 0;
        for (int right = 1; right < DraftLength; right += 2)
        {
            using SequenceState sequence = _model.NewSequence();
            Pass((sequence, Prompt));
            int[] drafts = [.. _prompt.AsSpan(PromptLength, right), .. _prompt.AsSpan(0, DraftLength - right)];
            if (!sequence.TryReserve(PromptLength + DraftLength))
                throw new InvalidOperationException("the KV pool of the verification is too small");
            _batch.Clear();
            _batch.AddTrial(sequence, drafts);
            _model.Network.Forward(_batch);
            judged = Math.Max(judged, Compare.MaxAbsolute(Logits([.. Enumerable.Range(0, right)]), decoded.AsSpan(0, right * vocabulary)));
            _model.Network.Commit(_batch.Segments[0], right);
            for (int i = right; i < DraftLength; i++)
            {
                Pass((sequence, _prompt.AsMemory(PromptLength + i, 1)));
                after = Math.Max(after, Compare.MaxAbsolute(LastLogits(0), decoded.AsSpan(i * vocabulary, vocabulary)));
            }
        }

        Add("drafts are judged by the logits of decoding", judged, 0);
        Add("after wrong drafts = never drafted", after, 0);
    }

    private void Forks(float[] decoded)
    {
        int vocabulary = _model.Config.VocabularySize;
        using SequenceState sequence = _model.NewSequence();
        Pass((sequence, Prompt));
        using SequenceState fork = sequence.Fork();
        for (int i = 0; i < DraftLength; i++)
            Pass((sequence, _prompt.AsMemory(i, 1))); // the original goes elsewhere; shared blocks must not change under the fork
        double worst = 0;
        for (int i = 0; i < DraftLength; i++)
        {
            Pass((fork, _prompt.AsMemory(PromptLength + i, 1)));
            worst = Math.Max(worst, Compare.MaxAbsolute(LastLogits(0), decoded.AsSpan(i * vocabulary, vocabulary)));
        }

        Add("forked = never interrupted", worst, 0);
    }

    // A text that was written token by token and one that was read end in the same state: what a conversation left behind can
    // stand for what a client sends back.
    private void WrittenAgainstRead()
    {
        int vocabulary = _model.Config.VocabularySize;
        float[] read = PromptLogits();
        using SequenceState sequence = _model.NewSequence();
        double worst = 0;
        for (int i = 0; i < PromptLength; i++)
        {
            Pass((sequence, Prompt.Slice(i, 1)));
            worst = Math.Max(worst, Compare.MaxAbsolute(LastLogits(0), read.AsSpan(i * vocabulary, vocabulary)));
        }

        Add("written token by token = read in one pass", worst, 0);
    }

    private void AgainstExact(Invariants exact) => CompareChoices("8-bit activations against exact arithmetic", PromptLogits(), exact.PromptLogits());

    // The chosen token must agree wherever the choice is clear (margin above a quarter of the logits' standard deviation);
    // positions with a less clear choice that differ are excused, counted, and bounded.
    private void CompareChoices(string what, float[] ours, float[] reference)
    {
        int vocabulary = _model.Config.VocabularySize, wrong = 0, excused = 0;
        for (int i = 0; i < PromptLength; i++)
        {
            ReadOnlySpan<float> row = reference.AsSpan(i * vocabulary, vocabulary);
            int best = Compare.ArgMax(row);
            if (Compare.ArgMax(ours.AsSpan(i * vocabulary, vocabulary)) == best)
                continue;
            bool clear = row[best] - row[Second(row, best)] > 0.25 * Deviation(row);
            wrong += clear ? 1 : 0;
            excused += clear ? 0 : 1;
        }

        Add($"{what}, clear choices that differ, of {PromptLength}", wrong, 0);
        Add($"{what}, share of unclear choices that differ", excused / (double)PromptLength, 0.05);
    }

    private void ValueHeads(Checkpoint checkpoint, CancellationToken cancellation)
    {
        Tokenizer? tokenizer = checkpoint.LoadTokenizer() is { } spec ? new Tokenizer(spec) : null;
        ValueHeadEvidence evidence = ValueHeadEvidence.FromWeights(checkpoint, cancellation).With(ValueHeadEvidence.FromText(_model, tokenizer));
        _results.Add(evidence.ToResult(_subject, "evidence that value heads stand in the wrong order"));
    }

    // [PromptLength, vocabulary] in one pass.
    private float[] PromptLogits()
    {
        using SequenceState sequence = _model.NewSequence();
        Pass((sequence, Prompt));
        return Logits([.. Enumerable.Range(0, PromptLength)]);
    }

    private void Pass(params ReadOnlySpan<(SequenceState Sequence, ReadOnlyMemory<int> Tokens)> runs)
    {
        _batch.Clear();
        foreach ((SequenceState sequence, ReadOnlyMemory<int> tokens) in runs)
        {
            if (!sequence.TryReserve(sequence.TokenCount + tokens.Length))
                throw new InvalidOperationException("the KV pool of the verification is too small");
            _batch.Add(sequence, tokens.Span);
        }

        _model.Network.Forward(_batch);
    }

    // Logits of the last row of run `segmentIndex` of the last pass.
    private float[] LastLogits(int segmentIndex)
    {
        Segment segment = _batch.Segments[segmentIndex];
        return Logits([segment.FirstRow + segment.RowCount - 1]);
    }

    private float[] Logits(int[] rows)
    {
        using NativeBuffer buffer = NativeBuffer.AllocateFloats((long)rows.Length * _model.Config.VocabularySize);
        _model.Network.Logits(rows, buffer.AllFloats);
        return buffer.AllFloats.Span.ToArray();
    }

    private void Add(string quantity, double value, double bound) =>
        _results.Add(new VerificationResult(_subject, quantity, value, bound, value <= bound, ""));

    private static int[] RandomIds(int count, int vocabularySize, int seed)
    {
        var random = new Random(seed);
        var ids = new int[count];
        for (int i = 0; i < count; i++)
            ids[i] = random.Next(vocabularySize);
        return ids;
    }

    private static double Deviation(ReadOnlySpan<float> values)
    {
        double mean = 0, square = 0;
        foreach (float value in values)
            mean += value;
        mean /= values.Length;
        foreach (float value in values)
            square += (value - mean) * (value - mean);
        return Math.Max(Math.Sqrt(square / values.Length), 1e-30);
    }

    private static int Second(ReadOnlySpan<float> values, int best)
    {
        int second = best == 0 ? 1 : 0;
        for (int i = 0; i < values.Length; i++)
        {
            if (i != best && values[i] > values[second])
                second = i;
        }

        return second;
    }
}
