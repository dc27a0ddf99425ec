using System.Buffers;
using System.Text;
using System.Text.Json;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// Writes an adapter as a folder that PEFT loads: adapter_config.json (its fields and spellings, sorted as it sorts them) and
// adapter_model.safetensors. Both files are whole before either takes its name.
internal static class PeftWriter
{
    // The text model inside the multimodal class, which is what the family's checkpoints are; "model." for the text class alone.
    public const string MultimodalPrefix = "model.language_model.";
    public const string TextPrefix = "model.";

    // `type` F32 or BF16.
    public static void Write(AdapterWeights adapter, ModelConfig config, string folder, SafetensorsType type = SafetensorsType.F32, string prefix = MultimodalPrefix)
    {
        WeightType stored = type.AsWeightType() ?? throw new ArgumentOutOfRangeException(nameof(type), type, "adapters are stored as floats");
        Directory.CreateDirectory(folder);
        using var configFile = new PartialFile(Path.Combine(folder, PeftAdapter.ConfigName));
        using SafetensorsWriter weights = SafetensorsWriter.ToFile(Path.Combine(folder, PeftAdapter.WeightsName));
        foreach (AdapterTarget target in adapter.Targets)
        {
            string module = PeftAdapter.Root + AdapterNames.Module(config, prefix, target.Role, target.Layer);
            weights.Declare($"{module}.lora_A.weight", type, target.Rank, target.InputCount);
            weights.Declare($"{module}.lora_B.weight", type, target.OutputCount, target.Rank);
        }

        foreach (AdapterTarget target in adapter.Targets)
        {
            weights.Write(Encode(stored, target.A));
            weights.Write(Encode(stored, target.B));
        }

        configFile.Write(Config(adapter, config, prefix));
        weights.Complete();
        configFile.Commit();
    }

    private static byte[] Encode(WeightType type, float[] values)
    {
        var bytes = new byte[WeightFormat.RowBytes(type, values.Length)];
        WeightFormat.Encode(type, values, bytes);
        return bytes;
    }

    private static ReadOnlySpan<byte> Config(AdapterWeights adapter, ModelConfig config, string prefix)
    {
        int rank = Commonest(adapter.Targets.Select(target => target.Rank));
        double alpha = Commonest(adapter.Targets.Select(target => target.Alpha));
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            json.WriteStartObject();
            WritePattern(json, "alpha_pattern", adapter.Targets.Where(target => target.Alpha != alpha), target => target.Alpha);
            json.WriteNull("auto_mapping");
            json.WriteString("base_model_name_or_path", adapter.BaseModel ?? config.Name);
            json.WriteString("bias", "none");
            json.WriteBoolean("fan_in_fan_out", false);
            json.WriteBoolean("inference_mode", true);
            json.WriteBoolean("init_lora_weights", true);
            json.WriteNull("layer_replication");
            json.WriteNull("layers_pattern");
            json.WriteNull("layers_to_transform");
            json.WriteStartObject("loftq_config");
            json.WriteEndObject();
            json.WriteNumber("lora_alpha", alpha);
            json.WriteNumber("lora_dropout", adapter.Dropout);
            json.WriteNull("megatron_config");
            json.WriteString("megatron_core", "megatron.core");
            json.WriteNull("modules_to_save");
            json.WriteString("peft_type", "LORA");
            json.WriteNumber("r", rank);
            WritePattern(json, "rank_pattern", adapter.Targets.Where(target => target.Rank != rank), target => target.Rank);
            json.WriteNull("revision");
            json.WriteStartArray("target_modules");
            foreach (string module in TargetModules(adapter, config, prefix))
                json.WriteStringValue(module);
            json.WriteEndArray();
            json.WriteString("task_type", "CAUSAL_LM");
            json.WriteBoolean("use_dora", false);
            json.WriteBoolean("use_rslora", adapter.UsesRsLora);
            json.WriteEndObject();
        }

        buffer.Write(Encoding.UTF8.GetBytes("\n"));
        return buffer.WrittenSpan;

        void WritePattern(Utf8JsonWriter json, string name, IEnumerable<AdapterTarget> targets, Func<AdapterTarget, double> value)
        {
            json.WriteStartObject(name);
            foreach (AdapterTarget target in targets)
                json.WriteNumber(AdapterNames.Module(config, prefix, target.Role, target.Layer), value(target));
            json.WriteEndObject();
        }
    }

    // A projection by its short name where the adapter has it in every layer of the trunk that has it, else by whole paths: PEFT
    // makes a pair for everything that a name matches.
    private static IEnumerable<string> TargetModules(AdapterWeights adapter, ModelConfig config, string prefix)
    {
        foreach (IGrouping<TensorRole, AdapterTarget> group in adapter.Targets.GroupBy(target => target.Role).OrderBy(group => group.Key))
        {
            int present = group.Count(target => target.Layer < config.LayerCount), possible = 0;
            for (int layer = -1; layer < config.LayerCount; layer++)
                possible += TensorShapes.Occurs(config, group.Key, layer) ? 1 : 0;
            if (present == possible)
            {
                yield return AdapterNames.ShortModule(group.Key);
                continue;
            }

            foreach (AdapterTarget target in group)
                yield return AdapterNames.Module(config, prefix, target.Role, target.Layer);
        }
    }

    private static T Commonest<T>(IEnumerable<T> values) where T : notnull => values.CountBy(value => value).MaxBy(pair => pair.Value).Key;
}
