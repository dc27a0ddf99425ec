using System.Runtime.InteropServices;
using System.Text;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// A made-up model as GGUF: the keys and the tensor list that llama.cpp's converter and quantizer leave for a real one. Random
// weights need none of the converter's transforms, only values that look like their results.
internal static class GgufSynth
{
    // Returns the file's size.
    public static long Write(string path, SynthPlan plan, IProgress<SynthProgress>? progress, CancellationToken cancellation)
    {
        ModelConfig config = plan.Config;
        QuantMix mix = plan.Request.Mix;
        (string[] tokens, _, string[] merges) = plan.Tokenizer.ToGguf();
        var chunks = new List<Chunk>();
        var entries = new List<(string Name, WeightType Type, long[] Sizes)>();
        foreach (SynthTensor tensor in plan.Tensors)
            AddTensor(plan, tensor, mix.TypeOf(tensor.Role, tensor.Layer, tensor.Columns, config), entries, chunks);
        long tensorBytes = chunks.Sum(chunk => (long)chunk.ByteCount);
        long textBytes = tokens.Concat(merges).Sum(text => 8L + Encoding.UTF8.GetByteCount(text)) + 4L * tokens.Length;
        SynthWriter.CheckRoom(path, tensorBytes + textBytes + 64L * entries.Count);

        using var writer = new GgufWriter(path);
        GgufMetadata.Write(writer, config, mix.FileType);
        GgufMetadata.WriteTokenizer(writer, plan.Tokenizer, plan.Request.ChatTemplate);
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
            chunks.Add(new GivenChunk(name, MemoryMarshal.AsBytes<float>(tensor.Vector(plan.Key(tensor, 0), zeroCentred: false, logDecay: false)).ToArray()));
        else
            plan.AddChunks(chunks, name, tensor, type);
        if (type != WeightType.NVFP4)
            return;
        // The type's own scales cannot be small enough; one factor for the tensor makes up for it.
        string factorName = name[..^"weight".Length] + "scale";
        entries.Add((factorName, WeightType.F32, [1]));
        chunks.Add(new GivenChunk(factorName, BitConverter.GetBytes(RandomBlocks.Nvfp4Factor(tensor.Deviation))));
    }
}
