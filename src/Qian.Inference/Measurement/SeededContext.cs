using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Measurement;

// Sequences with a past that nobody computed: keys, values and recurrent state filled with seeded numbers. Only for
// measuring: what a token costs at a depth does not depend on what the tokens before it were, and reading 32768 tokens
// into a 27B model would take an hour.
internal sealed class SeededContext : IDisposable
{
    private const int RowsAtOnce = 256;

    private readonly LoadedModel _model;
    private readonly LowRankAdapter? _adapter;
    private readonly NativeBuffer _rows;
    private readonly long _rowsFloats;

    public SeededContext(LoadedModel model, LowRankAdapter? adapter = null)
    {
        _model = model;
        _adapter = adapter;
        KvShape shape = model.Pool.Shape;
        _rowsFloats = (long)RowsAtOnce * shape.KvHeads * shape.HeadDim;
        _rows = NativeBuffer.AllocateFloats(2 * _rowsFloats);
        Fill(_rows.AllFloats, new Random(20260402), 1);
    }

    // A sequence of `depth` tokens with room for `room` more. Throws when the pool has none left.
    public SequenceState NewSequence(int depth, int room, CancellationToken cancellation)
    {
        SequenceState sequence = _model.NewSequence(_adapter);
        try
        {
            if (!sequence.TryReserve(depth + room))
                throw new InvalidOperationException("the KV pool of the measurement is too small");
            KvShape shape = _model.Pool.Shape;
            FloatView keys = _rows.Floats(0, _rowsFloats), values = _rows.Floats(_rowsFloats, _rowsFloats);
            for (int done = 0; done < depth; done += RowsAtOnce)
            {
                cancellation.ThrowIfCancellationRequested();
                for (int layer = 0; layer < shape.LayerCount; layer++)
                    KvCache.Write(shape, sequence.Blocks, layer, done, keys, values, Math.Min(RowsAtOnce, depth - done), _model.Team);
            }

            int linearCount = _model.Config.LayerCount - _model.Config.FullAttentionLayerCount;
            var random = new Random(7);
            for (int i = 0; depth > 0 && i < linearCount; i++)
                Fill(sequence.Recurrent(i), random, 0.1f);
            sequence.TokenCount = depth;
            return sequence;
        }
        catch
        {
            sequence.Dispose();
            throw;
        }
    }

    public void Dispose() => _rows.Dispose();

    private static void Fill(FloatView view, Random random, float bound)
    {
        foreach (ref float value in view.Span)
            value = bound * (2 * random.NextSingle() - 1);
    }
}
