using System.Globalization;
using Qian.Inference;

namespace Qian.Weights;

// The sizes of the published models, plus two tiny ones, as data: what a file of random weights is made like. What all models of
// the family share are the defaults of the record; a row names only what differs. Never consulted when a file is read.
internal sealed record SynthShape(string Name, string Title, int HiddenSize, int LayerCount, int AttentionHeads, int KvHeads, int LinearValueHeads)
{
    public static IReadOnlyList<SynthShape> All { get; } =
    [
        new("qwen3.6-27b", "Qwen3.6-27B", 5120, 64, 24, 4, 48) { IntermediateSize = 17408 },
        new("qwen3.5-9b", "Qwen3.5-9B", 4096, 32, 16, 4, 32) { IntermediateSize = 12288 },
        new("qwen3.5-4b", "Qwen3.5-4B", 2560, 32, 16, 4, 32) { IntermediateSize = 9216, TiedEmbeddings = true },
        new("qwen3.5-0.8b", "Qwen3.5-0.8B", 1024, 24, 8, 2, 16) { IntermediateSize = 3584, TiedEmbeddings = true },
        new("qwen3.6-35b-a3b", "Qwen3.6-35B-A3B", 2048, 40, 16, 2, 32)
        {
            ExpertCount = 256, ExpertsPerToken = 8, ExpertIntermediateSize = 512, SharedExpertIntermediateSize = 512,
        },
        // Rows of whole 256-value blocks, so that every weight type fits every matrix.
        new("tiny", "Tiny", 256, 4, 6, 2, 12)
        {
            IntermediateSize = 768, VocabularySize = 512, HeadDim = 128, RotaryDim = 32, RopeSections = [6, 5, 5],
            LinearKeyHeads = 4, LinearKeyDim = 64, LinearValueDim = 64,
        },
        new("tiny-moe", "Tiny-MoE", 256, 4, 6, 2, 12)
        {
            ExpertCount = 16, ExpertsPerToken = 4, ExpertIntermediateSize = 256, SharedExpertIntermediateSize = 256,
            VocabularySize = 512, HeadDim = 128, RotaryDim = 32, RopeSections = [6, 5, 5],
            LinearKeyHeads = 4, LinearKeyDim = 64, LinearValueDim = 64,
        },
    ];

    public int IntermediateSize { get; init; }

    public bool TiedEmbeddings { get; init; }

    public int VocabularySize { get; init; } = 248320;

    public int HeadDim { get; init; } = 256;

    public int RotaryDim { get; init; } = 64;

    public IReadOnlyList<int> RopeSections { get; init; } = [11, 11, 10];

    public int LinearKeyHeads { get; init; } = 16;

    public int LinearKeyDim { get; init; } = 128;

    public int LinearValueDim { get; init; } = 128;

    public int FullAttentionInterval { get; init; } = 4;

    public int ExpertCount { get; init; }

    public int ExpertsPerToken { get; init; }

    public int ExpertIntermediateSize { get; init; }

    public int SharedExpertIntermediateSize { get; init; }

    // A name, or its end where that names one shape alone: 27b, 9b; null when there is none.
    public static SynthShape? FindShort(string name)
    {
        SynthShape[] found = [.. All.Where(shape => shape.Name.Equals(name, StringComparison.OrdinalIgnoreCase) || shape.Name.EndsWith("-" + name, StringComparison.OrdinalIgnoreCase))];
        return found.FirstOrDefault(shape => shape.Name.Equals(name, StringComparison.OrdinalIgnoreCase)) ?? (found.Length == 1 ? found[0] : null);
    }

    // By name, in any case; the error lists what exists.
    public static SynthShape Find(string name)
    {
        foreach (SynthShape shape in All)
        {
            if (shape.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
                return shape;
        }

        throw new BadRequestException($"there is no shape '{name}'; known are {string.Join(", ", All.Select(shape => shape.Name))}");
    }

    // `layerCount`: the first so many layers; null for all. `vocabularySize`: rows of the embedding.
    public ModelConfig ToConfig(int? layerCount, bool withMtp, int vocabularySize)
    {
        int count = layerCount ?? LayerCount;
        if (count < 1 || count > LayerCount)
            throw new BadRequestException(string.Create(CultureInfo.InvariantCulture, $"{Name} has {LayerCount} layers; {count} of them cannot be written"));
        bool[] full = new bool[count];
        for (int layer = 0; layer < count; layer++)
            full[layer] = (layer + 1) % FullAttentionInterval == 0;
        return new ModelConfig
        {
            Architecture = ExpertCount > 0 ? "qwen35moe" : "qwen35",
            Name = $"{Title} random weights",
            HiddenSize = HiddenSize,
            LayerCount = count,
            IntermediateSize = IntermediateSize,
            VocabularySize = vocabularySize,
            TiedEmbeddings = TiedEmbeddings,
            FullAttentionLayers = full,
            AttentionHeads = AttentionHeads,
            KvHeads = KvHeads,
            HeadDim = HeadDim,
            RotaryDim = RotaryDim,
            RopeTheta = 1e7,
            RopeSections = RopeSections,
            ContextLength = 262144,
            NormEpsilon = 1e-6f,
            LinearKeyHeads = LinearKeyHeads,
            LinearValueHeads = LinearValueHeads,
            LinearKeyDim = LinearKeyDim,
            LinearValueDim = LinearValueDim,
            ConvKernel = 4,
            MtpLayerCount = withMtp ? 1 : 0,
            ExpertCount = ExpertCount,
            ExpertsPerToken = ExpertsPerToken,
            ExpertIntermediateSize = ExpertIntermediateSize,
            SharedExpertIntermediateSize = SharedExpertIntermediateSize,
        };
    }
}
