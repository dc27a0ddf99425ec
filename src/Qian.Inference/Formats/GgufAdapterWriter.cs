using Qian.Kernels;

namespace Qian.Inference.Formats;

// Writes an adapter as llama.cpp reads it (see GgufAdapter): value heads in GGUF's order, and one alpha for all. The scale is
// then alpha / rank, so rsLoRA's is said by another alpha; a pair whose scale the one alpha cannot say has the rest in its B.
internal static class GgufAdapterWriter
{
    // `type` F32 or F16.
    public static void Write(AdapterWeights adapter, ModelConfig config, string path, WeightType type = WeightType.F32)
    {
        if (type is not (WeightType.F32 or WeightType.F16))
            throw new ArgumentOutOfRangeException(nameof(type), type, "adapters are stored as F32 or F16");
        double alpha = Alpha(adapter);
        using var writer = new GgufWriter(path);
        writer.Add("general.architecture", config.Architecture);
        writer.Add(GgufAdapter.TypeKey, "adapter");
        writer.Add("general.name", adapter.Name);
        if (adapter.BaseModel is { Length: > 0 } baseModel)
        {
            writer.Add("general.base_model.count", 1u);
            writer.Add("general.base_model.0.name", baseModel);
        }

        writer.Add("general.file_type", type == WeightType.F32 ? 0u : 1u);
        writer.Add(GgufAdapter.AdapterTypeKey, "lora");
        writer.Add(GgufAdapter.AlphaKey, (float)alpha);
        foreach (AdapterTarget target in adapter.Targets)
        {
            string name = TensorNames.Gguf(target.Role, target.Layer);
            writer.Declare(name + GgufAdapter.EndingA, type, target.InputCount, target.Rank);
            writer.Declare(name + GgufAdapter.EndingB, type, target.Rank, target.OutputCount);
        }

        foreach (AdapterTarget target in adapter.Targets)
        {
            AdapterTarget ordered = AdapterOrder.ToGguf(config, target);
            writer.Write(Encode(type, ordered.A, 1));
            writer.Write(Encode(type, ordered.B, adapter.Scale(target) * target.Rank / alpha));
        }

        writer.Complete();
    }

    // As a float, which is what the file holds, so that what is left over for B is left over from that.
    private static double Alpha(AdapterWeights adapter)
    {
        foreach (AdapterTarget target in adapter.Targets)
        {
            if ((float)(adapter.Scale(target) * target.Rank) is var alpha && alpha != 0)
                return alpha;
        }

        return 1;
    }

    private static byte[] Encode(WeightType type, float[] values, double factor)
    {
        float[] scaled = Math.Abs(factor - 1) < 1e-7 ? values : Array.ConvertAll(values, value => (float)(value * factor));
        var bytes = new byte[WeightFormat.RowBytes(type, values.Length)];
        WeightFormat.Encode(type, scaled, bytes);
        return bytes;
    }
}
