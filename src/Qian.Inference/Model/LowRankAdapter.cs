using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// An adapter as the network multiplies it: factors in native memory, in the model's order of the value heads, each scale inside
// its B. Held by its public handle and by every sequence that was started with it; the last one to let go frees the memory, so
// unloading never takes it from under a pass. The factors are read, and Inner written, by the compute thread only.
internal sealed class LowRankAdapter : IDisposable
{
    private static readonly int s_roleCount = Enum.GetValues<TensorRole>().Length;

    private readonly NativeBuffer _memory;
    private readonly LowRankFactors[] _factors;
    private readonly int[] _places;   // [layer + 1, role]: index into _factors, from 1; 0 where the adapter has nothing
    private int _holders = 1;
    private volatile bool _disposed;

    // For passes of at most `maxRows` rows of the model of `config`.
    public LowRankAdapter(AdapterWeights weights, ModelConfig config, int maxRows)
    {
        MaxRank = RankOf(weights);
        _memory = NativeBuffer.Allocate(BytesOf(weights, maxRows));
        _factors = new LowRankFactors[weights.Targets.Count];
        _places = new int[(config.LayerCount + 2) * s_roleCount];
        long taken = 0;
        foreach (AdapterTarget target in weights.InOrderOf(config))
        {
            FloatView down = Take(target.A.Length), up = Take(target.B.Length);
            target.A.CopyTo(down.Span);
            Turn(target, weights.Scale(target), up.Span);
            _factors[TargetCount++] = new LowRankFactors(down, up, target.Rank, target.InputCount, target.OutputCount);
            _places[Place(target.Layer, target.Role)] = TargetCount;
        }

        Inner = Take((long)maxRows * MaxRank);

        FloatView Take(long count)
        {
            FloatView view = _memory.Floats(taken, count);
            taken += Aligned(count);
            return view;
        }
    }

    public int MaxRank { get; }

    public int TargetCount { get; }

    public long Bytes => _memory.Bytes;

    // [maxRows, MaxRank]: what lies between the two products, of one projection at a time.
    public FloatView Inner { get; }

    // What it takes before it is loaded.
    public static long BytesOf(AdapterWeights weights, int maxRows)
    {
        long floats = Aligned((long)maxRows * RankOf(weights));
        foreach (AdapterTarget target in weights.Targets)
            floats += Aligned(target.A.Length) + Aligned(target.B.Length);
        return floats * sizeof(float);
    }

    public bool TryFind(int layerIndex, TensorRole role, out LowRankFactors factors)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        int index = _places[Place(layerIndex, role)];
        factors = index > 0 ? _factors[index - 1] : default;
        return index > 0;
    }

    // What tells this adapter from any other: its factors and where they belong.
    public void AddContent(IncrementalHash hash)
    {
        hash.AppendData(MemoryMarshal.AsBytes(_places.AsSpan()));
        for (int i = 0; i < TargetCount; i++)
        {
            hash.AppendData(MemoryMarshal.AsBytes(_factors[i].Down.Span));
            hash.AppendData(MemoryMarshal.AsBytes(_factors[i].Up.Span));
        }
    }

    // False when everybody has let go already.
    public bool TryHold()
    {
        for (int holders = Volatile.Read(ref _holders); holders > 0;)
        {
            int seen = Interlocked.CompareExchange(ref _holders, holders + 1, holders);
            if (seen == holders)
                return true;
            holders = seen;
        }

        return false;
    }

    public void Release()
    {
        if (Interlocked.Decrement(ref _holders) == 0)
            Dispose();
    }

    // Frees the memory whoever holds it: for the end of the model, when nothing computes any more.
    public void Dispose()
    {
        _disposed = true;
        _memory.Dispose();
    }

    private static int RankOf(AdapterWeights weights)
    {
        int rank = 0;
        foreach (AdapterTarget target in weights.Targets)
            rank = Math.Max(rank, target.Rank);
        return rank;
    }

    private static int Place(int layerIndex, TensorRole role) => (layerIndex + 1) * s_roleCount + (int)role;

    // up[rank, out] = scale · B^T
    private static void Turn(AdapterTarget target, double scale, Span<float> up)
    {
        int outputs = target.OutputCount;
        for (int output = 0; output < outputs; output++)
        {
            for (int rank = 0; rank < target.Rank; rank++)
                up[rank * outputs + output] = (float)(scale * target.B[output * target.Rank + rank]);
        }
    }

    // Every matrix starts on a cache line.
    private static long Aligned(long floats) => (floats + 15) & ~15L;
}
