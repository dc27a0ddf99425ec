using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Measurement;

// One kind of weight of one layer: Rows x Columns, Bytes as a pass reads it; of one expert for the expert roles.
internal readonly record struct WeightUse(TensorRole Role, long Rows, long Columns, long Bytes, int ExpertCount = 1)
{
    // What is multiplied: vectors and the convolution's taps are not products in the sense of the ceiling.
    public long Macs => TensorShapes.IsVector(Role) || Role is TensorRole.LinearConv or TensorRole.TokenEmbedding ? 0 : Rows * Columns;
}

// What a pass must touch and multiply, from shapes alone:
//   bytes: every trunk weight once, the head once where logits are asked for, the recurrent state read and written once per
//          sequence and pass, the keys and values of the tokens before. Activations are left out: they stay in the caches.
//   MACs:  products with weights. Attention and the delta rule take time and are not counted, so a share of the ceiling is
//          what the whole pass makes of the machine's multipliers.
// An expert counts by the chance that some row of the pass chose it, as if the router chose evenly.
internal sealed class PassCost
{
    private readonly ModelConfig _config;
    private readonly double _trunkBytes;
    private readonly double _expertBytes;
    private readonly double _trunkMacs;
    private readonly double _expertMacs;
    private readonly long _stateBytes;
    private readonly long _kvBytesPerToken;

    public PassCost(ModelConfig config, IEnumerable<WeightUse> weights, long kvBytesPerToken)
    {
        _config = config;
        _kvBytesPerToken = kvBytesPerToken;
        StateShape state = StateShape.Of(config, LayerRange.All(config));
        _stateBytes = state.LinearLayerCount * state.LayerFloats * sizeof(float);
        foreach (WeightUse use in weights)
        {
            if (use.Role == TensorRole.Output || (use.Role == TensorRole.TokenEmbedding && config.TiedEmbeddings))
            {
                HeadBytes += use.Bytes;
                HeadMacs += use.Rows * use.Columns;
            }
            else if (TensorShapes.IsExpert(use.Role))
            {
                _expertBytes += (double)use.Bytes * use.ExpertCount;
                _expertMacs += (double)use.Macs * config.ExpertsPerToken;
            }
            else if (use.Role != TensorRole.TokenEmbedding)
            {
                _trunkBytes += use.Bytes;
                _trunkMacs += use.Macs;
            }
        }
    }

    public double HeadBytes { get; }

    public double HeadMacs { get; }

    // Products with weights per row of a pass, without the head.
    public double MacsPerRow => _trunkMacs + _expertMacs;

    // Of a model as the loader will hold it: packed where it packs.
    public static PassCost Of(Checkpoint checkpoint, EngineOptions options, long kvBytesPerToken) =>
        Of(checkpoint, options, kvBytesPerToken, -1, checkpoint.Config.LayerCount);

    // Of the MTP head's own layer alone.
    public static PassCost OfMtp(Checkpoint checkpoint, EngineOptions options) =>
        Of(checkpoint, options, 0, checkpoint.Config.LayerCount, checkpoint.Config.LayerCount + checkpoint.Config.MtpLayerCount);

    private static PassCost Of(Checkpoint checkpoint, EngineOptions options, long kvBytesPerToken, int firstLayer, int endLayer)
    {
        var policy = new LoadPolicy(options.ExactArithmetic, options.LoadAs, Mtp: endLayer > checkpoint.Config.LayerCount);
        var weights = new List<WeightUse>();
        ModelConfig config = checkpoint.Config;
        for (int layer = firstLayer; layer < endLayer; layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (!TensorShapes.Occurs(config, role, layer) || (role == TensorRole.Output && config.TiedEmbeddings))
                    continue;
                TensorSource source = checkpoint.Require(role, layer, TensorShapes.IsExpert(role) ? 0 : -1);
                weights.Add(new WeightUse(role, source.RowCount, source.ColumnCount, HeldBytes(source, role, policy), TensorShapes.IsExpert(role) ? config.ExpertCount : 1));
            }
        }

        return new PassCost(config, weights, kvBytesPerToken);
    }

    // Weights that a pass of `rowCount` rows reads, without the head.
    public double TrunkBytes(int rowCount) => _trunkBytes + _expertBytes * ShareOfExperts(rowCount);

    // One pass that decodes a token for each of `sequenceCount` sequences, each with `depth` tokens before it.
    public double DecodeBytes(int sequenceCount, int depth) =>
        TrunkBytes(sequenceCount) + HeadBytes + sequenceCount * (2.0 * _stateBytes + (double)depth * _kvBytesPerToken);

    // One pass that verifies `draftCount` drafts of one sequence: the state is read once more to replay what was accepted.
    public double VerifyBytes(int draftCount, int depth) =>
        TrunkBytes(1 + draftCount) + HeadBytes + 3.0 * _stateBytes + (double)depth * _kvBytesPerToken;

    public double DecodeMacs(int sequenceCount) => sequenceCount * (MacsPerRow + HeadMacs);

    // Passes of at most `passRows` rows over a prompt, logits for the last row.
    public double PrefillBytes(int tokenCount, int passRows)
    {
        double bytes = HeadBytes;
        for (int done = 0; done < tokenCount; done += passRows)
        {
            int rows = Math.Min(passRows, tokenCount - done);
            bytes += TrunkBytes(rows) + 2.0 * _stateBytes + (double)(done + rows) * _kvBytesPerToken;
        }

        return bytes;
    }

    public double PrefillMacs(int tokenCount) => tokenCount * MacsPerRow + HeadMacs;

    private static long HeldBytes(TensorSource source, TensorRole role, LoadPolicy policy)
    {
        if (TensorShapes.IsVector(role) || role == TensorRole.LinearConv)
            return (long)source.RowCount * source.ColumnCount * sizeof(float);
        long owned = policy.OwnedBytes(source, isLookup: false);
        return owned > 0 ? owned : WeightFormat.RowBytes(source.Type!.Value, source.ColumnCount) * source.RowCount;
    }

    private double ShareOfExperts(int rowCount) =>
        _config.IsMoe ? 1 - Math.Pow(1 - (double)_config.ExpertsPerToken / _config.ExpertCount, rowCount) : 0;
}
