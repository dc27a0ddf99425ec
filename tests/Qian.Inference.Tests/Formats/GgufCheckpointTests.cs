using System.Runtime.InteropServices;
using Qian.Inference.Formats;
using Qian.Inference.Text;
using Qian.Kernels;

namespace Qian.Inference.Tests.Formats;

// GGUF models as published: the MTP block inside, absent or apart, experts fused, NVFP4's extra factor; which file of a folder; every wrong key.
public sealed class GgufCheckpointTests
{
    [Fact]
    public void APublishedStyleFileOpens()
    {
        using Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Gguf);
        ModelConfig c = checkpoint.Config;
        Assert.Equal(("qwen35", "synthetic qwen35 tiny", 256, 4, 768, 464), (c.Architecture, c.Name, c.HiddenSize, c.LayerCount, c.IntermediateSize, c.VocabularySize));
        Assert.Equal((6, 2, 128, 32, 1e7, 32768, 4), (c.AttentionHeads, c.KvHeads, c.HeadDim, c.RotaryDim, c.RopeTheta, c.ContextLength, c.ConvKernel));
        Assert.Equal((4, 12, 64, 64, true, 0), (c.LinearKeyHeads, c.LinearValueHeads, c.LinearKeyDim, c.LinearValueDim, c.ValueHeadsInterleaved, c.MtpLayerCount));
        Assert.Equal([false, false, false, true], c.FullAttentionLayers);
        Assert.StartsWith("{%- for message in messages %}", checkpoint.ChatTemplate);
        Assert.Equal([438], checkpoint.Generation.EosTokenIds);
        TokenizerSpec tokenizer = checkpoint.LoadTokenizer()!;
        Assert.Equal((464, 180, 438), (tokenizer.RowCount, tokenizer.Merges.Length, tokenizer.EosId));
        foreach ((TensorRole role, int layer, int expert) in ModelFolders.Places(c))
            Assert.All(ModelFolders.Values(checkpoint, role, layer, expert)!, value => Assert.True(float.IsFinite(value)));
        Assert.DoesNotContain(checkpoint.Tensors, tensor => tensor.Role is null);
    }

    [Fact]
    public void TheMtpBlockMayLieApart()
    {
        using var folder = new TempFolder();
        string whole = folder.File("whole.gguf");
        using (Checkpoint source = Checkpoint.Open(ModelFolders.Mtp))
            GgufExport.Write(source, whole, WeightType.BF16);
        string main = folder.File("main.gguf"), apart = folder.File("apart.gguf");
        ModelFolders.RewriteGguf(
            whole, main, key => key is not ("qwen35.block_count" or "qwen35.nextn_predict_layers"), writer => writer.Add("qwen35.block_count", 4u),
            tensor => tensor.Name.StartsWith("blk.4.", StringComparison.Ordinal) ? [] : ModelFolders.Same(tensor));
        ModelFolders.RewriteGguf(
            whole, apart, _ => true, _ => { }, tensor => tensor.Name.StartsWith("blk.", StringComparison.Ordinal) && !tensor.Name.StartsWith("blk.4.", StringComparison.Ordinal) ? [] : ModelFolders.Same(tensor));

        using (Checkpoint without = Checkpoint.Open(main))
            Assert.Equal(0, without.Config.MtpLayerCount);
        Assert.Contains("holds only an MTP head", Assert.Throws<BadModelFileException>(() => Checkpoint.Open(apart)).Message);
        Assert.Contains("tensor 'blk.3.nextn.eh_proj.weight' is missing", Assert.Throws<BadModelFileException>(() => Checkpoint.Open(main, main)).Message);
        using Checkpoint inside = Checkpoint.Open(whole), given = Checkpoint.Open(main, apart);
        File.Copy(apart, folder.File("mtp-main.gguf"));
        using Checkpoint beside = Checkpoint.Open(main);
        foreach ((TensorRole role, int layer, int expert) in ModelFolders.Places(inside.Config))
        {
            float[] expected = ModelFolders.Values(inside, role, layer, expert)!;
            Assert.Equal(expected, ModelFolders.Values(given, role, layer, expert)!);
            Assert.Equal(expected, ModelFolders.Values(beside, role, layer, expert)!);
        }
    }

    [Fact]
    public void AClaimedMtpBlockMayBeAbsent()
    {
        using var folder = new TempFolder();
        using (Checkpoint source = Checkpoint.Open(ModelFolders.Mtp))
            GgufExport.Write(source, folder.File("whole.gguf"), WeightType.BF16);
        ModelFolders.RewriteGguf(
            folder.File("whole.gguf"), folder.File("cut.gguf"), _ => true, _ => { }, tensor => tensor.Name.StartsWith("blk.4.", StringComparison.Ordinal) ? [] : ModelFolders.Same(tensor));
        using Checkpoint checkpoint = Checkpoint.Open(folder.File("cut.gguf"));
        Assert.Equal((4, 0), (checkpoint.Config.LayerCount, checkpoint.Config.MtpLayerCount));
    }

    [Fact]
    public void FusedExpertsAreTheSeparateOnes()
    {
        using var folder = new TempFolder();
        using (Checkpoint source = Checkpoint.Open(ModelFolders.Moe))
            GgufExport.Write(source, folder.File("separate.gguf"), WeightType.BF16);
        using GgufFile file = GgufFile.Open(folder.File("separate.gguf"));
        ModelFolders.RewriteGguf(folder.File("separate.gguf"), folder.File("fused.gguf"), _ => true, _ => { }, tensor =>
        {
            if (tensor.Name.EndsWith("ffn_up_exps.weight", StringComparison.Ordinal))
                return [];
            if (!tensor.Name.EndsWith("ffn_gate_exps.weight", StringComparison.Ordinal))
                return ModelFolders.Same(tensor);
            byte[] gate = ModelFolders.Bytes(tensor), up = ModelFolders.Bytes(file.Find(tensor.Name.Replace("gate", "up"))!);
            int half = gate.Length / 8;
            byte[] fused = [.. Enumerable.Range(0, 8).SelectMany(e => gate.Skip(e * half).Take(half).Concat(up.Skip(e * half).Take(half)))];
            return [(tensor.Name.Replace("ffn_gate_exps", "ffn_gate_up_exps"), tensor.Type, [128, 128, 8], fused)];
        });
        using Checkpoint separate = Checkpoint.Open(folder.File("separate.gguf")), together = Checkpoint.Open(folder.File("fused.gguf"));
        foreach ((TensorRole role, int layer, int expert) in ModelFolders.Places(separate.Config))
            Assert.Equal(ModelFolders.Values(separate, role, layer, expert)!, ModelFolders.Values(together, role, layer, expert)!);
        Assert.DoesNotContain(together.Tensors, tensor => tensor.Role is null);
    }

    [Fact]
    public void Nvfp4IsMultipliedByItsFactor()
    {
        using var folder = new TempFolder();
        byte[] blocks = new byte[WeightFormat.RowBytes(WeightType.NVFP4, 256) * 768];
        new Random(5).NextBytes(blocks);
        ModelFolders.RewriteGguf(ModelFolders.Gguf, folder.File("m.gguf"), _ => true, _ => { }, tensor => tensor.Name != "blk.1.ffn_up.weight"
            ? ModelFolders.Same(tensor)
            : [(tensor.Name, WeightType.NVFP4, [256, 768], blocks), ("blk.1.ffn_up.scale", WeightType.F32, [1], MemoryMarshal.AsBytes<float>([0.375f]).ToArray())]);
        var expected = new float[256 * 768];
        WeightFormat.Decode(WeightType.NVFP4, blocks, expected);
        using Checkpoint checkpoint = Checkpoint.Open(folder.File("m.gguf"));
        Assert.Null(checkpoint.Require(TensorRole.FfnUp, 1).Type);
        Assert.Equal(Array.ConvertAll(expected, value => value * 0.375f), ModelFolders.Values(checkpoint, TensorRole.FfnUp, 1)!);
        Assert.DoesNotContain(checkpoint.Tensors, tensor => tensor.Role is null);
    }

    [Fact]
    public void AFolderWithOneModelOpens()
    {
        using var folder = new TempFolder();
        Assert.Contains("expected config.json or one .gguf model in this folder, found 0", Assert.Throws<BadModelFileException>(() => Checkpoint.Open(folder.Path)).Message);
        File.Copy(ModelFolders.Gguf, folder.File("b.gguf"));
        File.WriteAllText(folder.File("mmproj-b.gguf"), "not opened");
        using (Checkpoint checkpoint = Checkpoint.Open(folder.Path))
            Assert.Equal(folder.File("b.gguf"), checkpoint.Path);
        File.Copy(ModelFolders.Gguf, folder.File("c.gguf"));
        Assert.Contains("found 2 .gguf models; name the file itself", Assert.Throws<BadModelFileException>(() => Checkpoint.Open(folder.Path)).Message);
        Assert.Contains("no such file or folder", Assert.Throws<BadModelFileException>(() => Checkpoint.Open(folder.File("d.gguf"))).Message);
        Assert.Contains("name the folder", Assert.Throws<BadModelFileException>(() => Checkpoint.Open(Path.Combine(ModelFolders.Dense, "model.safetensors"))).Message);
    }

    [Theory]
    [InlineData("missing", "tensor 'blk.2.ffn_down.weight' is missing")]
    [InlineData("shape", "tensor 'blk.2.ffn_down.weight': expected [256, 768] by the model's configuration, found [768, 256]")]
    public void AWrongTensorIsNamed(string fault, string message)
    {
        using var folder = new TempFolder();
        ModelFolders.RewriteGguf(ModelFolders.Gguf, folder.File("m.gguf"), _ => true, _ => { }, tensor => tensor.Name != "blk.2.ffn_down.weight"
            ? ModelFolders.Same(tensor)
            : fault == "missing" ? [] : [(tensor.Name, WeightType.Q8_0, [256, 768], new byte[WeightFormat.RowBytes(WeightType.Q8_0, 256) * 768])]);
        using Checkpoint checkpoint = Checkpoint.Open(folder.File("m.gguf"));
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => checkpoint.Require(TensorRole.FfnDown, 2)).Message);
    }

    [Theory]
    [InlineData("qwen35.block_count", null, "key 'qwen35.block_count' is missing")]
    [InlineData("qwen35.block_count", "x", "key 'qwen35.block_count': expected an integer, found string 'x'")]
    [InlineData("qwen35.block_count", -1, "key 'qwen35.block_count': expected a value from 1 to 4096, found i32 -1")]
    [InlineData("qwen35.nextn_predict_layers", 2, "key 'qwen35.nextn_predict_layers': expected a value from 0 to 1")]
    [InlineData("general.architecture", "llama", "architecture 'llama' is not supported; this program runs qwen35 and qwen35moe")]
    [InlineData("general.architecture", "clip", "this is a vision file")]
    [InlineData("general.architecture", "qwen35moe", "key 'qwen35moe.block_count' is missing")]
    [InlineData("qwen35.attention.head_count_kv", 4, "expected the attention heads to be a multiple of key/value heads (4), found 6")]
    [InlineData("qwen35.attention.key_length", 100, "key 'qwen35.attention.value_length': expected 100 as in 'qwen35.attention.key_length', found 128")]
    [InlineData("qwen35.rope.dimension_count", 30, "three rotary sections that add up to 15")]
    [InlineData("qwen35.rope.dimension_count", 130, "an even number of rotated dimensions from 2 to the head width 128, found 130")]
    [InlineData("qwen35.rope.dimension_sections", null, "key 'qwen35.rope.dimension_sections' is missing")]
    [InlineData("qwen35.rope.freq_base", 0.0f, "key 'qwen35.rope.freq_base': expected a value from 1 to")]
    [InlineData("qwen35.rope.freq_base", float.NaN, "key 'qwen35.rope.freq_base': expected a value from 1 to")]
    [InlineData("qwen35.attention.layer_norm_rms_epsilon", "tiny", "key 'qwen35.attention.layer_norm_rms_epsilon': expected a number, found string 'tiny'")]
    [InlineData("qwen35.ssm.group_count", 5, "expected the DeltaNet value heads to be a multiple of DeltaNet key heads (5), found 12")]
    [InlineData("qwen35.ssm.time_step_rank", 7, "key 'qwen35.ssm.inner_size': expected a multiple of the 7 value heads")]
    [InlineData("qwen35.ssm.state_size", 60, "expected the DeltaNet key head width to be a multiple of 8, found 60")]
    [InlineData("qwen35.embedding_length", true, "key 'qwen35.embedding_length': expected an integer, found bool true")]
    [InlineData("qwen35.rope.scaling.type", "linear", "key 'qwen35.rope.scaling.type': expected 'none' or 'yarn', found string 'linear'")]
    [InlineData("tokenizer.chat_template", 5, "key 'tokenizer.chat_template': expected a string, found i32 5")]
    public void AWrongKeyIsNamed(string key, object? value, string message)
    {
        using var folder = new TempFolder();
        string path = folder.File("m.gguf");
        ModelFolders.RewriteGguf(
            ModelFolders.Gguf, path, name => name != key,
            writer =>
            {
                switch (value)
                {
                    case int number: writer.Add(key, number); break;
                    case float number: writer.Add(key, number); break;
                    case bool truth: writer.Add(key, truth); break;
                    case string text: writer.Add(key, text); break;
                }
            },
            tensor => tensor.Name == "token_embd.weight" ? ModelFolders.Same(tensor) : []);
        Assert.Contains(message, Assert.Throws<BadModelFileException>(() => Checkpoint.Open(path)).Message);
    }

    [Fact]
    public void AValuePerLayerMustBeUniform()
    {
        using var folder = new TempFolder();
        ModelConfig Open(params int[] counts)
        {
            ModelFolders.RewriteGguf(
                ModelFolders.Gguf, folder.File("m.gguf"), name => name != "qwen35.attention.head_count_kv", writer => writer.Add("qwen35.attention.head_count_kv", counts),
                tensor => tensor.Name == "token_embd.weight" ? ModelFolders.Same(tensor) : []);
            using Checkpoint checkpoint = Checkpoint.Open(folder.File("m.gguf"));
            return checkpoint.Config;
        }

        Assert.Equal(2, Open(0, 0, 0, 2).KvHeads);
        Assert.Contains("key 'qwen35.attention.head_count_kv': expected one number", Assert.Throws<BadModelFileException>(() => Open(1, 0, 0, 2)).Message);
        Assert.Contains("key 'qwen35.attention.head_count_kv': expected a number from 1", Assert.Throws<BadModelFileException>(() => Open(0, 0, 0, 0)).Message);
    }

    [Theory]
    [InlineData("tokenizer.ggml.merges", "key 'tokenizer.ggml.merges' is missing")]
    [InlineData("tokenizer.ggml.tokens", "")]
    public void AnIncompleteTokenizerIsNamed(string key, string message)
    {
        using var folder = new TempFolder();
        ModelFolders.RewriteGguf(ModelFolders.Gguf, folder.File("m.gguf"), name => name != key, _ => { }, tensor => tensor.Name == "token_embd.weight" ? ModelFolders.Same(tensor) : []);
        using Checkpoint checkpoint = Checkpoint.Open(folder.File("m.gguf"));
        if (message.Length == 0)
            Assert.Null(checkpoint.LoadTokenizer());
        else
            Assert.Contains(message, Assert.Throws<BadModelFileException>(checkpoint.LoadTokenizer).Message);
    }
}
