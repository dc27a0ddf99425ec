using Qian.Kernels;

namespace Qian.Inference;

/// <summary>
/// The shape of one network of the family, as read from a model file. Nothing here is assumed: a tiny model and the 27B
/// differ only in these numbers. Sources: model card config.json (<c>text_config</c>) and GGUF metadata.
/// </summary>
public sealed record ModelConfig
{
    /// <summary>GGUF architecture: <c>qwen35</c> (dense) or <c>qwen35moe</c>.</summary>
    public required string Architecture { get; init; }

    /// <summary>The checkpoint's name, as far as the file tells; picks the sampling preset.</summary>
    public string Name { get; init; } = "";

    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Trunk layers (an MTP layer is not counted).</summary>
    public required int LayerCount { get; init; }

    /// <summary>Width of the dense MLP; 0 in a MoE model.</summary>
    public int IntermediateSize { get; init; }

    /// <summary>Rows of the embedding and of the output head.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>True when the output head is the embedding matrix.</summary>
    public bool TiedEmbeddings { get; init; }

    /// <summary>Per trunk layer: true for gated attention, false for Gated DeltaNet.</summary>
    public required IReadOnlyList<bool> FullAttentionLayers { get; init; }

    /// <summary>Query heads of an attention layer.</summary>
    public required int AttentionHeads { get; init; }

    /// <summary>Key/value heads of an attention layer.</summary>
    public required int KvHeads { get; init; }

    /// <summary>Width of one attention head.</summary>
    public required int HeadDim { get; init; }

    /// <summary>Leading dimensions of a head that are rotated.</summary>
    public required int RotaryDim { get; init; }

    /// <summary>Rotary base.</summary>
    public required double RopeTheta { get; init; }

    /// <summary>Frequencies owned by the t, h and w positions (interleaved).</summary>
    public required IReadOnlyList<int> RopeSections { get; init; }

    /// <summary>YaRN scaling stored in the file, or null.</summary>
    public YarnScaling? Yarn { get; init; }

    /// <summary>Positions the model was trained for.</summary>
    public required int ContextLength { get; init; }

    /// <summary>Epsilon of every RMS norm.</summary>
    public required float NormEpsilon { get; init; }

    /// <summary>Key heads of a DeltaNet layer.</summary>
    public required int LinearKeyHeads { get; init; }

    /// <summary>Value heads of a DeltaNet layer; a multiple of <see cref="LinearKeyHeads"/>.</summary>
    public required int LinearValueHeads { get; init; }

    /// <summary>Width of one DeltaNet key head.</summary>
    public required int LinearKeyDim { get; init; }

    /// <summary>Width of one DeltaNet value head.</summary>
    public required int LinearValueDim { get; init; }

    /// <summary>Taps of the causal convolution.</summary>
    public required int ConvKernel { get; init; }

    /// <summary>
    /// Order of the value heads in the file: false as Hugging Face stores them (value head h belongs to key head h div r),
    /// true as GGUF does (h mod key heads).
    /// </summary>
    public bool ValueHeadsInterleaved { get; init; }

    /// <summary>MTP layers present in the file: 0 or 1.</summary>
    public int MtpLayerCount { get; init; }

    /// <summary>Experts of a MoE layer; 0 in a dense model.</summary>
    public int ExpertCount { get; init; }

    /// <summary>Experts chosen per token.</summary>
    public int ExpertsPerToken { get; init; }

    /// <summary>Width of one expert's MLP.</summary>
    public int ExpertIntermediateSize { get; init; }

    /// <summary>Width of the shared expert's MLP.</summary>
    public int SharedExpertIntermediateSize { get; init; }

    /// <summary>True for a mixture-of-experts model.</summary>
    public bool IsMoe => ExpertCount > 0;

    /// <summary>Channels of the DeltaNet convolution: q, k and v side by side.</summary>
    public int ConvChannels => 2 * LinearKeyHeads * LinearKeyDim + LinearValueHeads * LinearValueDim;

    /// <summary>Attention layers of the trunk.</summary>
    public int FullAttentionLayerCount
    {
        get
        {
            int count = 0;
            foreach (bool full in FullAttentionLayers)
                count += full ? 1 : 0;
            return count;
        }
    }
}
