using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Training.Model;

// A loaded layer's weights by role.
internal static class LayerLookup
{
    public static WeightMatrix Matrix(LayerWeights layer, TensorRole role, int expert) => role switch
    {
        TensorRole.AttentionQ => layer.Attention!.Q,
        TensorRole.AttentionK => layer.Attention!.K,
        TensorRole.AttentionV => layer.Attention!.V,
        TensorRole.AttentionOutput => layer.Attention!.Output,
        TensorRole.LinearQkv => layer.DeltaNet!.Qkv,
        TensorRole.LinearZ => layer.DeltaNet!.Z,
        TensorRole.LinearB => layer.DeltaNet!.B,
        TensorRole.LinearA => layer.DeltaNet!.A,
        TensorRole.LinearOutput => layer.DeltaNet!.Output,
        TensorRole.FfnGate => layer.Mlp!.Gate,
        TensorRole.FfnUp => layer.Mlp!.Up,
        TensorRole.FfnDown => layer.Mlp!.Down,
        TensorRole.RouterGate => layer.Moe!.Router,
        TensorRole.ExpertGate => layer.Moe!.Experts[expert].Gate,
        TensorRole.ExpertUp => layer.Moe!.Experts[expert].Up,
        TensorRole.ExpertDown => layer.Moe!.Experts[expert].Down,
        TensorRole.SharedGate => layer.Moe!.Shared.Gate,
        TensorRole.SharedUp => layer.Moe!.Shared.Up,
        TensorRole.SharedDown => layer.Moe!.Shared.Down,
        TensorRole.SharedExpertGate => layer.Moe!.SharedGate,
        _ => throw new ArgumentOutOfRangeException(nameof(role), role, "no matrix of a layer"),
    };

    public static FloatView Vector(LayerWeights layer, TensorRole role) => role switch
    {
        TensorRole.InputNorm => layer.InputNorm,
        TensorRole.PostAttentionNorm => layer.PostAttentionNorm,
        TensorRole.AttentionQNorm => layer.Attention!.QNorm,
        TensorRole.AttentionKNorm => layer.Attention!.KNorm,
        TensorRole.LinearConv => layer.DeltaNet!.Conv,
        TensorRole.LinearDecay => layer.DeltaNet!.Decay,
        TensorRole.LinearDtBias => layer.DeltaNet!.DtBias,
        TensorRole.LinearNorm => layer.DeltaNet!.Norm,
        _ => throw new ArgumentOutOfRangeException(nameof(role), role, "no vector of a layer"),
    };
}
