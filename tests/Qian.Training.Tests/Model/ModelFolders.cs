using System.Runtime.CompilerServices;
using Qian.Inference.Formats;
using Qian.Inference.Verification;

namespace Qian.Training.Tests.Model;

// The small models with reference numbers that the tests train.
internal static class ModelFolders
{
    public static string Goldens { get; } = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(ThisFile())!, "..", "..", "data", "goldens"));

    public static string Dense => Path.Combine(Goldens, "text-dense-tiny");

    public static string Moe => Path.Combine(Goldens, "text-moe-tiny");

    public static string Mtp => Path.Combine(Goldens, "mtp-tiny");

    // The reference's prompt.
    public static int[] Prompt(string folder)
    {
        using GoldenTensors inputs = GoldenTensors.Open(Path.Combine(folder, "inputs.safetensors"));
        return inputs.Ids("input_ids");
    }

    public static float[] Reference(string folder, string name)
    {
        using GoldenTensors outputs = GoldenTensors.Open(Path.Combine(folder, "outputs.safetensors"));
        return outputs.Floats(name);
    }

    // Samples of the given lengths cut from the tokens, every row predicting the next.
    public static TrainingBatch Batch(ReadOnlySpan<int> tokens, params ReadOnlySpan<int> lengths)
    {
        var batch = new TrainingBatch(tokens.Length);
        int first = 0;
        foreach (int length in lengths)
        {
            int[] labels = [.. tokens.Slice(first + 1, length - 1), TrainingBatch.Ignored];
            batch.Add(tokens.Slice(first, length), labels);
            first += length;
        }

        return batch;
    }

    // A copy whose output head is the embedding: configuration and tensors without a head of their own.
    public static void WriteTied(string source, string folder)
    {
        string config = File.ReadAllText(Path.Combine(source, "config.json"));
        File.WriteAllText(Path.Combine(folder, "config.json"), config.Replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true", StringComparison.Ordinal));
        using SafetensorsSet tensors = SafetensorsSet.OpenFolder(source);
        using SafetensorsWriter writer = SafetensorsWriter.ToFolder(folder, long.MaxValue);
        SafetensorsTensor[] kept = [.. tensors.Tensors.Where(tensor => tensor.Name != "lm_head.weight")];
        foreach (SafetensorsTensor tensor in kept)
            writer.Declare(tensor.Name, tensor.Type, tensor.Sizes);
        foreach (SafetensorsTensor tensor in kept)
            writer.Write(tensor.Data.Span(0, (int)tensor.Data.Length));
        writer.Complete();
    }

    private static string ThisFile([CallerFilePath] string path = "") => path;
}
