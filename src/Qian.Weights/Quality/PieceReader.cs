using Qian.Inference;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Weights;

// A model that reads one piece of text at a time, in one pass, and hands out logits of chosen rows of it.
internal sealed class PieceReader : IDisposable
{
    private const long MostLogitBytes = 64L << 20;

    private readonly Engine _engine;
    private readonly SequenceState _sequence;
    private readonly ForwardBatch _batch;
    private readonly NativeBuffer _logits;
    private readonly int[] _rows;

    private PieceReader(Engine engine, Adapter? adapter)
    {
        _engine = engine;
        _sequence = engine.Model.NewSequence(adapter?.Values);
        _batch = new ForwardBatch(engine.Model.Network.MaxRows);
        int rows = (int)Math.Clamp(MostLogitBytes / (sizeof(float) * (long)engine.Config.VocabularySize), 1, 64);
        _rows = new int[rows];
        _logits = NativeBuffer.AllocateFloats((long)rows * engine.Config.VocabularySize);
    }

    public Engine Engine => _engine;

    public int VocabularySize => _engine.Config.VocabularySize;

    // Rows that one call of Logits may ask for.
    public int MostRows => _rows.Length;

    public static PieceReader Load(string path, EngineOptions options, int pieceTokens, CancellationToken cancellation, string? adapterPath = null)
    {
        int rows = (pieceTokens + Network.BlockTokens - 1) / Network.BlockTokens * Network.BlockTokens;
        Engine engine = Engine.Load(path, options with { ContextLength = rows, MaxBatchRows = rows }, null, cancellation);
        try
        {
            return new PieceReader(engine, adapterPath is null ? null : engine.LoadAdapter(adapterPath));
        }
        catch
        {
            engine.Dispose();
            throw;
        }
    }

    public void Read(ReadOnlySpan<int> tokens)
    {
        _sequence.Reset();
        if (!_sequence.TryReserve(tokens.Length))
            throw new InvalidOperationException("the KV pool does not hold one piece of text");
        _batch.Clear();
        _batch.Add(_sequence, tokens);
        _engine.Model.Network.Forward(_batch);
    }

    // [rowCount, vocabulary]; valid until the next call.
    public FloatView Logits(int firstRow, int rowCount)
    {
        for (int i = 0; i < rowCount; i++)
            _rows[i] = firstRow + i;
        FloatView logits = _logits.Floats(0, (long)rowCount * VocabularySize);
        _engine.Model.Network.Logits(_rows.AsSpan(0, rowCount), logits);
        return logits;
    }

    public void Dispose()
    {
        _sequence.Dispose();
        _logits.Dispose();
        _engine.Dispose();
    }
}
