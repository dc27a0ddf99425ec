using Qian.Kernels;

namespace Qian.Inference.Model;

// The weights of a layer range, read-only once loaded. Shapes are the checkpoint's; see MODEL.md for what each one does.
// Matrices may be mapped from the file or repacked; vectors are float32 in one buffer.
internal sealed class NetworkWeights : IDisposable
{
    private readonly List<IDisposable> _owned = [];
    private WeightStore? _store;

    public required ModelConfig Config { get; init; }

    public required LayerRange Range { get; init; }

    public WeightMatrix? Embedding { get; set; }       // [vocabulary, hidden], rows are looked up

    public WeightMatrix? Head { get; set; }            // [vocabulary, hidden]; the embedding itself when tied

    public FloatView OutputNorm { get; set; }          // [hidden]

    public LayerWeights[] Layers { get; set; } = [];   // [Range.Count]

    public MtpWeights? Mtp { get; set; }

    // What the user should hear about how matrices are held.
    public IReadOnlyList<string> Notes { get; set; } = [];

    // True when some matrix is of a quantised type, whose inputs are rounded to 8 bits outside exact arithmetic.
    public bool HasQuantized { get; private set; }

    // True when the packed matrices are used where a cache file has them.
    public bool IsMapped => _store?.IsMapped == true;

    public WeightStore OwnStore(WeightStore store)
    {
        _store = store;
        _owned.Add(store);
        return store;
    }

    public WeightMatrix Own(WeightMatrix matrix)
    {
        _owned.Add(matrix);
        HasQuantized |= WeightFormat.IsQuantized(matrix.Type);
        return matrix;
    }

    public FloatView OwnVector(ReadOnlySpan<float> values)
    {
        NativeBuffer buffer = NativeBuffer.AllocateFloats(values.Length);
        _owned.Add(buffer);
        FloatView view = buffer.AllFloats;
        values.CopyTo(view.Span);
        return view;
    }

    public void Dispose()
    {
        foreach (IDisposable owned in _owned)
            owned.Dispose();
        _owned.Clear();
    }
}

internal sealed class LayerWeights
{
    public required FloatView InputNorm { get; init; }          // [hidden]

    public required FloatView PostAttentionNorm { get; init; }  // [hidden]: the pre-FFN norm

    public AttentionWeights? Attention { get; init; }           // exactly one of Attention and DeltaNet is set

    public DeltaNetWeights? DeltaNet { get; init; }

    public MlpWeights? Mlp { get; init; }                       // exactly one of Mlp and Moe is set

    public MoeWeights? Moe { get; init; }
}

internal sealed class AttentionWeights
{
    public required WeightMatrix Q { get; init; }       // [heads * 2 * headDim, hidden]: per head query rows, then gate rows

    public required WeightMatrix K { get; init; }       // [kvHeads * headDim, hidden]

    public required WeightMatrix V { get; init; }       // [kvHeads * headDim, hidden]

    public required WeightMatrix Output { get; init; }  // [hidden, heads * headDim]

    public required FloatView QNorm { get; init; }      // [headDim]

    public required FloatView KNorm { get; init; }      // [headDim]
}

internal sealed class DeltaNetWeights
{
    public required WeightMatrix Qkv { get; init; }     // [convChannels, hidden]

    public required WeightMatrix Z { get; init; }       // [valueHeads * valueDim, hidden]

    public required WeightMatrix B { get; init; }       // [valueHeads, hidden]

    public required WeightMatrix A { get; init; }       // [valueHeads, hidden]

    public required WeightMatrix Output { get; init; }  // [hidden, valueHeads * valueDim]

    public required FloatView Conv { get; init; }       // [convChannels, kernel]

    public required FloatView Decay { get; init; }      // [valueHeads]: -exp(A_log)

    public required FloatView DtBias { get; init; }     // [valueHeads]

    public required FloatView Norm { get; init; }       // [valueDim]
}

internal sealed class MlpWeights
{
    public required WeightMatrix Gate { get; init; }    // [intermediate, hidden]

    public required WeightMatrix Up { get; init; }      // [intermediate, hidden]

    public required WeightMatrix Down { get; init; }    // [hidden, intermediate]
}

internal sealed class MoeWeights
{
    public required WeightMatrix Router { get; init; }            // [experts, hidden]

    public required MlpWeights[] Experts { get; init; }

    public required MlpWeights Shared { get; init; }

    public required WeightMatrix SharedGate { get; init; }        // [1, hidden]
}

internal sealed class MtpWeights
{
    public required FloatView EmbeddingNorm { get; init; }   // [hidden]

    public required FloatView HiddenNorm { get; init; }      // [hidden]

    public required WeightMatrix Projection { get; init; }   // [hidden, 2 * hidden]: embedding half first

    public required LayerWeights Layer { get; init; }        // a full-attention decoder layer

    public required FloatView OutputNorm { get; init; }      // [hidden]
}
