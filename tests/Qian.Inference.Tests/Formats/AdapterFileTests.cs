using System.Text.Json.Nodes;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

// Adapters as others write them, and everything that must be refused, by name.
public sealed class AdapterFileTests
{
    private static readonly ModelConfig s_config = Config(ModelFolders.Dense);

    private static ModelConfig Config(string path)
    {
        using Checkpoint checkpoint = Checkpoint.Open(path);
        return checkpoint.Config;
    }

    // A PEFT folder written out here: q_proj of layer 3 (hidden 128, 4 heads of 2 x 32), rank 2.
    private static void WriteFolder(string folder, string config, params (string Name, long[] Sizes)[] tensors)
    {
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "adapter_config.json"), config);
        using SafetensorsWriter writer = SafetensorsWriter.ToFile(Path.Combine(folder, "adapter_model.safetensors"));
        foreach ((string name, long[] sizes) in tensors)
            writer.Declare(name, SafetensorsType.F32, sizes);
        foreach ((_, long[] sizes) in tensors)
            writer.Write(Ones(sizes));
        writer.Complete();
    }

    private static byte[] Ones(long[] sizes)
    {
        var values = new float[sizes.Aggregate((a, b) => a * b)];
        Array.Fill(values, 1);
        return System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(values).ToArray();
    }

    private static (string, long[])[] Pair(string module, int input = 128, int output = 256, int rank = 2) => [(module + ".lora_A.weight", [rank, input]), (module + ".lora_B.weight", [output, rank])];

    [Theory]
    [InlineData("base_model.model.model.language_model.layers.3.self_attn.q_proj")]
    [InlineData("base_model.model.model.layers.3.self_attn.q_proj")]
    [InlineData("base_model.model.language_model.model.layers.3.self_attn.q_proj")]
    [InlineData("base_model.model.language_model.layers.3.self_attn.q_proj")]
    [InlineData("base_model.model.layers.3.self_attn.q_proj")]
    [InlineData("model.layers.3.self_attn.q_proj")]
    public void EveryClassOfTheModelMayHaveTrainedIt(string module)
    {
        using var folder = new TempFolder();
        WriteFolder(folder.Path, """{"peft_type": "LORA", "r": 2, "lora_alpha": 3}""", Pair(module));
        AdapterWeights adapter = AdapterSamples.Read(folder.Path, s_config);
        AdapterTarget target = Assert.Single(adapter.Targets);
        Assert.Equal((TensorRole.AttentionQ, 3, 2, 1.5), (target.Role, target.Layer, target.Rank, adapter.Scale(target)));
    }

    [Fact]
    public void AStateDictWithTheAdaptersNameAndVisionPairsLoads()
    {
        using var folder = new TempFolder();
        const string prefix = "base_model.model.model.language_model.layers.3.self_attn.k_proj";
        WriteFolder(folder.Path, """{"peft_type": "LORA", "r": 2, "target_modules": "all-linear", "some_future_field": [1]}""",
            [(prefix + ".lora_A.default.weight", [2, 128]), (prefix + ".lora_B.default.weight", [64, 2]), .. Pair("base_model.model.model.visual.blocks.0.attn.qkv", 32, 96)]);
        using AdapterFile file = AdapterFile.Open(folder.Path);
        Assert.Equal(1, file.VisionCount);
        AdapterWeights adapter = file.Read(s_config);
        Assert.Equal(TensorRole.AttentionK, Assert.Single(adapter.Targets).Role);
        Assert.Equal(4, adapter.Scale(adapter.Targets[0]));
    }

    [Theory]
    [InlineData("q_proj", 5)]
    [InlineData("self_attn.q_proj", 5)]
    [InlineData(@"^model\.language_model\.layers\.3\..*", 5)]
    [InlineData("layers.[0-3].self_attn.(q|k)_proj", 5)]
    [InlineData("_proj", 2)]
    [InlineData("layers.3.self_attn", 2)]
    [InlineData("(.*.)*x", 2)]
    public void PatternsMatchTheEndOfAPath(string pattern, double scale)
    {
        using var folder = new TempFolder();
        var config = new JsonObject { ["peft_type"] = "LORA", ["r"] = 7, ["lora_alpha"] = 4, ["rank_pattern"] = new JsonObject { ["q_proj"] = 2 }, ["alpha_pattern"] = new JsonObject { ["o_proj"] = 1, [pattern] = 10, [".*"] = 4 } };
        WriteFolder(folder.Path, config.ToJsonString(), Pair("base_model.model.model.language_model.layers.3.self_attn.q_proj"));
        AdapterWeights adapter = AdapterSamples.Read(folder.Path, s_config);
        Assert.Equal(scale, adapter.Scale(adapter.Targets[0]));
    }

    [Theory]
    [InlineData("peft_type", "\"IA3\"", "LORA")]
    [InlineData("peft_type", "null", "missing")]
    [InlineData("use_dora", "true", "use_dora")]
    [InlineData("use_qalora", "true", "use_qalora")]
    [InlineData("lora_bias", "true", "lora_bias")]
    [InlineData("bias", "\"all\"", "biases")]
    [InlineData("fan_in_fan_out", "true", "fan_in_fan_out")]
    [InlineData("modules_to_save", "[\"lm_head\"]", "modules_to_save")]
    [InlineData("target_parameters", "[\"mlp.experts.gate_up_proj\"]", "target_parameters")]
    [InlineData("layer_replication", "[[0, 4]]", "layer_replication")]
    [InlineData("trainable_token_indices", "[1]", "trainable_token_indices")]
    [InlineData("alora_invocation_tokens", "[1]", "alora_invocation_tokens")]
    [InlineData("init_lora_weights", "\"pissa_niter_4\"", "path_initial_model")]
    [InlineData("r", "0", "'r'")]
    [InlineData("r", "9000", "'r'")]
    [InlineData("r", "3", "expected [3, …]")]
    [InlineData("lora_alpha", "\"8\"", "lora_alpha")]
    [InlineData("rank_pattern", "{\"q_proj\": 1.5}", "rank_pattern.q_proj")]
    [InlineData("rank_pattern", "{\"[\": 1}", "regular expression")]
    [InlineData("rank_pattern", "{\"(?=a)\": 1}", "regular expression")]
    [InlineData("rank_pattern", "{\"((((a{999}){999}){999}){999})\": 1}", "counted repetitions")]
    [InlineData("alpha_pattern", "{\"q_proj\": null}", "alpha_pattern.q_proj")]
    public void AConfigurationThatMeansSomethingElseIsRefused(string field, string value, string named)
    {
        using var folder = new TempFolder();
        JsonObject config = JsonNode.Parse("""{"peft_type": "LORA", "r": 2, "lora_alpha": 4}""")!.AsObject();
        config[field] = JsonNode.Parse(value);
        WriteFolder(folder.Path, config.ToJsonString(), Pair("base_model.model.model.language_model.layers.3.self_attn.q_proj"));
        var error = Assert.Throws<BadModelFileException>(() => AdapterSamples.Read(folder.Path, s_config));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
        Assert.Contains(folder.Path, error.Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, int, int, string> Misfits => new()
    {
        { "model.layers.3.self_attn.q_proj", 64, 256, "expected [2, 128] by the model's configuration, found [2, 64]" },
        { "model.layers.3.self_attn.q_proj", 128, 255, "expected [256, 2] by the model's configuration, found [255, 2]" },
        { "model.layers.2.self_attn.q_proj", 128, 256, "layer 2 is a Gated DeltaNet layer" },
        { "model.layers.3.linear_attn.in_proj_z", 128, 96, "layer 3 is a gated attention layer" },
        { "model.layers.3.mlp.shared_expert.up_proj", 128, 64, "a dense model" },
        { "model.layers.8.mlp.up_proj", 128, 256, "the model has 8 layers" },
        { "model.layers.99999.mlp.up_proj", 128, 256, "no linear projection" },
        { "model.layers.03.mlp.up_proj", 128, 256, "no linear projection" },
        { "model.layers.3.mlp.experts.0.up_proj", 128, 256, "routed experts" },
        { "model.layers.3.mlp.experts.gate_up_proj", 128, 256, "routed experts" },
        { "model.embed_tokens", 128, 512, "embedding" },
        { "model.layers.3.input_layernorm", 128, 128, "no linear projection" },
        { "model.layers.0.linear_attn.conv1d", 4, 160, "no linear projection" },
        { "transformer.h.0.attn.c_attn", 128, 128, "no linear projection" },
    };

    [Theory]
    [MemberData(nameof(Misfits))]
    public void AnAdapterOfAnotherModelIsRefused(string module, int input, int output, string named)
    {
        using var folder = new TempFolder();
        WriteFolder(folder.Path, """{"peft_type": "LORA", "r": 2}""", Pair("base_model.model." + module, input, output));
        var error = Assert.Throws<BadModelFileException>(() => AdapterSamples.Read(folder.Path, s_config));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
        Assert.Contains(module, error.Message, StringComparison.Ordinal);
    }

    public static TheoryData<string[], string> Malformed => new()
    {
        { ["q_proj.lora_A.weight 2 128"], "lora_B of the same module is missing" },
        { ["q_proj.lora_B.weight 256 2"], "lora_A of the same module is missing" },
        { ["q_proj.lora_A.weight 2 128", "q_proj.lora_B.weight 256 3"], "as lora_A has that many rows" },
        { ["q_proj.lora_A.weight 2", "q_proj.lora_B.weight 256 2"], "expected a matrix" },
        { ["q_proj.lora_A.weight 2 128", "q_proj.lora_B.weight 256 2", "q_proj.lora_magnitude_vector 256"], "DoRA" },
        { ["q_proj.lora_A.weight 2 128", "q_proj.lora_B.weight 256 2", "q_proj.lora_B.bias 256"], "biases" },
        { ["q_proj.lora_A.weight 2 128", "q_proj.lora_A.default.weight 2 128", "q_proj.lora_B.weight 256 2"], "the same matrix" },
        { ["q_proj.lora_embedding_A 2 128"], "embedding" },
        { ["q_proj.weight 2 128"], "no linear projection" },
        { [], "no tensor of a low-rank pair" },
    };

    [Theory]
    [MemberData(nameof(Malformed))]
    public void MalformedTensorsAreNamed(string[] tensors, string named)
    {
        using var folder = new TempFolder();
        WriteFolder(folder.Path, """{"peft_type": "LORA", "r": 2}""",
            [.. tensors.Select(tensor => tensor.Split(' ')).Select(parts => ("base_model.model.model.layers.3.self_attn." + parts[0], parts[1..].Select(long.Parse).ToArray()))]);
        var error = Assert.Throws<BadModelFileException>(() => AdapterSamples.Read(folder.Path, s_config));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheSameProjectionTwiceIsRefused()
    {
        using var folder = new TempFolder();
        WriteFolder(folder.Path, """{"peft_type": "LORA", "r": 2}""", [.. Pair("base_model.model.model.layers.3.self_attn.q_proj"), .. Pair("base_model.model.layers.3.self_attn.q_proj")]);
        Assert.Contains("twice", Assert.Throws<BadModelFileException>(() => AdapterSamples.Read(folder.Path, s_config)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ATiedHeadCannotBeAdapted()
    {
        using var folder = new TempFolder();
        WriteFolder(folder.Path, """{"peft_type": "LORA", "r": 2}""", Pair("base_model.model.lm_head", 128, 512));
        Assert.Equal(TensorRole.Output, AdapterSamples.Read(folder.Path, s_config).Targets[0].Role);
        var error = Assert.Throws<BadModelFileException>(() => AdapterSamples.Read(folder.Path, s_config with { TiedEmbeddings = true }));
        Assert.Contains("tied", error.Message, StringComparison.Ordinal);
    }

    // A head that predicts ahead is no part of the text's arithmetic; models without one are common.
    [Fact]
    public void WhatBelongsToAMissingMtpHeadIsLeftOut()
    {
        using var folder = new TempFolder();
        ModelConfig config = Config(ModelFolders.Mtp), without = config with { MtpLayerCount = 0 };
        AdapterWeights adapter = AdapterSamples.Random(config, 1);
        PeftWriter.Write(adapter, config, folder.File("peft"));
        GgufAdapterWriter.Write(adapter, config, folder.File("a.gguf"));
        int trunkCount = adapter.Targets.Count(target => target.Layer < config.LayerCount);
        Assert.True(trunkCount < adapter.Targets.Count);
        foreach (string path in (string[])[folder.File("peft"), folder.File("a.gguf")])
        {
            Assert.Equal(adapter.Targets.Count, AdapterSamples.Read(path, config).Targets.Count);
            Assert.Equal(trunkCount, AdapterSamples.Read(path, without).Targets.Count);
        }

        PeftWriter.Write(adapter with { Targets = [.. adapter.Targets.Where(target => target.Layer == config.LayerCount)] }, config, folder.File("ahead"));
        Assert.Contains("changes nothing", Assert.Throws<BadModelFileException>(() => AdapterSamples.Read(folder.File("ahead"), without)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FilesThatAreNoAdapterAreNamed()
    {
        using var folder = new TempFolder();
        void Fails(string path, string named)
        {
            var error = Assert.Throws<BadModelFileException>(() => AdapterSamples.Read(path, s_config));
            Assert.Contains(named, error.Message, StringComparison.Ordinal);
            Assert.Contains(path, error.Message, StringComparison.Ordinal);
        }

        Fails(folder.File("nowhere"), "no such file");
        Fails(folder.Path, "weights are missing");
        File.WriteAllText(folder.File("adapter_model.bin"), "");
        Fails(folder.Path, "pickle");
        File.WriteAllText(folder.File("adapter_model.safetensors"), "");
        Fails(folder.Path, "adapter_config.json");
        File.WriteAllText(folder.File("adapter_config.json"), "{");
        Fails(folder.Path, "not valid JSON");
        File.WriteAllText(folder.File("adapter_config.json"), """{"peft_type": "LORA"}""");
        Fails(folder.Path, "too few");
        Fails(ModelFolders.Gguf, "this is no adapter");
        Assert.False(AdapterFile.Recognises(ModelFolders.Gguf));
        Assert.False(AdapterFile.Recognises(ModelFolders.Dense));
        Assert.True(AdapterFile.Recognises(AdapterSamples.Reference));
    }

    [Fact]
    public void AnAdapterIsNoModel()
    {
        using var folder = new TempFolder();
        GgufAdapterWriter.Write(AdapterSamples.Random(s_config, 1), s_config, folder.File("a.gguf"));
        foreach (string path in (string[])[AdapterSamples.Reference, folder.File("a.gguf")])
            Assert.Contains("this is a LoRA adapter", Assert.Throws<BadModelFileException>(() => Checkpoint.Open(path)).Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string> GgufFaults => new()
    {
        { "kind", "adapter.type" },
        { "architecture", "general.architecture" },
        { "alora", "alora" },
        { "alpha", "adapter.lora.alpha" },
        { "half", "its other half" },
        { "ending", ".lora_a" },
        { "rank", "as 'blk.3.attn_q.weight.lora_a' has that many rows" },
        { "vector", "expected a matrix" },
        { "shape", "by the model's configuration" },
        { "layer", "the model has 8 layers" },
        { "expert", "routed experts" },
        { "embedding", "embedding" },
        { "empty", "no pair" },
    };

    [Theory]
    [MemberData(nameof(GgufFaults))]
    public void AFaultyGgufAdapterIsRefused(string fault, string named)
    {
        using var folder = new TempFolder();
        string path = folder.File("a.gguf");
        using (var writer = new GgufWriter(path))
        {
            writer.Add("general.architecture", fault == "architecture" ? "qwen35moe" : "qwen35");
            writer.Add("general.type", "adapter");
            writer.Add("adapter.type", fault == "kind" ? "loha" : "lora");
            if (fault == "alora")
                writer.Add("adapter.alora.invocation_tokens", (ReadOnlySpan<uint>)[1, 2]);
            if (fault == "alpha")
                writer.Add("adapter.lora.alpha", "4");
            else
                writer.Add("adapter.lora.alpha", 4f);
            string name = fault switch { "layer" => "blk.9.attn_q.weight", "expert" => "blk.3.ffn_up_exps.weight", "embedding" => "token_embd.weight", _ => "blk.3.attn_q.weight" };
            long[] a = fault switch { "vector" => [128], "shape" => [64, 2], _ => [128, 2] }, b = [fault == "rank" ? 3 : 2, 256];
            var tensors = new List<(string Name, long[] Sizes)>();
            if (fault != "empty")
                tensors.Add((name + ".lora_a", a));
            if (fault is not ("half" or "empty"))
                tensors.Add((name + ".lora_b", b));
            if (fault == "ending")
                tensors.Add((name, b));
            foreach ((string tensor, long[] sizes) in tensors)
                writer.Declare(tensor, WeightType.F32, sizes);
            foreach ((_, long[] sizes) in tensors)
                writer.Write(Ones(sizes));
            writer.Complete();
        }

        var error = Assert.Throws<BadModelFileException>(() => AdapterSamples.Read(path, s_config with { ValueHeadsInterleaved = true, MtpLayerCount = 0 }));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    // Whatever bytes are flipped, there is an answer or a named refusal.
    [Fact]
    public void DamageIsRefusedOrHarmless()
    {
        using var folder = new TempFolder();
        AdapterWeights adapter = AdapterSamples.Random(s_config, 1, rank: 1, keeps: (role, layer) => layer == 3);
        PeftWriter.Write(adapter, s_config, folder.File("peft"));
        GgufAdapterWriter.Write(adapter, s_config, folder.File("a.gguf"));
        var random = new Random(5);
        foreach (string file in (string[])[folder.File("peft/adapter_model.safetensors"), folder.File("peft/adapter_config.json"), folder.File("a.gguf")])
        {
            byte[] sound = File.ReadAllBytes(file);
            int refused = 0;
            for (int i = 0; i < 200; i++)
            {
                byte[] damaged = [.. sound];
                for (int flips = 0; flips < 3; flips++)
                    damaged[random.Next(Math.Min(damaged.Length, 1500))] = (byte)random.Next(256);
                File.WriteAllBytes(file, i % 10 == 0 ? damaged[..random.Next(damaged.Length)] : damaged);
                try
                {
                    AdapterSamples.Read(file.EndsWith(".gguf", StringComparison.Ordinal) ? file : folder.File("peft"), s_config);
                }
                catch (BadModelFileException)
                {
                    refused++;
                }
            }

            Assert.InRange(refused, 20, 200);
            File.WriteAllBytes(file, sound);
        }
    }
}
