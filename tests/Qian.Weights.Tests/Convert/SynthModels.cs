using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Weights.Tests;

// Small models of random weights to convert: rows of whole 256-value blocks, three value heads per key head (so their order shows).
internal static class SynthModels
{
    public static string Write(TestFolder folder, string name, string shape = "tiny", string mix = "BF16", bool withMtp = true, bool tied = false)
    {
        SynthRequest request = SynthRequest(shape, mix) with { WithMtp = withMtp };
        SynthWriter.Write(folder.File(name), request with { Shape = request.Shape with { TiedEmbeddings = tied } }, null, default);
        return folder.File(name);
    }

    public static SynthRequest SynthRequest(string shape, string mix) => new()
    {
        Shape = SynthShape.Find(shape),
        Mix = QuantMix.Find(mix),
        Seed = 11,
        ChatTemplate = "{{ messages[0].content }}",
        ThreadCount = 2,
    };

    public static ConversionRequest Request(string input, string output, string mix) => new() { InputPath = input, OutputPath = output, Mix = QuantMix.Find(mix), ThreadCount = 2 };

    public static ConversionResult Convert(ConversionRequest request, CancellationToken cancellation = default)
    {
        using ModelConversion conversion = ModelConversion.Prepare(request);
        return conversion.Write(null, cancellation);
    }

    // Every tensor of a checkpoint, in the order in which Hugging Face keeps value heads.
    public static Dictionary<string, float[]> Values(string path)
    {
        using Checkpoint checkpoint = Checkpoint.Open(path);
        ModelConfig config = checkpoint.Config;
        ValueHeadMove move = ValueHeadMove.ToHuggingFace(config);
        var values = new Dictionary<string, float[]>();
        for (int layer = -1; layer < config.LayerCount + config.MtpLayerCount; layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (!TensorShapes.Occurs(config, role, layer) || (role == TensorRole.Output && config.TiedEmbeddings))
                    continue;
                for (int expert = 0; expert < (TensorShapes.IsExpert(role) ? config.ExpertCount : 1); expert++)
                    values.Add($"{role} {layer} {expert}", Values(checkpoint.Require(role, layer, expert), role, move));
            }
        }

        return values;
    }

    private static float[] Values(TensorSource source, TensorRole role, ValueHeadMove move)
    {
        var values = new float[source.RowCount * source.ColumnCount];
        var stored = new float[source.ColumnCount];
        for (int row = 0; row < source.RowCount; row++)
        {
            source.DecodeRows(move.SourceRow(role, row), 1, stored);
            move.Reorder(role, stored, values.AsSpan(row * source.ColumnCount, source.ColumnCount));
        }

        return values;
    }
}
