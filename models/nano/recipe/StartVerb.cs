using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Formats;
using Qian.Inference.Text;
using Qian.Kernels;

namespace Qian.Nano;

// start OUT: the untrained model as a Hugging Face folder. The shape is in config.json beside this file; matrices are normal with
// deviation 0.02 (those that write into the residual stream smaller, by the root of the number of such writes), norms are neutral,
// decay and step of the recurrent layers are spread over the ranges that the architecture's authors use.
internal static class StartVerb
{
    private const double Deviation = 0.02;
    private static readonly string[] s_tokenizerFiles = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"];

    public static Command Create()
    {
        var output = new Argument<string>("OUT") { Description = "Folder to write" };
        var vocabulary = new Option<string>("--vocabulary") { Description = "Folder of the tokenizer", Required = true, HelpName = "DIR" };
        var seed = new Option<ulong>("--seed") { Description = "Same seed, same weights", DefaultValueFactory = _ => 1, HelpName = "S" };
        var full = new Option<bool>("--float32") { Description = "Store float32 instead of BF16" };
        var command = new Command("start", "Write the model with random start weights") { output, vocabulary, seed, full };
        command.SetAction(parsed =>
        {
            string folder = parsed.GetValue(output)!;
            long count = Write(folder, parsed.GetValue(vocabulary)!, parsed.GetValue(seed), parsed.GetValue(full) ? WeightType.F32 : WeightType.BF16);
            Console.WriteLine($"{folder}: {count / 1e6:0.00} M parameters");
            return 0;
        });
        return command;
    }

    // Returns the number of parameters.
    public static long Write(string folder, string vocabularyFolder, ulong seed, WeightType type)
    {
        Directory.CreateDirectory(folder);
        foreach (string name in s_tokenizerFiles)
        {
            string source = Path.Combine(vocabularyFolder, name);
            if (File.Exists(source) && Path.GetFullPath(source) != Path.GetFullPath(Path.Combine(folder, name)))
                File.Copy(source, Path.Combine(folder, name), overwrite: true);
        }

        WriteConfiguration(folder, TokenizerIds.Read(Path.Combine(folder, "tokenizer.json")));
        ModelConfig config = HuggingFaceConfig.Read(Path.Combine(folder, "config.json"), "nano").Config;
        return WriteWeights(folder, config, seed, type);
    }

    private static void WriteConfiguration(string folder, TokenizerIds ids)
    {
        using Stream stream = typeof(StartVerb).Assembly.GetManifestResourceStream("config.json") ?? throw new InvalidOperationException("The resource config.json is missing from this build.");
        JsonObject config = JsonNode.Parse(stream)!.AsObject();
        JsonObject text = config["text_config"]!.AsObject();
        text["vocab_size"] = ids.Count;
        text["bos_token_id"] = ids.EndOfText;
        text["eos_token_id"] = ids.EndOfText;
        var generation = new JsonObject
        {
            ["bos_token_id"] = ids.EndOfText,
            ["do_sample"] = true,
            ["eos_token_id"] = new JsonArray(ids.EndOfMessage, ids.EndOfText),
            ["pad_token_id"] = ids.EndOfText,
            // A model this small is best taken at its word, nearly greedily.
            ["temperature"] = 0.2,
            ["top_k"] = 20,
            ["top_p"] = 0.95,
        };
        var indented = new JsonSerializerOptions { WriteIndented = true, NewLine = "\n" };
        File.WriteAllText(Path.Combine(folder, "config.json"), config.ToJsonString(indented) + "\n");
        File.WriteAllText(Path.Combine(folder, "generation_config.json"), generation.ToJsonString(indented) + "\n");
        File.WriteAllText(Path.Combine(folder, "chat_template.jinja"), ChatTemplate.Default.Source);
    }

    private static long WriteWeights(string folder, ModelConfig config, ulong seed, WeightType type)
    {
        using var writer = SafetensorsWriter.ToFolder(folder, long.MaxValue);
        List<(TensorRole Role, int Layer)> tensors = [.. Tensors(config)];
        long count = 0;
        foreach ((TensorRole role, int layer) in tensors)
        {
            long[] sizes = Sizes(config, role);
            count += sizes.Aggregate(1L, (a, b) => a * b);
            writer.Declare(Name(config, role, layer), Stored(role, type) == WeightType.F32 ? SafetensorsType.F32 : SafetensorsType.BF16, sizes);
        }

        foreach ((TensorRole role, int layer) in tensors)
        {
            string name = Name(config, role, layer);
            var values = new float[Sizes(config, role).Aggregate(1L, (a, b) => a * b)];
            Fill(values, config, role, Dice.For(seed, name, 0));
            var bytes = new byte[WeightFormat.RowBytes(Stored(role, type), values.Length)];
            WeightFormat.Encode(Stored(role, type), values, bytes);
            writer.Write(bytes);
        }

        writer.Complete();
        return count;
    }

    private static IEnumerable<(TensorRole Role, int Layer)> Tensors(ModelConfig config)
    {
        for (int layer = -1; layer < config.LayerCount + config.MtpLayerCount; layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (TensorShapes.Occurs(config, role, layer) && !(role == TensorRole.Output && config.TiedEmbeddings))
                    yield return (role, layer);
            }
        }
    }

    // Decay and the plain norm of the recurrent layers are float32 in published files too.
    private static WeightType Stored(TensorRole role, WeightType type) => role is TensorRole.LinearDecay or TensorRole.LinearNorm ? WeightType.F32 : type;

    private static long[] Sizes(ModelConfig config, TensorRole role)
    {
        (int rows, int columns) = TensorShapes.Of(config, role);
        return role == TensorRole.LinearConv ? [rows, 1, columns] : TensorShapes.IsVector(role) ? [columns] : [rows, columns];
    }

    private static string Name(ModelConfig config, TensorRole role, int layer)
    {
        string suffix = TensorNames.HuggingFaceSuffix(role);
        if (TensorShapes.IsMtp(role))
            return "mtp." + suffix;
        if (TensorShapes.IsLayerless(role))
            return role == TensorRole.Output ? suffix : "model.language_model." + suffix;
        return layer == config.LayerCount ? $"mtp.layers.0.{suffix}" : $"model.language_model.layers.{layer}.{suffix}";
    }

    private static void Fill(float[] values, ModelConfig config, TensorRole role, Dice dice)
    {
        double writes = Math.Sqrt(2 * config.LayerCount);
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)(role switch
            {
                TensorRole.LinearDecay => Math.Log(1 + 15 * Uniform(dice)),
                TensorRole.LinearDtBias => StepBias(dice),
                TensorRole.LinearNorm => 1,
                TensorRole.LinearConv => (2 * Uniform(dice) - 1) / Math.Sqrt(config.ConvKernel),
                TensorRole.AttentionOutput or TensorRole.LinearOutput or TensorRole.FfnDown => Normal(dice) * Deviation / writes,
                _ when TensorShapes.IsZeroCentredNorm(role) => 0,
                _ => Normal(dice) * Deviation,
            });
        }
    }

    // The bias whose softplus is a step drawn log-uniformly from 0.001 to 0.1.
    private static double StepBias(Dice dice)
    {
        double step = Math.Exp(Math.Log(0.001) + Uniform(dice) * Math.Log(100));
        return step + Math.Log(-Math.Exp(-step) + 1);
    }

    // In (0, 1).
    private static double Uniform(Dice dice) => ((dice.Next() >> 11) + 0.5) / (1UL << 53);

    private static double Normal(Dice dice) => Math.Sqrt(-2 * Math.Log(Uniform(dice))) * Math.Cos(2 * Math.PI * Uniform(dice));

    // Ids of a tokenizer.json that the configuration names, and how many there are.
    private sealed record TokenizerIds(int Count, int EndOfText, int EndOfMessage)
    {
        public static TokenizerIds Read(string path)
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            int count = document.RootElement.GetProperty("model").GetProperty("vocab").EnumerateObject().Select(token => token.Value.GetInt32()).Max() + 1;
            var added = new Dictionary<string, int>();
            foreach (JsonElement token in document.RootElement.GetProperty("added_tokens").EnumerateArray())
                added[token.GetProperty("content").GetString()!] = token.GetProperty("id").GetInt32();
            return new TokenizerIds(Math.Max(count, added.Values.Max() + 1), added["<|endoftext|>"], added["<|im_end|>"]);
        }
    }
}
