using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Verification;
using Qian.Kernels;

namespace Qian.Weights.Tests.Synth;

// Random weights are of use only while what flows through them stays finite and of order one, at the depth of the largest model.
public sealed class SynthActivationTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("tiny", 64, false, "m.gguf", "Q4_K_M")]
    [InlineData("tiny", 64, true, "m.gguf", "IQ2_XS")]
    [InlineData("tiny-moe", 12, false, "m.gguf", "MXFP4_MOE")]
    [InlineData("tiny", 24, false, "m.gguf", "NVFP4")]
    [InlineData("tiny", 24, true, "folder/", "BF16")]
    public void ActivationsStayOfOrderOne(string shape, int layerCount, bool tied, string name, string mix)
    {
        var request = new SynthRequest
        {
            Shape = SynthShape.Find(shape) with { LayerCount = layerCount, TiedEmbeddings = tied },
            Mix = QuantMix.Find(mix),
            WithMtp = true,
            Seed = 5,
            ChatTemplate = "",
            ThreadCount = 2,
        };
        SynthWriter.Write(_folder.File(name), request, null, default);
        var options = new EngineOptions { KvType = KvType.F32, LoadMtp = true, MaxBatchRows = 128 };
        using LoadedModel model = LoadedModel.Load(Checkpoint.Open(_folder.File(name)), options, contextLength: 256, maxBlocks: 64);
        using SequenceState sequence = model.NewSequence();
        using var tap = new ActivationTap(model.Network);
        int[] tokens = [.. Enumerable.Range(0, 96).Select(index => index * 37 % 480)];
        Assert.True(sequence.TryReserve(tokens.Length));
        var batch = new ForwardBatch(model.Network.MaxRows);
        batch.Add(sequence, tokens);
        model.Network.Forward(batch);
        double first = Deviation(tap.Get("layer_input", 0).AsSpan(0, tokens.Length * 256));
        for (int layer = 0; layer < layerCount; layer++)
            Assert.InRange(Deviation(tap.Get("layer_output", layer).AsSpan(0, tokens.Length * 256)), 0.9 * first, first + 2);

        int[] rows = [.. Enumerable.Range(0, tokens.Length)];
        using NativeBuffer logits = NativeBuffer.AllocateFloats((long)rows.Length * model.Config.VocabularySize);
        model.Network.Logits(rows, logits.AllFloats);
        Assert.InRange(Deviation(logits.AllFloats.Span), 2, 4);
    }

    private static double Deviation(ReadOnlySpan<float> values)
    {
        double squares = 0;
        foreach (float value in values)
            squares += (double)value * value;
        return Math.Sqrt(squares / values.Length);
    }
}
