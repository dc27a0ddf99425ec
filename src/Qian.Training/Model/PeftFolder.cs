using System.Buffers;
using System.Text.Json;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Training.Model;

// Writes an adapter as PEFT reads it: adapter_config.json and adapter_model.safetensors, tensors named after the base's modules
// in Hugging Face's spelling and order of value heads, whatever format the base was read from.
internal static class PeftFolder
{
    private const string Prefix = "base_model.model.";
    private const string GgufLayers = "model.language_model.layers.";

    // The module as PEFT names it: the base tensor's name without ".weight", behind PEFT's own prefix.
    public static string ModuleName(Checkpoint checkpoint, TensorRole role, int layer)
    {
        string tensor = checkpoint is HuggingFaceCheckpoint
            ? checkpoint.Require(role, layer).Name
            : $"{GgufLayers}{layer}.{TensorNames.HuggingFaceSuffix(role)}";
        return Prefix + tensor[..^".weight".Length];
    }

    public static void Save(Checkpoint checkpoint, LoraOptions options, IReadOnlyList<Adapter> adapters, string folder, SavedType type)
    {
        Directory.CreateDirectory(folder);
        SafetensorsType stored = type == SavedType.BF16 ? SafetensorsType.BF16 : SafetensorsType.F32;
        using (SafetensorsWriter writer = SafetensorsWriter.ToFile(Path.Combine(folder, "adapter_model.safetensors")))
        {
            foreach (Adapter adapter in adapters)
            {
                writer.Declare(adapter.A.Name, stored, adapter.A.Sizes);
                writer.Declare(adapter.B.Name, stored, adapter.B.Sizes);
            }

            foreach (Adapter adapter in adapters)
            {
                Write(writer, adapter.A, stored, ColumnPlaces(checkpoint, adapter), null);
                Write(writer, adapter.B, stored, null, RowPlaces(checkpoint, adapter));
            }

            writer.Complete();
        }

        using var config = new PartialFile(Path.Combine(folder, "adapter_config.json"));
        config.Write(Config(checkpoint, options));
        config.Commit();
    }

    private static void Write(SafetensorsWriter writer, Parameter parameter, SafetensorsType type, int[]? columnPlaces, int[]? rowPlaces)
    {
        if (columnPlaces is null && rowPlaces is null)
        {
            HuggingFaceFolder.WriteValues(writer, parameter.Value, type);
            return;
        }

        using NativeBuffer ordered = NativeBuffer.AllocateFloats(parameter.Length);
        for (int row = 0; row < parameter.Rows; row++)
        {
            Span<float> from = parameter.Value.Slice((long)row * parameter.Columns, parameter.Columns).Span;
            Span<float> to = ordered.Floats((long)(rowPlaces?[row] ?? row) * parameter.Columns, parameter.Columns).Span;
            for (int column = 0; column < from.Length; column++)
                to[columnPlaces?[column] ?? column] = from[column];
        }

        HuggingFaceFolder.WriteValues(writer, ordered.AllFloats, type);
    }

    // Where each of our rows of B stands in Hugging Face's order of value heads; null when it is the same.
    private static int[]? RowPlaces(Checkpoint checkpoint, Adapter adapter)
    {
        if (!checkpoint.Config.ValueHeadsInterleaved || adapter.Role is not (TensorRole.LinearQkv or TensorRole.LinearZ or TensorRole.LinearA or TensorRole.LinearB))
            return null;
        var order = new ValueHeadOrder(checkpoint.Config with { ValueHeadsInterleaved = false });
        var places = new int[adapter.B.Rows];
        for (int row = 0; row < places.Length; row++)
            places[row] = order.SourceRow(adapter.Role, row);
        return places;
    }

    private static int[]? ColumnPlaces(Checkpoint checkpoint, Adapter adapter)
    {
        if (!checkpoint.Config.ValueHeadsInterleaved || adapter.Role != TensorRole.LinearOutput)
            return null;
        // The order works on values: what it does to the numbers 0, 1, 2 … is where each came from.
        var numbers = new float[adapter.A.Columns];
        for (int i = 0; i < numbers.Length; i++)
            numbers[i] = i;
        var moved = new float[numbers.Length];
        new ValueHeadOrder(checkpoint.Config with { ValueHeadsInterleaved = false }).Reorder(adapter.Role, numbers, moved);
        return Array.ConvertAll(moved, value => (int)value);
    }

    private static ReadOnlySpan<byte> Config(Checkpoint checkpoint, LoraOptions options)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, NewLine = "\n" }))
        {
            json.WriteStartObject();
            json.WriteNull("auto_mapping");
            json.WriteString("base_model_name_or_path", checkpoint.Config.Name);
            json.WriteString("bias", "none");
            json.WriteBoolean("fan_in_fan_out", false);
            json.WriteBoolean("inference_mode", true);
            json.WriteBoolean("init_lora_weights", true);
            json.WriteNumber("lora_alpha", options.Alpha);
            json.WriteNumber("lora_dropout", options.Dropout);
            json.WriteNull("modules_to_save");
            json.WriteString("peft_type", "LORA");
            json.WriteNumber("r", options.Rank);
            json.WriteStartArray("target_modules");
            foreach (string target in options.Targets)
                json.WriteStringValue(target);
            json.WriteEndArray();
            json.WriteString("task_type", "CAUSAL_LM");
            json.WriteBoolean("use_dora", false);
            json.WriteBoolean("use_rslora", options.UseRsLora);
            json.WriteEndObject();
        }

        return buffer.WrittenSpan;
    }
}
