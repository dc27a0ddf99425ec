using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Training.Model;

// Which weight goes where: the chain of layers over a set of weights. The only place of the chain that knows roles.
internal sealed class ChainBuilder(WeightSet weights)
{
    private ModelConfig Config => weights.Config;

    public DecoderLayer[] Layers()
    {
        var layers = new DecoderLayer[Config.LayerCount];
        for (int i = 0; i < layers.Length; i++)
            layers[i] = Layer(i, Config.FullAttentionLayers[i]);
        return layers;
    }

    public MtpBlock Mtp(MtpBuffers buffers)
    {
        int layer = Config.LayerCount;
        (LinearWeight fromEmbedding, LinearWeight fromHidden) = weights.MtpProjection();
        return new MtpBlock(buffers)
        {
            EmbeddingNorm = weights.Vector(TensorRole.MtpEmbeddingNorm, layer),
            HiddenNorm = weights.Vector(TensorRole.MtpHiddenNorm, layer),
            FromEmbedding = fromEmbedding,
            FromHidden = fromHidden,
            Layer = Layer(layer, fullAttention: true),
            OutputNorm = weights.Vector(TensorRole.MtpOutputNorm, layer),
        };
    }

    private DecoderLayer Layer(int layer, bool fullAttention) => new()
    {
        InputNorm = weights.Vector(TensorRole.InputNorm, layer),
        PostAttentionNorm = weights.Vector(TensorRole.PostAttentionNorm, layer),
        Attention = fullAttention ? Attention(layer) : null,
        DeltaNet = fullAttention ? null : DeltaNet(layer),
        Mlp = Config.IsMoe ? null : Mlp(layer, TensorRole.FfnGate, TensorRole.FfnUp, TensorRole.FfnDown),
        Experts = Config.IsMoe ? Experts(layer) : null,
    };

    private AttentionLayer Attention(int layer) => new()
    {
        Q = weights.Matrix(TensorRole.AttentionQ, layer),
        K = weights.Matrix(TensorRole.AttentionK, layer),
        V = weights.Matrix(TensorRole.AttentionV, layer),
        Output = weights.Matrix(TensorRole.AttentionOutput, layer),
        QNorm = weights.Vector(TensorRole.AttentionQNorm, layer),
        KNorm = weights.Vector(TensorRole.AttentionKNorm, layer),
    };

    private DeltaNetLayer DeltaNet(int layer) => new()
    {
        Qkv = weights.Matrix(TensorRole.LinearQkv, layer),
        Z = weights.Matrix(TensorRole.LinearZ, layer),
        B = weights.Matrix(TensorRole.LinearB, layer),
        A = weights.Matrix(TensorRole.LinearA, layer),
        Output = weights.Matrix(TensorRole.LinearOutput, layer),
        Conv = weights.Vector(TensorRole.LinearConv, layer),
        Decay = weights.Vector(TensorRole.LinearDecay, layer),
        DtBias = weights.Vector(TensorRole.LinearDtBias, layer),
        Norm = weights.Vector(TensorRole.LinearNorm, layer),
    };

    private MlpLayer Mlp(int layer, TensorRole gate, TensorRole up, TensorRole down, int expert = -1) =>
        new(weights.Matrix(gate, layer, expert), weights.Matrix(up, layer, expert), weights.Matrix(down, layer, expert));

    private ExpertLayer Experts(int layer)
    {
        var experts = new MlpLayer[Config.ExpertCount];
        for (int expert = 0; expert < experts.Length; expert++)
            experts[expert] = Mlp(layer, TensorRole.ExpertGate, TensorRole.ExpertUp, TensorRole.ExpertDown, expert);
        return new ExpertLayer
        {
            Router = weights.Matrix(TensorRole.RouterGate, layer),
            Experts = experts,
            Shared = Mlp(layer, TensorRole.SharedGate, TensorRole.SharedUp, TensorRole.SharedDown),
            SharedGate = weights.Matrix(TensorRole.SharedExpertGate, layer),
        };
    }
}
