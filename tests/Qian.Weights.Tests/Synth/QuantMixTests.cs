using System.Globalization;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights.Tests.Synth;

public sealed class QuantMixTests
{
    private static readonly string[] s_typesNotRead = ["TQ1_0", "TQ2_0"];

    [Fact]
    public void EveryTensorOf27BHasTheTypeThatLlamaCppGivesIt()
    {
        ModelConfig config = SynthShape.Find("qwen3.6-27b").ToConfig(null, withMtp: false, 248320);
        List<SynthTensor> tensors = SynthTensor.List(config);
        var unread = new List<string>();
        var wrong = new List<string>();
        int comparedCount = 0;
        foreach (Section section in Sections())
        {
            if (!QuantMix.All.Any(mix => mix.Name == section.Name))
            {
                unread.Add(section.Name);
                continue;
            }

            QuantMix mix = QuantMix.Find(section.Name);
            var names = new HashSet<string>();
            foreach (SynthTensor tensor in tensors)
            {
                string name = TensorNames.Gguf(tensor.Role, tensor.Layer);
                WeightType expected = tensor.Rows == 1 || tensor.Role == TensorRole.LinearConv
                    ? WeightType.F32
                    : section.Overrides.GetValueOrDefault(name, section.Default);
                WeightType found = mix.TypeOf(tensor.Role, tensor.Layer, tensor.Columns, config);
                if (found != expected)
                    wrong.Add($"{section.Name} {name}: {found}, expected {expected}");
                names.Add(name);
                comparedCount++;
            }

            wrong.AddRange(section.Overrides.Keys.Where(name => !names.Contains(name)).Select(name => $"{section.Name} {name}: no such tensor"));
        }

        Assert.Empty(wrong);
        Assert.Equal(s_typesNotRead, unread);
        Assert.Equal(31 * 851, comparedCount);
    }

    [Theory]
    [InlineData("Q4_K_M", nameof(TensorRole.FfnDown), 64, WeightType.Q6_K)] // the MTP layer is the last of 65
    [InlineData("Q4_K_M", nameof(TensorRole.FfnDown), 8, WeightType.Q4_K)]
    [InlineData("Q4_K_M", nameof(TensorRole.MtpProjection), 64, WeightType.Q4_K)]
    [InlineData("Q4_K_M", nameof(TensorRole.MtpHiddenNorm), 64, WeightType.F32)]
    [InlineData("F16", nameof(TensorRole.MtpProjection), 64, WeightType.F16)]
    public void TheMtpLayerCountsAsTheLast(string name, string role, int layer, WeightType expected)
    {
        ModelConfig config = SynthShape.Find("qwen3.6-27b").ToConfig(null, withMtp: true, 248320);
        Assert.Equal(expected, QuantMix.Find(name).TypeOf(Enum.Parse<TensorRole>(role), layer, 5120, config));
    }

    [Theory]
    [InlineData("MXFP4_MOE", nameof(TensorRole.ExpertUp), 0, WeightType.MXFP4)]
    [InlineData("MXFP4_MOE", nameof(TensorRole.SharedUp), 0, WeightType.Q8_0)]
    [InlineData("MXFP4_MOE", nameof(TensorRole.AttentionQ), 3, WeightType.Q8_0)]
    [InlineData("Q4_K_M", nameof(TensorRole.ExpertDown), 0, WeightType.Q6_K)]
    [InlineData("Q4_K_M", nameof(TensorRole.SharedDown), 4, WeightType.Q6_K)]
    [InlineData("Q4_K_M", nameof(TensorRole.RouterGate), 0, WeightType.F32)]
    [InlineData("IQ2_XS", nameof(TensorRole.ExpertDown), 2, WeightType.Q2_K)]
    [InlineData("IQ2_XS", nameof(TensorRole.SharedDown), 2, WeightType.IQ2_XS)]
    [InlineData("IQ2_XS", nameof(TensorRole.ExpertDown), 3, WeightType.IQ2_XS)]
    public void ExpertsFollowTheRulesOfTheirKind(string name, string role, int layer, WeightType expected)
    {
        ModelConfig config = SynthShape.Find("qwen3.6-35b-a3b").ToConfig(null, withMtp: false, 248320);
        Assert.Equal(expected, QuantMix.Find(name).TypeOf(Enum.Parse<TensorRole>(role), layer, 2048, config));
    }

    [Theory]
    [InlineData("Q4_K_M", true, WeightType.Q6_K)]
    [InlineData("IQ2_XXS", true, WeightType.Q5_K)]
    [InlineData("IQ2_XXS", false, WeightType.Q2_K)]
    [InlineData("Q8_0", true, WeightType.Q8_0)]
    [InlineData("BF16", true, WeightType.BF16)]
    public void ATiedEmbeddingIsTreatedAsTheOutput(string name, bool tied, WeightType expected)
    {
        ModelConfig config = SynthShape.Find("qwen3.5-4b").ToConfig(null, withMtp: false, 248320) with { TiedEmbeddings = tied };
        Assert.Equal(expected, QuantMix.Find(name).TypeOf(TensorRole.TokenEmbedding, -1, 2560, config));
    }

    [Theory]
    [InlineData("Q2_K", 96, WeightType.Q4_0)]
    [InlineData("Q4_K_S", 96, WeightType.Q5_0)]
    [InlineData("Q5_K_S", 96, WeightType.Q5_1)]
    [InlineData("Q6_K", 96, WeightType.Q8_0)]
    [InlineData("IQ4_XS", 96, WeightType.IQ4_NL)]
    [InlineData("IQ3_S", 96, WeightType.IQ4_NL)]
    [InlineData("Q4_K_S", 100, WeightType.F16)]
    [InlineData("Q8_0", 100, WeightType.F16)]
    public void RowsThatAreNotWholeBlocksGetAShorterBlock(string name, int columnCount, WeightType expected)
    {
        ModelConfig config = SynthShape.Find("tiny").ToConfig(null, withMtp: false, 512);
        Assert.Equal(expected, QuantMix.Find(name).TypeOf(TensorRole.LinearZ, 0, columnCount, config));
    }

    [Fact]
    public void AnUnknownNameListsWhatExists()
    {
        var error = Assert.Throws<BadRequestException>(() => QuantMix.Find("Q4_K"));
        Assert.Contains("Q4_K_M", error.Message, StringComparison.Ordinal);
        error = Assert.Throws<BadRequestException>(() => SynthShape.Find("qwen4"));
        Assert.Contains("qwen3.6-35b-a3b", error.Message, StringComparison.Ordinal);
        Assert.Equal("Q4_K_M", QuantMix.Find("q4_k_m").Name);
    }

    private static List<Section> Sections()
    {
        var sections = new List<Section>();
        foreach (string line in File.ReadLines(TestFolder.Data("quantize-schema", "qwen3.6-27b.txt")))
        {
            string[] words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length != 2)
                continue; // comments and blank lines
            Assert.True(WeightFormat.TryParse(words[1], out WeightType type) || words[1].StartsWith("tq", StringComparison.Ordinal), line);
            if (words[0][0] == '[')
                sections.Add(new Section(words[0].Trim('[', ']'), type, new Dictionary<string, WeightType>()));
            else
                sections[^1].Overrides.Add(words[0], type);
        }

        return sections;
    }

    private sealed record Section(string Name, WeightType Default, Dictionary<string, WeightType> Overrides);
}
