using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// Which tensor gets which weight type in a file that is called, say, Q4_K_M. The names and the choices are those of llama.cpp's
// quantizer (checked against its full lists for the 27B without an importance matrix), stated per role and layer and so valid for
// any layer count: values and fused q/k/v get more bits, ffn_down does in some layers, the output head always.
// Not here: its exceptions for models of exactly 8 experts, which this family does not have.
internal sealed record QuantMix(string Name, WeightType Default, int FileType)
{
    // A few tensors take another type when the encoder knows which columns matter.
    public bool WithImportance { get; init; }

    public static IReadOnlyList<QuantMix> All { get; } =
    [
        new("F32", WeightType.F32, 0), new("F16", WeightType.F16, 1), new("BF16", WeightType.BF16, 32),
        new("Q8_0", WeightType.Q8_0, 7), new("Q4_0", WeightType.Q4_0, 2), new("Q4_1", WeightType.Q4_1, 3),
        new("Q5_0", WeightType.Q5_0, 8), new("Q5_1", WeightType.Q5_1, 9),
        new("Q2_K", WeightType.Q2_K, 10), new("Q2_K_S", WeightType.Q2_K, 21),
        new("Q3_K_S", WeightType.Q3_K, 11), new("Q3_K_M", WeightType.Q3_K, 12), new("Q3_K_L", WeightType.Q3_K, 13),
        new("Q4_K_S", WeightType.Q4_K, 14), new("Q4_K_M", WeightType.Q4_K, 15),
        new("Q5_K_S", WeightType.Q5_K, 16), new("Q5_K_M", WeightType.Q5_K, 17), new("Q6_K", WeightType.Q6_K, 18),
        new("IQ4_NL", WeightType.IQ4_NL, 25), new("IQ4_XS", WeightType.IQ4_XS, 30),
        new("IQ3_XXS", WeightType.IQ3_XXS, 23), new("IQ3_XS", WeightType.IQ3_S, 22), new("IQ3_S", WeightType.IQ3_S, 26), new("IQ3_M", WeightType.IQ3_S, 27),
        new("IQ2_XXS", WeightType.IQ2_XXS, 19), new("IQ2_XS", WeightType.IQ2_XS, 20), new("IQ2_S", WeightType.IQ2_XS, 28), new("IQ2_M", WeightType.IQ2_S, 29),
        new("IQ1_S", WeightType.IQ1_S, 24), new("IQ1_M", WeightType.IQ1_M, 31),
        new("MXFP4_MOE", WeightType.MXFP4, 38),
        // Not mixes of that quantizer: these types in every layer, of a dense model too.
        new("MXFP4", WeightType.MXFP4, 38), new("NVFP4", WeightType.NVFP4, 39),
    ];

    // Those that quantize writes; the others come from synth only.
    public static IEnumerable<QuantMix> Written => All.Where(mix => WeightFormat.CanEncode(mix.Default) && mix.Name != "NVFP4");

    // By name, in any case; the error lists those that are offered.
    public static QuantMix Find(string name, IEnumerable<QuantMix>? offered = null)
    {
        foreach (QuantMix mix in All)
        {
            if (mix.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
                return mix;
        }

        throw new BadRequestException($"there is no type '{name}'; known are {string.Join(", ", (offered ?? All).Select(mix => mix.Name))}");
    }

    // `layer` counts the MTP layer as one more block; `columnCount` is the row length, which must be whole blocks.
    public WeightType TypeOf(TensorRole role, int layer, int columnCount, ModelConfig config)
    {
        if (StaysFloat(role))
            return WeightType.F32;
        if (!WeightFormat.IsQuantized(Default))
            return Default;
        WeightType type = role == TensorRole.Output || (role == TensorRole.TokenEmbedding && config.TiedEmbeddings)
            ? OfOutput(columnCount)
            : OfMatrix(role, layer, config);
        return Fitting(type, columnCount);
    }

    // Vectors, the convolution's taps and what chooses experts are never quantized.
    private static bool StaysFloat(TensorRole role) =>
        TensorShapes.IsVector(role) || role is TensorRole.LinearConv or TensorRole.RouterGate or TensorRole.SharedExpertGate;

    private WeightType OfOutput(int columnCount)
    {
        if (Default is WeightType.MXFP4 or WeightType.NVFP4 or WeightType.Q8_0 || columnCount % WeightFormat.BlockValues(Default) != 0)
            return WeightType.Q8_0;
        return IsLowest || Name == "IQ3_XXS" ? WeightType.Q5_K : WeightType.Q6_K;
    }

    // Below three bits a different set of rules holds.
    private bool IsLowest => Name is "IQ2_XXS" or "IQ2_XS" or "IQ2_S" or "IQ2_M" or "IQ1_S" or "IQ1_M";

    private WeightType OfMatrix(TensorRole role, int layer, ModelConfig config)
    {
        if (Name == "MXFP4_MOE")
            return TensorShapes.IsExpert(role) ? WeightType.MXFP4 : WeightType.Q8_0;
        if (role == TensorRole.TokenEmbedding)
            return OfEmbedding();
        int layerCount = config.LayerCount + config.MtpLayerCount;
        bool widelyShared = config.AttentionHeads / config.KvHeads >= 4;
        return role switch
        {
            TensorRole.AttentionV or TensorRole.LinearQkv => IsLowest
                ? OfLowestValues(widelyShared || config.IsMoe)
                : OfValues(layer, layerCount, widelyShared),
            TensorRole.AttentionK or TensorRole.AttentionQ => Name switch
            {
                "IQ3_XS" => WeightType.IQ3_XXS,
                "IQ3_XXS" => WeightType.IQ2_S,
                _ => Default,
            },
            TensorRole.AttentionOutput => OfAttentionOutput(),
            TensorRole.FfnDown or TensorRole.ExpertDown or TensorRole.SharedDown => IsLowest
                ? OfLowestDown(config.IsMoe ? 2 * layer + (role == TensorRole.SharedDown ? 1 : 0) : layer, layerCount)
                : OfDown(layer, layerCount),
            TensorRole.FfnGate or TensorRole.ExpertGate or TensorRole.SharedGate or TensorRole.FfnUp or TensorRole.ExpertUp or TensorRole.SharedUp =>
                Name == "IQ3_XS" && layer >= layerCount / 8 && layer < 7 * layerCount / 8 ? WeightType.IQ3_XXS : Default,
            _ => Default,
        };
    }

    private WeightType OfEmbedding() => Name switch
    {
        "IQ2_XXS" or "IQ2_XS" or "IQ1_S" or "IQ1_M" => WeightType.Q2_K,
        "IQ2_S" or "IQ2_M" or "IQ3_XXS" => WeightType.IQ3_S,
        "MXFP4" or "NVFP4" => WeightType.Q8_0,
        _ => Default,
    };

    private WeightType OfValues(int layer, int layerCount, bool widelyShared) => Name switch
    {
        "Q2_K" => widelyShared ? WeightType.Q4_K : WeightType.Q3_K,
        "Q2_K_S" or "IQ3_XS" or "IQ3_S" when widelyShared => WeightType.Q4_K,
        "IQ3_XXS" => widelyShared ? WeightType.Q4_K : WithImportance ? WeightType.IQ3_XXS : WeightType.IQ3_S,
        "IQ3_M" => WeightType.Q4_K,
        "Q3_K_M" => layer < 2 ? WeightType.Q5_K : WeightType.Q4_K,
        "Q3_K_L" => WeightType.Q5_K,
        "IQ4_NL" or "IQ4_XS" when widelyShared => WeightType.Q5_K,
        "Q4_K_M" or "Q5_K_M" when IsSensitive(layer, layerCount) => WeightType.Q6_K,
        "Q4_K_S" when layer < 4 => WeightType.Q5_K,
        _ => Default,
    };

    private WeightType OfAttentionOutput() => Name switch
    {
        "Q2_K" => WeightType.Q3_K,
        "Q3_K_M" or "IQ3_M" => WeightType.Q4_K,
        "Q3_K_L" => WeightType.Q5_K,
        "IQ3_XXS" or "IQ2_S" or "IQ2_M" => WeightType.IQ3_S,
        "IQ1_S" or "IQ1_M" => WeightType.IQ2_XXS,
        _ => Default,
    };

    private WeightType OfDown(int layer, int layerCount)
    {
        bool early = layer < layerCount / 8;
        return Name switch
        {
            "Q2_K" => WeightType.Q3_K,
            "Q2_K_S" or "IQ3_M" when early => WeightType.Q4_K,
            "IQ3_XXS" when !WithImportance => early ? WeightType.Q4_K : WeightType.Q3_K,
            "Q3_K_M" => layer < layerCount / 16 ? WeightType.Q5_K : WeightType.Q4_K,
            "Q3_K_L" => WeightType.Q5_K,
            "Q4_K_M" or "Q5_K_M" when IsSensitive(layer, layerCount) => WeightType.Q6_K,
            "Q4_K_S" when early => WeightType.Q5_K,
            "IQ4_NL" or "IQ4_XS" when early && !WithImportance => WeightType.Q5_K,
            "Q4_0" when early && WithImportance => WeightType.Q4_1,
            "Q5_0" when early && WithImportance => WeightType.Q5_1,
            _ => Default,
        };
    }

    private WeightType OfLowestValues(bool afford) => afford
        ? WeightType.Q4_K
        : Name is "IQ2_S" or "IQ2_M" ? WeightType.IQ3_S : WeightType.Q2_K;

    // Counts tensors, not layers: a MoE layer has two of the kind, so the rule reaches half as many layers there.
    private WeightType OfLowestDown(int tensorIndex, int layerCount)
    {
        if (tensorIndex >= layerCount / 8)
            return Default;
        return Name is "IQ2_S" or "IQ2_M" ? WeightType.IQ3_S : WeightType.Q2_K;
    }

    // The first and last eighth of the layers and every third between.
    private static bool IsSensitive(int layer, int layerCount) =>
        layer < layerCount / 8 || layer >= 7 * layerCount / 8 || (layer - layerCount / 8) % 3 == 2;

    // A row that is not whole blocks takes a type of about the same size with shorter blocks.
    private static WeightType Fitting(WeightType type, int columnCount)
    {
        if (columnCount % WeightFormat.BlockValues(type) == 0)
            return type;
        WeightType shorter = type switch
        {
            WeightType.Q2_K or WeightType.Q3_K => WeightType.Q4_0,
            WeightType.Q4_K => WeightType.Q5_0,
            WeightType.Q5_K => WeightType.Q5_1,
            WeightType.Q6_K => WeightType.Q8_0,
            _ => WeightType.IQ4_NL,
        };
        return columnCount % WeightFormat.BlockValues(shorter) == 0 ? shorter : WeightType.F16;
    }
}
