using System.Diagnostics;
using Qian.Inference.Model;
using Qian.Inference.Runtime;

namespace Qian.Inference.Measurement;

// Decoding with drafts, as the engine does it: the MTP head guesses, one pass verifies, the accepted rows are replayed. What
// the head guesses is real and so is all it costs; whether a guess is right is decided by seeded dice at stated rates, because
// a synthetic model's guesses are never right. So the figure says what drafting brings at such rates, not which rates a model has.
internal sealed partial class Benchmark
{
    // A draft starts from a text: one block of it.
    private const int DraftDepth = 64;
    private const int DraftRoom = 2 * BurstTokens;

    // Chance that draft 1, 2, 3 is right when those before it were.
    private static readonly double[] s_acceptance = [0.8, 0.7, 0.6];

    private void MeasureDrafts(int draftCount)
    {
        string name = $"decode at {DraftDepth}, drafts {draftCount}";
        if (_mtpCost is not { } mtp)
            return;
        if (DraftDepth + DraftRoom > _contextLength)
        {
            _leftOut.Add($"{name}: a context of {_contextLength} tokens is what was asked for or fits");
            return;
        }

        double pass = _points.Count > 0 ? _points[0].MillisecondsPerPass / 1000 : 0;
        if (!Affords(name, 2 * Math.Max(2 * pass, _windowSeconds)))
            return;
        _progress?.Report(name);
        using var run = new DraftRun(this, draftCount);
        // Every number of accepted drafts once, and the draft after it: products of so many rows are made ready when first met.
        for (int right = 0; right <= draftCount; right++)
            run.Pass(right);
        long start = Stopwatch.GetTimestamp();
        do
            run.Once();
        while (Stopwatch.GetElapsedTime(start).TotalSeconds < _windowSeconds / 2);

        double expected = 1, chance = 1;
        for (int i = 0; i < draftCount; i++)
            expected += chance *= s_acceptance[i];
        double bytes = _cost.VerifyBytes(draftCount, DraftDepth) + draftCount * (mtp.TrunkBytes(1) + _cost.HeadBytes);
        double macs = _cost.DecodeMacs(1 + draftCount) + draftCount * (mtp.MacsPerRow + _cost.HeadMacs);
        Measure(new BenchWork(BenchKind.Drafted, DraftDepth, draftCount, expected, bytes, macs), _request.Quick ? 2 : 5, run.Once);
    }

    private sealed class DraftRun : IDisposable
    {
        private readonly Benchmark _bench;
        private readonly int _draftCount;
        private readonly SequenceState _state;
        private readonly MtpDrafter _drafter;
        private readonly DraftSlot _slot;
        private readonly List<Generation> _generations = [];
        private readonly LogitRow[] _rows;
        private readonly int[] _run;
        private readonly Random _dice = new(20260402);
        private readonly Timeline _timeline;

        public DraftRun(Benchmark bench, int draftCount)
        {
            _bench = bench;
            _draftCount = draftCount;
            _state = bench._context.NewSequence(DraftDepth, DraftRoom, bench._cancellation);
            _drafter = new MtpDrafter(bench._model.Network, VocabularyMask.All(bench._model.Config.VocabularySize));
            _slot = new DraftSlot(draftCount, new AcceptanceRates(), DraftDepth + DraftRoom);
            _run = new int[1 + draftCount];
            _rows = new LogitRow[1 + draftCount];
            for (int i = 0; i <= draftCount; i++)
                _rows[i] = new LogitRow(_state, i);
            // Made-up tokens for as far as a burst goes: which they are costs nothing.
            _timeline = new Timeline(_state);
            for (int i = 0; i < DraftDepth + DraftRoom; i++)
                _timeline.Append(bench._tokens[i % bench._tokens.Length]);
            _generations.Add(new Generation(_timeline, CancellationToken.None, drafts: _slot));
            Rewind();
        }

        public void Once()
        {
            int right = 0;
            while (right < _draftCount && _dice.NextDouble() < s_acceptance[right])
                right++;
            Pass(right);
        }

        // A pass of the engine with its drafts, of which the first `right` are; yields one token more than that.
        public void Pass(int right)
        {
            _bench._cancellation.ThrowIfCancellationRequested();
            if (_state.TokenCount >= DraftDepth + BurstTokens)
                Rewind();
            _slot.Source = DraftSource.Mtp;
            _slot.Count = _draftCount;
            _drafter.Draft(_generations);
            _run[0] = _timeline.PendingTokens[0];
            _slot.Tokens.AsSpan(0, _draftCount).CopyTo(_run.AsSpan(1));

            ForwardBatch batch = _bench._batch;
            Network network = _bench._model.Network;
            batch.Clear();
            batch.AddTrial(_state, _run);
            network.Forward(batch);
            network.NextLogits(_rows, _bench._logits.AllFloats);
            network.Commit(batch.Segments[0], 1 + right);
            _drafter.Keep(batch.Segments[0], 1 + right);
        }

        public void Dispose()
        {
            _drafter.Dispose();
            _state.Dispose();
        }

        // Never done to a text: the recurrent state goes on as if nothing had happened, which costs the same.
        private void Rewind()
        {
            _state.TokenCount = DraftDepth;
            _state.MtpCount = DraftDepth;
        }
    }
}
