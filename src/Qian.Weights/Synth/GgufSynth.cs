using System.Runtime.InteropServices;
using System.Text;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Text;
using Qian.Kernels;

namespace Qian.Weights;

// A made-up model as GGUF: the keys and the tensor list that llama.cpp's converter and quantizer leave for a real one. Random
// weights need none of the converter's transforms, only values that look like their results.
internal static class GgufSynth
{
    private const uint QuantizationVersion = 2;

    // Returns the file's size.
    public static long Write(string path, SynthPlan plan, IProgress<SynthProgress>? progress, CancellationToken cancellation)
    {
        ModelConfig config = plan.Config;
        QuantMix mix = plan.Request.Mix;
        (string[] tokens, int[] tokenTypes, string[] merges) = plan.Tokenizer.ToGguf();
        var chunks = new List<Chunk>();
        var entries = new List<(string Name, WeightType Type, long[] Sizes)>();
        foreach (SynthTensor tensor in plan.Tensors)
            AddTensor(plan, tensor, mix.TypeOf(tensor.Role, tensor.Layer, tensor.Columns, config), entries, chunks);
        long tensorBytes = chunks.Sum(chunk => (long)chunk.ByteCount);
        long textBytes = tokens.Concat(merges).Sum(text => 8L + Encoding.UTF8.GetByteCount(text)) + 4L * tokens.Length;
        SynthWriter.CheckRoom(path, tensorBytes + textBytes + 64L * entries.Count);

        using var writer = new GgufWriter(path);
        AddKeys(writer, plan);
        AddTokenizer(writer, plan.Tokenizer, tokens, tokenTypes, merges, plan.Request.ChatTemplate);
        foreach ((string name, WeightType type, long[] sizes) in entries)
            writer.Declare(name, type, sizes);
        long doneBytes = 0;
        new ChunkPipeline(chunks, plan.Request.ThreadCount).Run(
            (chunk, bytes) =>
            {
                writer.Write(bytes.Span);
                doneBytes += chunk.ByteCount;
                progress?.Report(new SynthProgress(doneBytes, tensorBytes, chunk.TensorName));
            },
            cancellation);
        writer.Complete();
        return new FileInfo(path).Length;
    }

    private static void AddTensor(SynthPlan plan, SynthTensor tensor, WeightType type, List<(string Name, WeightType Type, long[] Sizes)> entries, List<Chunk> chunks)
    {
        string name = TensorNames.Gguf(tensor.Role, tensor.Layer);
        bool vector = TensorShapes.IsVector(tensor.Role) || tensor.Role == TensorRole.SharedExpertGate;
        entries.Add((name, type, vector ? [tensor.Columns] : TensorShapes.IsExpert(tensor.Role) ? [tensor.Columns, tensor.Rows, tensor.ExpertCount] : [tensor.Columns, tensor.Rows]));
        if (TensorShapes.IsVector(tensor.Role))
            chunks.Add(new Chunk(name, MemoryMarshal.AsBytes<float>(tensor.Vector(plan.Key(tensor, 0), zeroCentred: false, logDecay: false)).ToArray()));
        else
            plan.AddChunks(chunks, name, tensor, type);
        if (type != WeightType.NVFP4)
            return;
        // One factor per matrix.
        string factorName = name[..^"weight".Length] + "scale";
        var factors = new float[tensor.ExpertCount];
        factors.AsSpan().Fill(RandomBlocks.Nvfp4Factor(tensor.Deviation));
        entries.Add((factorName, WeightType.F32, [tensor.ExpertCount]));
        chunks.Add(new Chunk(factorName, MemoryMarshal.AsBytes<float>(factors).ToArray()));
    }

    private static void AddKeys(GgufWriter writer, SynthPlan plan)
    {
        ModelConfig config = plan.Config;
        string p = config.Architecture + ".";
        writer.Add("general.architecture", config.Architecture);
        writer.Add("general.type", "model");
        writer.Add("general.name", config.Name);
        writer.Add("general.file_type", (uint)plan.Request.Mix.FileType);
        writer.Add("general.quantization_version", QuantizationVersion);
        writer.Add(p + "block_count", (uint)(config.LayerCount + config.MtpLayerCount));
        writer.Add(p + "context_length", (uint)config.ContextLength);
        writer.Add(p + "embedding_length", (uint)config.HiddenSize);
        if (!config.IsMoe)
            writer.Add(p + "feed_forward_length", (uint)config.IntermediateSize);
        writer.Add(p + "attention.head_count", (uint)config.AttentionHeads);
        writer.Add(p + "attention.head_count_kv", (uint)config.KvHeads);
        writer.Add(p + "attention.key_length", (uint)config.HeadDim);
        writer.Add(p + "attention.value_length", (uint)config.HeadDim);
        writer.Add(p + "attention.layer_norm_rms_epsilon", config.NormEpsilon);
        writer.Add(p + "rope.dimension_count", (uint)config.RotaryDim);
        writer.Add(p + "rope.dimension_sections", (ReadOnlySpan<int>)[.. config.RopeSections, 0]);
        writer.Add(p + "rope.freq_base", (float)config.RopeTheta);
        writer.Add(p + "ssm.conv_kernel", (uint)config.ConvKernel);
        writer.Add(p + "ssm.state_size", (uint)config.LinearKeyDim);
        writer.Add(p + "ssm.group_count", (uint)config.LinearKeyHeads);
        writer.Add(p + "ssm.time_step_rank", (uint)config.LinearValueHeads);
        writer.Add(p + "ssm.inner_size", (uint)(config.LinearValueHeads * config.LinearValueDim));
        writer.Add(p + "full_attention_interval", (uint)plan.Request.Shape.FullAttentionInterval);
        if (config.MtpLayerCount > 0)
            writer.Add(p + "nextn_predict_layers", (uint)config.MtpLayerCount);
        if (!config.IsMoe)
            return;
        writer.Add(p + "expert_count", (uint)config.ExpertCount);
        writer.Add(p + "expert_used_count", (uint)config.ExpertsPerToken);
        writer.Add(p + "expert_feed_forward_length", (uint)config.ExpertIntermediateSize);
        writer.Add(p + "expert_shared_feed_forward_length", (uint)config.SharedExpertIntermediateSize);
    }

    private static void AddTokenizer(GgufWriter writer, TokenizerSpec tokenizer, string[] tokens, int[] tokenTypes, string[] merges, string chatTemplate)
    {
        writer.Add("tokenizer.ggml.model", "gpt2");
        writer.Add("tokenizer.ggml.pre", tokenizer.PreTokenizer == PreTokenizer.Qwen2 ? "qwen2" : "qwen35");
        writer.Add("tokenizer.ggml.tokens", tokens);
        writer.Add("tokenizer.ggml.token_type", tokenTypes);
        writer.Add("tokenizer.ggml.merges", merges);
        if (tokenizer.EosId is { } eos)
            writer.Add("tokenizer.ggml.eos_token_id", (uint)eos);
        if (tokenizer.PaddingId is { } padding)
            writer.Add("tokenizer.ggml.padding_token_id", (uint)padding);
        if (tokenizer.BosId is { } bos)
            writer.Add("tokenizer.ggml.bos_token_id", (uint)bos);
        writer.Add("tokenizer.ggml.add_bos_token", false);
        writer.Add("tokenizer.chat_template", chatTemplate);
    }
}
