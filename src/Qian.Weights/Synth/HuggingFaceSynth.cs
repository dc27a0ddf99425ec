using System.Text;
using System.Text.Json.Nodes;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// A made-up model as a Hugging Face folder: safetensors with the names, shapes and shards of a published checkpoint (text part
// only), config.json, generation_config.json, the tokenizer and the template. Until the last tensor is written the folder holds
// partial files only, which go when something interrupts.
internal static class HuggingFaceSynth
{
    private const long MostShardBytes = 5_000_000_000;

    // Returns the size of all files.
    public static long Write(string path, SynthPlan plan, IProgress<SynthProgress>? progress, CancellationToken cancellation)
    {
        (WeightType type, SafetensorsType stored) = plan.Request.Mix.Default switch
        {
            WeightType.F32 => (WeightType.F32, SafetensorsType.F32),
            WeightType.F16 => (WeightType.F16, SafetensorsType.F16),
            WeightType.BF16 => (WeightType.BF16, SafetensorsType.BF16),
            _ => throw new BadRequestException($"a Hugging Face folder holds BF16, F16 or F32, not {plan.Request.Mix.Name}; name a .gguf file to write that type"),
        };
        var chunks = new List<Chunk>();
        var entries = new List<(string Name, long[] Sizes)>();
        foreach (SynthTensor tensor in plan.Tensors)
            AddTensor(plan, tensor, type, entries, chunks);
        var texts = new Dictionary<string, byte[]>
        {
            ["config.json"] = Json(HuggingFaceText.Config(plan.Config, plan.Tokenizer)),
            ["generation_config.json"] = Json(HuggingFaceText.GenerationConfig(plan.Tokenizer)),
            ["tokenizer.json"] = Json(HuggingFaceText.Tokenizer(plan.Tokenizer)),
            ["tokenizer_config.json"] = Json(HuggingFaceText.TokenizerConfig(plan.Tokenizer)),
            ["chat_template.jinja"] = Encoding.UTF8.GetBytes(plan.Request.ChatTemplate),
        };
        long tensorBytes = chunks.Sum(chunk => (long)chunk.ByteCount);
        SynthWriter.CheckRoom(path, tensorBytes + texts.Values.Sum(text => (long)text.Length) + 128L * entries.Count);

        bool created = !Directory.Exists(path);
        Directory.CreateDirectory(path);
        var files = new List<PartialFile>();
        bool whole = false;
        try
        {
            using (var writer = SafetensorsWriter.ToFolder(path, MostShardBytes))
            {
                foreach ((string name, long[] sizes) in entries)
                    writer.Declare(name, stored, sizes);
                long doneBytes = 0;
                new ChunkPipeline(chunks, plan.Request.ThreadCount).Run(
                    (chunk, bytes) =>
                    {
                        writer.Write(bytes.Span);
                        doneBytes += chunk.ByteCount;
                        progress?.Report(new SynthProgress(doneBytes, tensorBytes, chunk.TensorName));
                    },
                    cancellation);
                foreach ((string name, byte[] text) in texts)
                {
                    files.Add(new PartialFile(Path.Combine(path, name)));
                    files[^1].Write(text);
                }

                DeleteOldWeights(path);
                writer.Complete();
            }

            foreach (PartialFile file in files)
                file.Commit();
            whole = true;
        }
        finally
        {
            foreach (PartialFile file in files)
                file.Dispose();
            if (!whole && created && !Directory.EnumerateFileSystemEntries(path).Any())
                Directory.Delete(path);
        }

        return new DirectoryInfo(path).EnumerateFiles().Where(file => texts.ContainsKey(file.Name) || IsWeights(file.Name)).Sum(file => file.Length);
    }

    // Shards of another count would be taken for this model's.
    private static void DeleteOldWeights(string path)
    {
        foreach (string file in Directory.EnumerateFiles(path).Where(file => IsWeights(Path.GetFileName(file))).ToList())
            File.Delete(file);
    }

    private static bool IsWeights(string name) => name == "model.safetensors.index.json"
        || (name.StartsWith("model", StringComparison.Ordinal) && name.EndsWith(".safetensors", StringComparison.Ordinal));

    private static byte[] Json(JsonNode node) => Encoding.UTF8.GetBytes(node.ToJsonString(HuggingFaceText.Indented) + "\n");

    private static void AddTensor(SynthPlan plan, SynthTensor tensor, WeightType type, List<(string Name, long[] Sizes)> entries, List<Chunk> chunks)
    {
        if (tensor.Role == TensorRole.ExpertUp)
            return; // its rows stand in the gate's tensor
        if (tensor.Role == TensorRole.ExpertGate)
            tensor = tensor with { Rows = 2 * tensor.Rows };
        string name = HuggingFaceText.TensorName(tensor.Role, tensor.Layer, plan.Config);
        entries.Add((name, tensor.Role switch
        {
            TensorRole.LinearConv => [tensor.Rows, 1, tensor.Columns],
            _ when TensorShapes.IsVector(tensor.Role) => [tensor.Columns],
            _ when TensorShapes.IsExpert(tensor.Role) => [tensor.ExpertCount, tensor.Rows, tensor.Columns],
            _ => [tensor.Rows, tensor.Columns],
        }));
        if (TensorShapes.IsVector(tensor.Role))
        {
            float[] values = tensor.Vector(plan.Key(tensor, 0), zeroCentred: true, logDecay: true);
            var bytes = new byte[WeightFormat.RowBytes(type, values.Length)];
            WeightFormat.Encode(type, values, bytes);
            chunks.Add(new GivenChunk(name, bytes));
        }
        else
        {
            plan.AddChunks(chunks, name, tensor, type);
        }
    }
}
