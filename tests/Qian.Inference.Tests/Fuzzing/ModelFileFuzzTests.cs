using System.Text;
using Qian.Inference.Formats;

namespace Qian.Inference.Tests.Fuzzing;

// Damaged model files open as something sound or not at all: the only exception is BadModelFileException, and the memory
// taken is bounded whatever the header claims. Everything that opens is read to the last row.
public sealed class ModelFileFuzzTests
{
    private const int Cases = 1500;
    private const long MostAllocatedBytes = 96 << 20;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void DamagedGgufFiles(bool moe)
    {
        byte[] original = TinyModel.Gguf(moe);
        int headerBytes = original.AsSpan().IndexOf("token_embd.weight"u8) + 4000;
        var mutator = new Mutator(moe ? 1 : 2, [.. Words("qwen35.block_count", "general.alignment", "split.count", "blk.0.ffn_up.weight", "GGUF", "\u0003\0\0\0", "\u0009\0\0\0\u0008\0\0\0")]);
        using var folder = new TempFolder();
        Run(mutator, () => File.WriteAllBytes(folder.File("m.gguf"), mutator.Mutate(original, headerBytes)), folder.File("m.gguf"));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void DamagedSafetensors(bool moe)
    {
        (byte[] config, byte[] weights) = TinyModel.HuggingFace(moe);
        int headerBytes = 8 + (int)BitConverter.ToInt64(weights);
        var mutator = new Mutator(moe ? 3 : 4, [.. Words("F32", "F8_E4M3", "\"shape\":[", "[[[[", "{", "}", "null", "-1", "\\ud800", ",\"dtype\":\"F64\"", "__metadata__", "_scale_inv")]);
        using var folder = new TempFolder();
        File.WriteAllBytes(folder.File("config.json"), config);
        Run(mutator, () => File.WriteAllBytes(folder.File("model.safetensors"), mutator.Mutate(weights, headerBytes)), folder.Path);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void DamagedConfigurations(bool moe)
    {
        (byte[] config, byte[] weights) = TinyModel.HuggingFace(moe);
        var mutator = new Mutator(moe ? 5 : 6, [.. Words("null", "true", "[]", "{}", "-1", "1e308", "\"x\"", "\\ud800", "\"yarn\"", "\"factor\":4,", "[[[[[[", "\"num_experts\":65536,", "99999")]);
        using var folder = new TempFolder();
        File.WriteAllBytes(folder.File("model.safetensors"), weights);
        Run(mutator, () => File.WriteAllBytes(folder.File("config.json"), mutator.Mutate(config)), folder.Path);
    }

    [Fact]
    public void DamagedSideFiles()
    {
        (byte[] config, byte[] weights) = TinyModel.HuggingFace(moe: false);
        byte[] generation = Encoding.UTF8.GetBytes("""{"bos_token_id": 1, "do_sample": true, "eos_token_id": [2, 1], "temperature": 1.0, "top_k": 20, "top_p": 0.95, "min_p": 0.1}""");
        byte[] tokenizer = Encoding.UTF8.GetBytes("""{"chat_template": [{"name": "default", "template": "{{ x }}"}], "eos_token": "<|im_end|>", "added_tokens_decoder": {"5": {"content": "a", "special": true}}}""");
        byte[] index = Encoding.UTF8.GetBytes("""{"metadata": {"total_size": 100}, "weight_map": {"lm_head.weight": "model.safetensors", "model.norm.weight": "model.safetensors"}}""");
        var mutator = new Mutator(7, [.. Words("null", "[]", "{}", "../", "/", "\\u0000", "\\ud800", "1e999", "-1", "\"model.safetensors\"")]);
        using var folder = new TempFolder();
        File.WriteAllBytes(folder.File("config.json"), config);
        File.WriteAllBytes(folder.File("model.safetensors"), weights);
        (string Name, byte[] Bytes)[] files = [("generation_config.json", generation), ("tokenizer_config.json", tokenizer), ("model.safetensors.index.json", index)];
        int next = 0;
        Run(mutator, () =>
        {
            // One at a time: the index seldom survives.
            foreach ((string name, byte[] bytes) in files)
                File.WriteAllBytes(folder.File(name), bytes);
            (string damaged, byte[] original) = files[next++ % files.Length];
            File.WriteAllBytes(folder.File(damaged), mutator.Mutate(original));
        }, folder.Path);
    }

    // What was damaged is a model that opens and can be read: else the cases above would prove nothing.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TheOriginalsAreSound(bool moe)
    {
        using var folder = new TempFolder();
        File.WriteAllBytes(folder.File("m.gguf"), TinyModel.Gguf(moe));
        (byte[] config, byte[] weights) = TinyModel.HuggingFace(moe);
        using var other = new TempFolder();
        File.WriteAllBytes(other.File("config.json"), config);
        File.WriteAllBytes(other.File("model.safetensors"), weights);
        foreach (string path in (string[])[folder.File("m.gguf"), other.Path])
        {
            using Checkpoint checkpoint = Checkpoint.Open(path);
            Assert.Equivalent(TinyModel.Config(moe) with { Name = checkpoint.Config.Name, ValueHeadsInterleaved = path.EndsWith(".gguf") }, checkpoint.Config, strict: true);
            ReadAll(checkpoint);
            Assert.Equal(path.EndsWith(".gguf"), checkpoint.LoadTokenizer() is not null);
        }
    }

    private static void Run(Mutator mutator, Action damage, string path)
    {
        int opened = 0, refused = 0, count = Mutator.Count(Cases);
        for (int i = 0; i < count; i++)
        {
            damage();
            long before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                using Checkpoint checkpoint = Checkpoint.Open(path);
                ReadAll(checkpoint);
                _ = checkpoint.LoadTokenizer();
                opened++;
            }
            catch (BadModelFileException)
            {
                refused++;
            }
            catch (Exception e)
            {
                Assert.Fail($"case {i} on {path}: {e}");
            }

            long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.True(allocated < MostAllocatedBytes, $"case {i} allocated {allocated} bytes");
        }

        // Damage that never, or always, is noticed would mean that the mutator is at fault.
        Assert.True(opened > count / 100, $"{opened} of {count} opened");
        Assert.True(refused > count / 100, $"{refused} of {count} refused");
    }

    // Every tensor that the configuration claims, up to the first that is missing or wrong.
    private static void ReadAll(Checkpoint checkpoint)
    {
        _ = checkpoint.WeightBytes;
        foreach ((TensorRole role, int layer, int expert) in Formats.ModelFolders.Places(checkpoint.Config))
        {
            TensorSource source = checkpoint.Require(role, layer, expert);
            var row = new float[source.ColumnCount];
            for (int i = 0; i < source.RowCount; i++)
                source.DecodeRows(i, 1, row);
            if (source.Type is not null)
                _ = source.Data.Span(0, (int)source.Data.Length).Length;
        }
    }

    private static IEnumerable<byte[]> Words(params string[] words) => words.Select(Encoding.UTF8.GetBytes);
}
