using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// A conversion's Hugging Face folder: float matrices under the published names, norms and decays back in the form that the format
// stores, vectors in F32 so that nothing of them is lost. From a folder the texts (tokenizer, template, configuration) are carried
// over; from a GGUF file they are written from what it holds. Only partial files exist until the last tensor is there.
internal static class FolderConversion
{
    private const long MostShardBytes = 5_000_000_000;
    private const long LongestText = 1L << 28;

    private static readonly string[] s_texts =
    [
        "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    ];

    public static void Write(Checkpoint checkpoint, ConversionRequest request, IReadOnlyList<PlannedTensor> tensors, ConversionJournal journal, Action<EncodedRows, bool> written, CancellationToken cancellation)
    {
        ModelConfig config = ConversionPlan.Config(checkpoint, request);
        Dictionary<string, byte[]> texts = Texts(checkpoint, config, request.Mix.Default);
        string folder = request.OutputPath;
        var files = new List<PartialFile>();
        try
        {
            using (SafetensorsWriter writer = SafetensorsWriter.ToFolder(folder, MostShardBytes, isKept: true))
            {
                List<Chunk> chunks = Declare(writer, checkpoint, config, request, tensors);
                JournaledTensors.Write(writer, chunks, journal, request.ThreadCount, written, cancellation);
                foreach ((string name, byte[] text) in texts)
                {
                    files.Add(new PartialFile(Path.Combine(folder, name)));
                    files[^1].Write(text);
                }

                DeleteOldWeights(folder);
                writer.Complete();
            }

            files.ForEach(file => file.Commit());
        }
        finally
        {
            files.ForEach(file => file.Dispose());
        }
    }

    // The types that the folder form holds; null for the others.
    public static SafetensorsType? Stored(WeightType type) => type switch
    {
        WeightType.F32 => SafetensorsType.F32,
        WeightType.F16 => SafetensorsType.F16,
        WeightType.BF16 => SafetensorsType.BF16,
        _ => null,
    };

    private static List<Chunk> Declare(SafetensorsWriter writer, Checkpoint checkpoint, ModelConfig config, ConversionRequest request, IReadOnlyList<PlannedTensor> tensors)
    {
        ValueHeadMove move = ValueHeadMove.ToHuggingFace(checkpoint.Config);
        var chunks = new List<Chunk>();
        foreach (PlannedTensor tensor in tensors)
        {
            if (tensor.Role == TensorRole.ExpertUp)
                continue; // its rows stand in the gate's tensor
            string name = HuggingFaceText.TensorName(tensor.Role, tensor.Layer, config);
            PlannedTensor? up = tensor.Role == TensorRole.ExpertGate ? tensors.First(other => other.Role == TensorRole.ExpertUp && other.Layer == tensor.Layer) : null;
            // What routes takes the folder's own type: only GGUF keeps it in F32.
            WeightType type = tensor.Role is TensorRole.RouterGate or TensorRole.SharedExpertGate ? request.Mix.Default : tensor.Type;
            if (up is not null && up.Type != tensor.Type)
                throw new BadRequestException($"{tensor.Name} and {up.Name} share a tensor in a Hugging Face folder; give them one type");
            int rows = tensor.RowCount;
            writer.Declare(name, Stored(type)!.Value, tensor.Role switch
            {
                TensorRole.LinearConv => [rows, 1, tensor.ColumnCount],
                TensorRole.SharedExpertGate => [1, tensor.ColumnCount],
                _ when TensorShapes.IsVector(tensor.Role) => [tensor.ColumnCount],
                _ when TensorShapes.IsExpert(tensor.Role) => [tensor.Sources.Count, up is null ? rows : 2 * rows, tensor.ColumnCount],
                _ => [rows, tensor.ColumnCount],
            });
            for (int i = 0; i < tensor.Sources.Count; i++)
            {
                new EncodedMatrix(name, tensor.Role, tensor.Sources[i], type, move, Importance: null, MapOf(tensor.Role), request.Fast).AddTo(chunks);
                if (up is not null)
                    new EncodedMatrix(name, TensorRole.ExpertUp, up.Sources[i], type, move, Importance: null, Map: null, request.Fast).AddTo(chunks);
            }
        }

        return chunks;
    }

    // The inverse of what reading such a folder applies.
    private static Func<float, float>? MapOf(TensorRole role)
    {
        if (TensorShapes.IsZeroCentredNorm(role))
            return value => value - 1;
        return role == TensorRole.LinearDecay ? value => (float)Math.Log(-(double)value) : null;
    }

    private static Dictionary<string, byte[]> Texts(Checkpoint checkpoint, ModelConfig config, WeightType type)
    {
        var texts = new Dictionary<string, byte[]>();
        if (checkpoint is HuggingFaceCheckpoint)
        {
            foreach (string name in s_texts)
            {
                string path = Path.Combine(checkpoint.Path, name);
                if (!File.Exists(path))
                    continue;
                if (new FileInfo(path).Length > LongestText)
                    throw new BadModelFileException($"{path}: longer than {LongestText} bytes; this is not such a file.");
                texts[name] = File.ReadAllBytes(path);
            }

            texts["config.json"] = OwnConfig(Path.Combine(checkpoint.Path, "config.json"), config, type);
            return texts;
        }

        TokenizerSpec tokenizer = checkpoint.LoadTokenizer()
            ?? throw new BadModelFileException($"{checkpoint.Path}: no tokenizer in this file; a Hugging Face folder cannot be written without one.");
        JsonObject written = HuggingFaceText.Config(config, tokenizer);
        SetType(written, type);
        texts["config.json"] = Json(written);
        texts["generation_config.json"] = Json(HuggingFaceText.GenerationConfig(tokenizer, checkpoint.Generation.Sampling));
        texts["tokenizer.json"] = Json(HuggingFaceText.Tokenizer(tokenizer));
        texts["tokenizer_config.json"] = Json(HuggingFaceText.TokenizerConfig(tokenizer));
        if (checkpoint.ChatTemplate is { } template)
            texts["chat_template.jinja"] = Encoding.UTF8.GetBytes(template);
        return texts;
    }

    // The folder's own configuration, but for what is true no longer.
    private static byte[] OwnConfig(string path, ModelConfig config, WeightType type)
    {
        if (new FileInfo(path).Length > LongestText || JsonNode.Parse(File.ReadAllBytes(path), documentOptions: new JsonDocumentOptions { MaxDepth = 64 }) is not JsonObject root)
            throw new BadModelFileException($"{path}: expected a JSON object.");
        root.Remove("quantization_config");
        root["language_model_only"] = true;
        SetType(root, type);
        foreach (JsonObject? section in (JsonObject?[])[root, root["text_config"] as JsonObject])
        {
            section?.Remove("quantization_config");
            if (section?.ContainsKey("mtp_num_hidden_layers") == true)
                section["mtp_num_hidden_layers"] = config.MtpLayerCount;
        }

        return Json(root);
    }

    private static void SetType(JsonObject root, WeightType type)
    {
        string name = type switch
        {
            WeightType.F32 => "float32",
            WeightType.F16 => "float16",
            _ => "bfloat16",
        };
        foreach (JsonObject? section in (JsonObject?[])[root, root["text_config"] as JsonObject])
        {
            foreach (string key in (ReadOnlySpan<string>)["dtype", "torch_dtype"])
            {
                if (section?.ContainsKey(key) == true)
                    section[key] = name;
            }
        }
    }

    private static byte[] Json(JsonNode node) => Encoding.UTF8.GetBytes(node.ToJsonString(HuggingFaceText.Indented) + "\n");

    // Shards of another count would be taken for this model's.
    private static void DeleteOldWeights(string folder)
    {
        foreach (string file in Directory.EnumerateFiles(folder, "model*").ToList())
        {
            string name = Path.GetFileName(file);
            if (name == "model.safetensors.index.json" || name.EndsWith(".safetensors", StringComparison.Ordinal))
                File.Delete(file);
        }
    }
}
