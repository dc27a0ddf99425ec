using System.Text.Json;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

// What is written is what the other programs expect, name by name, and comes back value by value.
public sealed class AdapterWriterTests
{
    // config of mtp-tiny: 4 layers (the last with attention) and an MTP block, hidden 96, intermediate 160, 4 heads of 32, 2 key/value
    // heads, 2 key heads and 6 value heads of 16.
    private static readonly ModelConfig s_config = Config();

    private static readonly string[] s_linear = ["linear_attn.in_proj_qkv 96 160", "linear_attn.in_proj_z 96 96", "linear_attn.in_proj_b 96 6", "linear_attn.in_proj_a 96 6", "linear_attn.out_proj 96 96"];
    private static readonly string[] s_attention = ["self_attn.q_proj 96 256", "self_attn.k_proj 96 64", "self_attn.v_proj 96 64", "self_attn.o_proj 128 96"];
    private static readonly string[] s_mlp = ["mlp.gate_proj 96 160", "mlp.up_proj 96 160", "mlp.down_proj 160 96"];

    private static readonly Dictionary<string, string> s_gguf = new()
    {
        ["linear_attn.in_proj_qkv"] = "attn_qkv",
        ["linear_attn.in_proj_z"] = "attn_gate",
        ["linear_attn.in_proj_b"] = "ssm_beta",
        ["linear_attn.in_proj_a"] = "ssm_alpha",
        ["linear_attn.out_proj"] = "ssm_out",
        ["self_attn.q_proj"] = "attn_q",
        ["self_attn.k_proj"] = "attn_k",
        ["self_attn.v_proj"] = "attn_v",
        ["self_attn.o_proj"] = "attn_output",
        ["mlp.gate_proj"] = "ffn_gate",
        ["mlp.up_proj"] = "ffn_up",
        ["mlp.down_proj"] = "ffn_down",
    };

    private static ModelConfig Config()
    {
        using Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Mtp);
        return checkpoint.Config;
    }

    private static IEnumerable<(int Block, string Module, int Input, int Output)> Places()
    {
        for (int block = 0; block < 5; block++)
        {
            foreach (string line in (string[])[.. block < 3 ? s_linear : s_attention, .. s_mlp])
            {
                string[] parts = line.Split(' ');
                yield return (block, parts[0], int.Parse(parts[1]), int.Parse(parts[2]));
            }
        }
    }

    [Theory]
    [InlineData(PeftWriter.MultimodalPrefix)]
    [InlineData(PeftWriter.TextPrefix)]
    public void PeftNamesAndShapesAreHuggingFaces(string prefix)
    {
        using var folder = new TempFolder();
        PeftWriter.Write(AdapterSamples.Random(s_config, 1, rank: 3), s_config, folder.Path, prefix: prefix);
        var expected = new List<(string, string)> { ("base_model.model.lm_head.lora_A.weight", "[3, 96]"), ("base_model.model.lm_head.lora_B.weight", "[384, 3]"), ("base_model.model.mtp.fc.lora_A.weight", "[3, 192]"), ("base_model.model.mtp.fc.lora_B.weight", "[96, 3]") };
        foreach ((int block, string module, int input, int output) in Places())
        {
            string path = block == 4 ? "base_model.model.mtp.layers.0." : $"base_model.model.{prefix}layers.{block}.";
            expected.Add((path + module + ".lora_A.weight", $"[3, {input}]"));
            expected.Add((path + module + ".lora_B.weight", $"[{output}, 3]"));
        }

        Assert.Equal([PeftAdapter.ConfigName, PeftAdapter.WeightsName], Directory.GetFiles(folder.Path).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        using SafetensorsFile file = SafetensorsFile.Open(folder.File("adapter_model.safetensors"));
        Assert.Equal(expected.Order(), file.Tensors.Select(tensor => (tensor.Name, FileText.Shape(tensor.Sizes))).Order());
        Assert.All(file.Tensors, tensor => Assert.Equal(SafetensorsType.F32, tensor.Type));
        Assert.Equal("pt", file.Metadata["format"]);
    }

    [Fact]
    public void PeftsConfigHasItsFieldsInItsOrder()
    {
        using var folder = new TempFolder();
        AdapterWeights adapter = AdapterSamples.Random(s_config, 1, rank: 3, alpha: 6, usesRsLora: true, keeps: (role, layer) => role is TensorRole.AttentionQ or TensorRole.LinearZ or TensorRole.Output && layer != 1);
        // One of another rank and alpha than the rest.
        AdapterTarget odd = adapter.Targets.Single(target => target.Role == TensorRole.LinearZ && target.Layer == 2);
        var other = new AdapterTarget(odd.Role, odd.Layer, 1, 0.5, odd.A[..96], odd.B[..96]);
        PeftWriter.Write(adapter with { Targets = [.. adapter.Targets.Select(target => target == odd ? other : target)] }, s_config, folder.Path);
        Assert.Equal("""
            {
              "alpha_pattern": {
                "model.language_model.layers.2.linear_attn.in_proj_z": 0.5
              },
              "auto_mapping": null,
              "base_model_name_or_path": "tiny",
              "bias": "none",
              "fan_in_fan_out": false,
              "inference_mode": true,
              "init_lora_weights": true,
              "layer_replication": null,
              "layers_pattern": null,
              "layers_to_transform": null,
              "loftq_config": {},
              "lora_alpha": 6,
              "lora_dropout": 0,
              "megatron_config": null,
              "megatron_core": "megatron.core",
              "modules_to_save": null,
              "peft_type": "LORA",
              "r": 3,
              "rank_pattern": {
                "model.language_model.layers.2.linear_attn.in_proj_z": 1
              },
              "revision": null,
              "target_modules": [
                "lm_head",
                "q_proj",
                "model.language_model.layers.0.linear_attn.in_proj_z",
                "model.language_model.layers.2.linear_attn.in_proj_z"
              ],
              "task_type": "CAUSAL_LM",
              "use_dora": false,
              "use_rslora": true
            }

            """.ReplaceLineEndings("\n"), File.ReadAllText(folder.File("adapter_config.json")));
        AdapterWeights read = AdapterSamples.Read(folder.Path, s_config);
        Assert.Equal([0.5], read.Targets.Where(target => target.Rank == 1).Select(read.Scale));
        Assert.All(read.Targets.Where(target => target.Rank == 3), target => Assert.Equal(6 / Math.Sqrt(3), read.Scale(target)));
    }

    [Fact]
    public void ModulesOfAMixtureOfExpertsAreToldFromItsExperts()
    {
        using var folder = new TempFolder();
        using Checkpoint moe = Checkpoint.Open(ModelFolders.Moe);
        PeftWriter.Write(AdapterSamples.Random(moe.Config, 1), moe.Config, folder.Path);
        using JsonDocument config = JsonDocument.Parse(File.ReadAllText(folder.File("adapter_config.json")));
        Assert.Equal(
            ["in_proj_a", "in_proj_b", "in_proj_qkv", "in_proj_z", "k_proj", "lm_head", "mlp.gate", "o_proj", "out_proj", "q_proj", "shared_expert.down_proj", "shared_expert.gate_proj", "shared_expert.up_proj", "shared_expert_gate", "v_proj"],
            config.RootElement.GetProperty("target_modules").EnumerateArray().Select(module => module.GetString()!).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void GgufNamesSizesAndKeysAreLlamaCpps()
    {
        using var folder = new TempFolder();
        string path = folder.File("a.gguf");
        GgufAdapterWriter.Write(AdapterSamples.Random(s_config, 1, rank: 3, alpha: 12), s_config, path);
        using GgufFile file = GgufFile.Open(path);
        Assert.Equal(("qwen35", "adapter", "lora", 12.0), (file.Text("general.architecture"), file.Text("general.type"), file.Text("adapter.type"), file.Number("adapter.lora.alpha", 0, 99)));
        Assert.Equal(GgufValueType.Float32, file.Metadata["adapter.lora.alpha"].Type);
        var expected = new List<(string, string)> { ("output.weight.lora_a", "[96, 3]"), ("output.weight.lora_b", "[3, 384]"), ("blk.4.nextn.eh_proj.weight.lora_a", "[192, 3]"), ("blk.4.nextn.eh_proj.weight.lora_b", "[3, 96]") };
        foreach ((int block, string module, int input, int output) in Places())
        {
            expected.Add(($"blk.{block}.{s_gguf[module]}.weight.lora_a", $"[{input}, 3]"));
            expected.Add(($"blk.{block}.{s_gguf[module]}.weight.lora_b", $"[3, {output}]"));
        }

        Assert.Equal(expected.Order(), file.Tensors.Select(tensor => (tensor.Name, FileText.Shape(tensor.Sizes))).Order());
        Assert.All(file.Tensors, tensor => Assert.Equal(WeightType.F32, tensor.Type));
    }

    // Row and column moves written out: GGUF's head 1 is Hugging Face's head 3 (the first of the second key head).
    [Fact]
    public void GgufHoldsItsOwnOrderOfTheValueHeads()
    {
        using var folder = new TempFolder();
        AdapterWeights adapter = AdapterSamples.Random(s_config, 1, rank: 2, keeps: (_, layer) => layer == 0);
        GgufAdapterWriter.Write(adapter, s_config, folder.File("a.gguf"));
        using GgufFile file = GgufFile.Open(folder.File("a.gguf"));
        int[] headsInOrder = [0, 3, 1, 4, 2, 5];
        AdapterTarget qkv = Of(TensorRole.LinearQkv), z = Of(TensorRole.LinearZ), a = Of(TensorRole.LinearA), b = Of(TensorRole.LinearB), output = Of(TensorRole.LinearOutput), gate = Of(TensorRole.FfnGate);
        Assert.Equal([.. qkv.B[..(64 * 2)], .. Rows(qkv.B[(64 * 2)..], 16)], Values("blk.0.attn_qkv.weight.lora_b"));
        Assert.Equal(Rows(z.B, 16), Values("blk.0.attn_gate.weight.lora_b"));
        Assert.Equal(Rows(a.B, 1), Values("blk.0.ssm_alpha.weight.lora_b"));
        Assert.Equal(Rows(b.B, 1), Values("blk.0.ssm_beta.weight.lora_b"));
        Assert.Equal([.. Enumerable.Range(0, 2).SelectMany(rank => headsInOrder.SelectMany(head => output.A[(rank * 96 + head * 16)..(rank * 96 + head * 16 + 16)]))], Values("blk.0.ssm_out.weight.lora_a"));
        foreach ((AdapterTarget target, string name) in (ReadOnlySpan<(AdapterTarget, string)>)[(qkv, "attn_qkv"), (z, "attn_gate"), (a, "ssm_alpha"), (b, "ssm_beta"), (gate, "ffn_gate")])
            Assert.Equal(target.A, Values($"blk.0.{name}.weight.lora_a"));
        Assert.Equal(output.B, Values("blk.0.ssm_out.weight.lora_b"));
        Assert.Equal(gate.B, Values("blk.0.ffn_gate.weight.lora_b"));

        AdapterTarget Of(TensorRole role) => adapter.Targets.Single(target => target.Role == role);
        float[] Rows(float[] values, int rowsPerHead) => [.. headsInOrder.SelectMany(head => values[(head * rowsPerHead * 2)..((head + 1) * rowsPerHead * 2)])];
        float[] Values(string name) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(ModelFolders.Bytes(file.Find(name)!)).ToArray();
    }

    [Theory]
    [InlineData("text-dense-tiny", false)]
    [InlineData("text-moe-tiny", true)]
    [InlineData("mtp-tiny", true)]
    public void BothFormatsGiveBackWhatWasWritten(string golden, bool usesRsLora)
    {
        using var folder = new TempFolder();
        using Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Named(golden));
        ModelConfig config = checkpoint.Config;
        AdapterWeights adapter = AdapterSamples.Random(config, 1, rank: 5, alpha: 10, usesRsLora: usesRsLora);
        PeftWriter.Write(adapter, config, folder.File("peft"));
        AdapterWeights read = AdapterSamples.Read(folder.File("peft"), config);
        AdapterSamples.AssertSame(adapter, read);
        Assert.Equal(("peft", "tiny", usesRsLora), (read.Name, read.BaseModel, read.UsesRsLora));
        GgufAdapterWriter.Write(read, config, folder.File("a.gguf"));
        AdapterWeights again = AdapterSamples.Read(folder.File("a.gguf"), config with { ValueHeadsInterleaved = true });
        AdapterSamples.AssertSame(adapter, again);
        Assert.Equal(("peft", "tiny"), (again.Name, again.BaseModel));
        PeftWriter.Write(again, config, folder.File("back"));
        AdapterSamples.AssertSame(adapter, AdapterSamples.Read(folder.File("back"), config));
    }

    [Fact]
    public void HalfTheBytesRoundEveryValueOnce()
    {
        using var folder = new TempFolder();
        AdapterWeights adapter = AdapterSamples.Random(s_config, 1);
        PeftWriter.Write(adapter, s_config, folder.File("peft"), SafetensorsType.BF16);
        GgufAdapterWriter.Write(adapter, s_config, folder.File("a.gguf"), WeightType.F16);
        foreach ((string path, WeightType type) in (ReadOnlySpan<(string, WeightType)>)[(folder.File("peft"), WeightType.BF16), (folder.File("a.gguf"), WeightType.F16)])
            AdapterSamples.AssertSame(adapter with { Targets = [.. adapter.Targets.Select(target => target with { A = RoundedTo(type, target.A), B = RoundedTo(type, target.B) })] }, AdapterSamples.Read(path, s_config));

        static float[] RoundedTo(WeightType type, float[] values)
        {
            var bytes = new byte[2 * values.Length];
            WeightFormat.Encode(type, values, bytes);
            var rounded = new float[values.Length];
            WeightFormat.Decode(type, bytes, rounded);
            return rounded;
        }
    }

    // One alpha for all in GGUF: what it cannot say goes into B. No alpha there means the product as it is.
    [Fact]
    public void ScalesThatDifferSurviveGguf()
    {
        using var folder = new TempFolder();
        AdapterWeights adapter = AdapterSamples.Random(s_config, 1, keeps: (role, _) => role == TensorRole.FfnUp);
        adapter = adapter with { Targets = [.. adapter.Targets.Select((target, i) => target with { Alpha = i == 1 ? 2 * target.Alpha : i == 2 ? 0 : target.Alpha })] };
        GgufAdapterWriter.Write(adapter, s_config, folder.File("a.gguf"));
        AdapterWeights read = AdapterSamples.Read(folder.File("a.gguf"), s_config);
        for (int i = 0; i < adapter.Targets.Count; i++)
        {
            (AdapterTarget before, AdapterTarget after) = (adapter.Targets[i], read.Targets[i]);
            Assert.Equal(before.B.Select(value => adapter.Scale(before) * value), after.B.Select(value => read.Scale(after) * value));
        }

        ModelFolders.RewriteGguf(folder.File("a.gguf"), folder.File("b.gguf"), key => key != "adapter.lora.alpha", _ => { }, ModelFolders.Same);
        AdapterWeights bare = AdapterSamples.Read(folder.File("b.gguf"), s_config);
        Assert.All(bare.Targets, target => Assert.Equal(1, bare.Scale(target)));
    }

    [Fact]
    public void AnInterruptedWriterLeavesWhatWasThere()
    {
        using var folder = new TempFolder();
        PeftWriter.Write(AdapterSamples.Random(s_config, 1), s_config, folder.Path);
        byte[] before = File.ReadAllBytes(folder.File("adapter_model.safetensors"));
        AdapterWeights good = AdapterSamples.Random(s_config, 2);
        // The second of two equal places cannot be declared.
        Assert.Throws<ArgumentException>(() => PeftWriter.Write(good with { Targets = [.. good.Targets, good.Targets[0]] }, s_config, folder.Path));
        Assert.Equal(before, File.ReadAllBytes(folder.File("adapter_model.safetensors")));
        Assert.Equal(2, Directory.GetFiles(folder.Path).Length);
    }
}
