namespace Qian.Inference.Formats;

// The shape that a configuration implies for every role, in which layers a role occurs, and which roles a file format stores
// transformed. One row stands for a vector.
internal static class TensorShapes
{
    public static bool IsMtp(TensorRole role) => role >= TensorRole.MtpProjection;

    public static bool IsLayerless(TensorRole role) => role <= TensorRole.Output;

    public static bool IsExpert(TensorRole role) => role is TensorRole.ExpertGate or TensorRole.ExpertUp or TensorRole.ExpertDown;

    // Norms that Hugging Face stores as w and the network uses as 1 + w.
    public static bool IsZeroCentredNorm(TensorRole role) => role is TensorRole.OutputNorm or TensorRole.InputNorm or TensorRole.PostAttentionNorm
        or TensorRole.AttentionQNorm or TensorRole.AttentionKNorm or TensorRole.MtpEmbeddingNorm or TensorRole.MtpHiddenNorm or TensorRole.MtpOutputNorm;

    public static bool IsVector(TensorRole role) => IsZeroCentredNorm(role) || role is TensorRole.LinearDecay or TensorRole.LinearDtBias or TensorRole.LinearNorm;

    // Does layer `layer` of this model have the role? The MTP layer (number LayerCount) is an attention layer.
    public static bool Occurs(ModelConfig config, TensorRole role, int layer)
    {
        if (IsLayerless(role))
            return layer == -1;
        bool mtpLayer = layer == config.LayerCount && config.MtpLayerCount > 0;
        if (IsMtp(role))
            return mtpLayer;
        if (layer < 0 || (layer >= config.LayerCount && !mtpLayer))
            return false;
        bool full = mtpLayer || config.FullAttentionLayers[layer];
        return role switch
        {
            >= TensorRole.AttentionQ and <= TensorRole.AttentionKNorm => full,
            >= TensorRole.LinearQkv and <= TensorRole.LinearOutput => !full,
            >= TensorRole.FfnGate and <= TensorRole.FfnDown => !config.IsMoe,
            >= TensorRole.RouterGate and <= TensorRole.SharedExpertGate => config.IsMoe,
            _ => true,
        };
    }

    // Of one expert for the expert roles.
    public static (int Rows, int Columns) Of(ModelConfig c, TensorRole role)
    {
        int valueWidth = c.LinearValueHeads * c.LinearValueDim;
        return role switch
        {
            TensorRole.TokenEmbedding or TensorRole.Output => (c.VocabularySize, c.HiddenSize),
            TensorRole.AttentionQNorm or TensorRole.AttentionKNorm => (1, c.HeadDim),
            TensorRole.AttentionQ => (c.AttentionHeads * 2 * c.HeadDim, c.HiddenSize),
            TensorRole.AttentionK or TensorRole.AttentionV => (c.KvHeads * c.HeadDim, c.HiddenSize),
            TensorRole.AttentionOutput => (c.HiddenSize, c.AttentionHeads * c.HeadDim),
            TensorRole.LinearQkv => (c.ConvChannels, c.HiddenSize),
            TensorRole.LinearZ => (valueWidth, c.HiddenSize),
            TensorRole.LinearB or TensorRole.LinearA => (c.LinearValueHeads, c.HiddenSize),
            TensorRole.LinearConv => (c.ConvChannels, c.ConvKernel),
            TensorRole.LinearDecay or TensorRole.LinearDtBias => (1, c.LinearValueHeads),
            TensorRole.LinearNorm => (1, c.LinearValueDim),
            TensorRole.LinearOutput => (c.HiddenSize, valueWidth),
            TensorRole.FfnGate or TensorRole.FfnUp => (c.IntermediateSize, c.HiddenSize),
            TensorRole.FfnDown => (c.HiddenSize, c.IntermediateSize),
            TensorRole.RouterGate => (c.ExpertCount, c.HiddenSize),
            TensorRole.ExpertGate or TensorRole.ExpertUp => (c.ExpertIntermediateSize, c.HiddenSize),
            TensorRole.ExpertDown => (c.HiddenSize, c.ExpertIntermediateSize),
            TensorRole.SharedGate or TensorRole.SharedUp => (c.SharedExpertIntermediateSize, c.HiddenSize),
            TensorRole.SharedDown => (c.HiddenSize, c.SharedExpertIntermediateSize),
            TensorRole.SharedExpertGate => (1, c.HiddenSize),
            TensorRole.MtpProjection => (c.HiddenSize, 2 * c.HiddenSize),
            _ => (1, c.HiddenSize), // the norms of the residual stream
        };
    }
}
