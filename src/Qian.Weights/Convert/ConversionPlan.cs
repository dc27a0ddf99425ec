using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// Which tensors a conversion writes, in which order and type: the mix first, then the rules, then what the rows allow. Everything
// that can be refused is refused here, before a byte is written.
internal static class ConversionPlan
{
    // In the order of the converter whose files everybody reads: head, final norm, embedding, then layer by layer.
    public static List<PlannedTensor> List(Checkpoint checkpoint, ConversionRequest request)
    {
        ModelConfig config = Config(checkpoint, request);
        var tensors = new List<PlannedTensor>();
        foreach (TensorRole role in (ReadOnlySpan<TensorRole>)[TensorRole.Output, TensorRole.OutputNorm, TensorRole.TokenEmbedding])
        {
            if (role != TensorRole.Output || !config.TiedEmbeddings)
                tensors.Add(Planned(checkpoint, request, config, role, -1));
        }

        for (int layer = 0; layer < config.LayerCount + config.MtpLayerCount; layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (!TensorShapes.IsLayerless(role) && TensorShapes.Occurs(config, role, layer))
                    tensors.Add(Planned(checkpoint, request, config, role, layer));
            }
        }

        foreach (TensorRule rule in request.Rules)
        {
            if (!tensors.Exists(tensor => !tensor.StaysFloat && rule.Matches(tensor.Name)))
                throw new BadRequestException($"--tensor {rule.Text}: no matrix has such a name; names are like {tensors.Find(tensor => tensor.Role is TensorRole.FfnDown or TensorRole.ExpertDown)!.Name}");
        }

        return tensors;
    }

    // Two bits and a little more: what is not spent where it counts is missed. The established quantizer refuses these too.
    public static bool NeedsImportance(WeightType type) => type is WeightType.IQ2_XXS or WeightType.IQ2_XS;

    // The shape of the model that is written.
    public static ModelConfig Config(Checkpoint checkpoint, ConversionRequest request) =>
        request.KeepMtp ? checkpoint.Config : checkpoint.Config with { MtpLayerCount = 0 };

    private static PlannedTensor Planned(Checkpoint checkpoint, ConversionRequest request, ModelConfig config, TensorRole role, int layer)
    {
        TensorSource[] sources = TensorShapes.IsExpert(role)
            ? [.. Enumerable.Range(0, config.ExpertCount).Select(expert => checkpoint.Require(role, layer, expert))]
            : [checkpoint.Require(role, layer)];
        var tensor = new PlannedTensor(TensorNames.Gguf(role, layer), role, layer, sources, WeightType.F32);
        if (tensor.StaysFloat)
            return tensor;
        WeightType type = request.Types?.TryGetValue(tensor.Name, out WeightType chosen) == true ? chosen : request.Mix.TypeOf(role, layer, tensor.ColumnCount, config);
        foreach (TensorRule rule in request.Rules)
        {
            if (!rule.Matches(tensor.Name))
                continue;
            type = rule.Type;
            if (tensor.ColumnCount % WeightFormat.BlockValues(type) != 0)
                throw new BadRequestException($"--tensor {rule.Text}: {tensor.Name} has rows of {tensor.ColumnCount} values, which are not whole {WeightFormat.Name(type)} blocks of {WeightFormat.BlockValues(type)}");
            break;
        }

        if (!WeightFormat.CanEncode(type) || type == WeightType.NVFP4)
            throw new BadRequestException($"--type {request.Mix.Name}: {tensor.Name} would be {WeightFormat.Name(type)}, which is read, not written; the smallest type that is written is IQ2_XXS");
        if (NeedsImportance(type) && request.Importance is null && !request.ImportanceFollows)
            throw new BadRequestException($"--type {request.Mix.Name}: {tensor.Name} would be {WeightFormat.Name(type)}, which is of no use unless the encoder knows which columns matter; give --importance FILE, or --calibrate TEXT to collect it");
        return tensor with { Type = type };
    }
}
