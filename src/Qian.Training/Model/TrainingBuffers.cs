using Qian.Inference;
using Qian.Kernels;

namespace Qian.Training.Model;

// Everything that a pass writes besides weights and gradients, taken from one arena; over a counting arena it says what a pass
// of these sizes will take.
internal sealed class TrainingBuffers
{
    public TrainingBuffers(FloatArena arena, ModelConfig config, TrainingModelOptions options, bool mtp, AdapterSizes? adapter = null)
    {
        // First, while the arena is empty: its parts overlap.
        Scratch = new TrainingScratch(arena, config, options.MaxRows);
        long count = (long)options.MaxRows * config.HiddenSize;
        Residual = arena.Take(count);
        DResidual = arena.Take(count);
        Hidden = arena.Take(count);
        DHidden = arena.Take(count);
        Head = new HeadBuffers(arena, config, options);
        Adapter = adapter is { } sizes ? new AdapterBuffers(arena, sizes, options.MaxRows) : null;

        LayerSections? attention = null, deltaNet = null;
        Layers = new LayerActivations[config.LayerCount];
        for (int i = 0; i < Layers.Length; i++)
            Layers[i] = Layer(config.FullAttentionLayers[i]);
        if (mtp)
            Mtp = new MtpBuffers(arena, config, options, Layer(fullAttention: true));

        LayerActivations Layer(bool fullAttention)
        {
            if (!options.Recompute)
                return new LayerActivations(arena, config, options.MaxRows, new LayerSections(arena, config, options, fullAttention));
            ref LayerSections? shared = ref fullAttention ? ref attention : ref deltaNet;
            shared ??= new LayerSections(arena, config, options, fullAttention);
            return new LayerActivations(arena, config, options.MaxRows, shared);
        }
    }

    public TrainingScratch Scratch { get; }

    public FloatView Residual { get; }     // [T, hidden]: the stream; after the forward pass, what the final norm takes

    public FloatView DResidual { get; }    // [T, hidden]

    public FloatView Hidden { get; }       // [T, hidden], after the final norm

    public FloatView DHidden { get; }      // [T, hidden]

    public HeadBuffers Head { get; }

    public AdapterBuffers? Adapter { get; }    // over a frozen base

    public LayerActivations[] Layers { get; }

    public MtpBuffers? Mtp { get; }
}

// One chunk of the output head: rows that have a label.
internal sealed class HeadBuffers
{
    // Logits of one chunk: 256 MiB at most, however large the vocabulary is.
    private const long MostLogits = 64L << 20;
    private const int MostChunkRows = 1024;

    public HeadBuffers(FloatArena arena, ModelConfig config, TrainingModelOptions options)
    {
        ChunkRows = (int)Math.Clamp(MostLogits / config.VocabularySize, 1, Math.Min(MostChunkRows, options.MaxRows));
        Logits = arena.Take((long)ChunkRows * config.VocabularySize);
        Input = arena.Take((long)ChunkRows * config.HiddenSize);
        DInput = arena.Take((long)ChunkRows * config.HiddenSize);
        RowLoss = arena.Take(ChunkRows);
        RowIndices = new int[ChunkRows];
        Labels = new int[ChunkRows];
    }

    public int ChunkRows { get; }

    public FloatView Logits { get; }     // [chunk, vocabulary], then their gradient

    public FloatView Input { get; }      // [chunk, hidden]

    public FloatView DInput { get; }     // [chunk, hidden]

    public FloatView RowLoss { get; }    // [chunk]

    public int[] RowIndices { get; }

    public int[] Labels { get; }
}

internal sealed class MtpBuffers(FloatArena arena, ModelConfig config, TrainingModelOptions options, LayerActivations layer)
{
    public FloatView Embedded { get; } = arena.Take((long)options.MaxRows * config.HiddenSize);     // of the next tokens

    public FloatView Residual { get; } = arena.Take((long)options.MaxRows * config.HiddenSize);

    public FloatView Hidden { get; } = arena.Take((long)options.MaxRows * config.HiddenSize);       // after the block's own norm

    public FloatView DResidual { get; } = arena.Take((long)options.MaxRows * config.HiddenSize);

    public FloatView DEmbedded { get; } = arena.Take((long)options.MaxRows * config.HiddenSize);

    public LayerActivations Layer { get; } = layer;

    public int[] NextIds { get; } = new int[options.MaxRows];

    public int[] Labels { get; } = new int[options.MaxRows];
}
