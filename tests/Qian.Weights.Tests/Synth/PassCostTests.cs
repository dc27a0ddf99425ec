using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Measurement;
using Qian.Kernels;

namespace Qian.Weights.Tests.Synth;

// What a pass touches and multiplies, on the published shapes, against figures worked out elsewhere.
public sealed class PassCostTests
{
    private const long KvBytesPerToken = 16 * 2 * 4 * 256 * 2;   // 27B: 16 attention layers, K and V, 4 heads of 256, f16

    [Fact]
    public void ADecodedTokenOf27BReadsWhatIsKnown()
    {
        PassCost cost = CostOf("qwen3.6-27b", "Q4_K_M");
        // 15.81 GB of weights in the file's types, without the embedding and the MTP head.
        Assert.InRange((cost.TrunkBytes(1) + cost.HeadBytes) / 15.81e9, 0.97, 1.03);
        // Then the state of 48 layers (48 heads of 128 x 128, and a window of 3 x 10240), read and written, and the context.
        double state = 48 * (48 * 128 * 128 + 3 * 10240) * 4.0;
        Assert.Equal(2 * state, cost.DecodeBytes(1, 0) - cost.TrunkBytes(1) - cost.HeadBytes, 1.0);
        Assert.Equal(32768.0 * KvBytesPerToken, cost.DecodeBytes(1, 32768) - cost.DecodeBytes(1, 0), 1.0);
        Assert.Equal(3 * (2 * state + 100.0 * KvBytesPerToken), cost.DecodeBytes(4, 100) - cost.DecodeBytes(1, 100), 1.0);
    }

    [Fact]
    public void APrefilledTokenOf27BTakesWhatIsKnown()
    {
        PassCost cost = CostOf("qwen3.6-27b", "Q4_K_M");
        Assert.InRange(cost.MacsPerRow / 24.35e9, 0.9995, 1.0005);
        Assert.Equal(248320.0 * 5120, cost.HeadMacs);
        Assert.Equal(512 * cost.MacsPerRow + cost.HeadMacs, cost.PrefillMacs(512));
        Assert.Equal(4 * (cost.MacsPerRow + cost.HeadMacs), cost.DecodeMacs(4));
    }

    [Fact]
    public void APromptReadsTheTrunkOncePerPassAndTheHeadOnce()
    {
        PassCost cost = CostOf("qwen3.6-27b", "Q4_K_M");
        double pass = cost.PrefillBytes(512, 512) - cost.HeadBytes;
        // The second pass reads the keys of the first once more.
        Assert.Equal(2 * pass + 512.0 * KvBytesPerToken, cost.PrefillBytes(1024, 512) - cost.HeadBytes, 1.0);
    }

    // 35B-A3B: 8 of 256 experts for one token.
    [Fact]
    public void AMixtureReadsOnlyChosenExperts()
    {
        PassCost cost = CostOf("qwen3.6-35b-a3b", "Q8_0");
        double expert = 3 * 2048.0 * 512, all = 40 * 256 * expert;
        Assert.Equal(40 * 8 * expert, cost.MacsPerRow - CostOf("qwen3.6-35b-a3b", "Q8_0", withExperts: false).MacsPerRow, 1.0);
        // 30 DeltaNet layers (8192 + 4096 + 2 x 32 rows in, 4096 columns out), 10 of attention (8192 + 2 x 512 in, 4096 out), and
        // in all 40 a router of 256 rows, the shared expert and its gate.
        double mixers = 30 * (8192 + 4096 + 64 + 4096) * 2048.0 + 10 * (8192 + 1024 + 4096) * 2048.0;
        Assert.Equal(mixers + 40 * (256 * 2048 + 9 * expert + 2048), cost.MacsPerRow, 1.0);
        double dense = CostOf("qwen3.6-35b-a3b", "Q8_0", withExperts: false).TrunkBytes(1), bytes = all * 34 / 32;
        Assert.Equal(bytes * 8 / 256, cost.TrunkBytes(1) - dense, 1e3);
        Assert.InRange(cost.TrunkBytes(8) - dense, bytes * 7.0 * 8 / 256, bytes * 8.0 * 8 / 256);   // a few rows share an expert
        Assert.InRange(cost.TrunkBytes(4096) - dense, 0.999 * bytes, bytes);
    }

    private static PassCost CostOf(string shape, string mixName, bool withExperts = true)
    {
        ModelConfig config = SynthShape.Find(shape).ToConfig(null, withMtp: false, 248320);
        QuantMix mix = QuantMix.Find(mixName);
        var weights = new List<WeightUse>();
        foreach (SynthTensor tensor in SynthTensor.List(config))
        {
            if (!withExperts && TensorShapes.IsExpert(tensor.Role))
                continue;
            WeightType type = mix.TypeOf(tensor.Role, tensor.Layer, tensor.Columns, config);
            weights.Add(new WeightUse(tensor.Role, tensor.Rows, tensor.Columns, tensor.Rows * WeightFormat.RowBytes(type, tensor.Columns), tensor.ExpertCount));
        }

        return new PassCost(config, weights, KvBytesPerToken);
    }
}
