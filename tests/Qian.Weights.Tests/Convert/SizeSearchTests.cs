using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights.Tests;

public sealed class SizeSearchTests : IDisposable
{
    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("15.5GB", 15_500_000_000)]
    [InlineData("14gib", 14L << 30)]
    [InlineData("800 MB", 800_000_000)]
    [InlineData("1.5M", 1_500_000)]
    public void SizesAreRead(string text, long bytes) => Assert.Equal(bytes, SizeTarget.Parse(text));

    [Theory]
    [InlineData("15.5")]
    [InlineData("GB")]
    [InlineData("-1GB")]
    [InlineData("1e99GB")]
    [InlineData("0MB")]
    public void OtherSizesAreRefused(string text) => Assert.Contains(text, Assert.Throws<BadRequestException>(() => SizeTarget.Parse(text)).Message, StringComparison.Ordinal);

    // The file is never larger than asked for, and hardly smaller; a larger one costs less.
    [Fact]
    public void TheFileHasTheSizeAskedFor()
    {
        string input = SynthModels.Write(_folder, "hf/");
        long smallest = SynthModels.Convert(SynthModels.Request(input, _folder.File("q2.gguf"), "Q2_K")).FileBytes;
        long largest = SynthModels.Convert(SynthModels.Request(input, _folder.File("q8.gguf"), "Q8_0")).FileBytes;
        double cost = double.PositiveInfinity;
        foreach (double share in (double[])[0.3, 0.6, 0.9])
        {
            long target = smallest + (long)(share * (largest - smallest));
            (ConversionRequest request, SizeChoice choice) = SizedConversion.Choose(SynthModels.Request(input, _folder.File($"{share}.gguf"), "Q4_K_M"), target, [], null, null, default);
            long bytes = SynthModels.Convert(request).FileBytes;
            Assert.InRange(bytes, 0.97 * target, target);
            Assert.True(choice.Cost < cost);
            cost = choice.Cost;
        }
    }

    // The search is exact but for its last step: no choice of types by class and type alone that is as small costs less.
    [Fact]
    public void NoFixedTypeOfThatSizeCostsLess()
    {
        string input = SynthModels.Write(_folder, "hf/");
        ConversionRequest request = SynthModels.Request(input, _folder.File("m.gguf"), "Q4_K_M");
        using Checkpoint checkpoint = Checkpoint.Open(input);
        List<PlannedTensor> tensors = ConversionPlan.List(checkpoint, request);
        PlannedTensor[] matrices = [.. tensors.Where(tensor => !tensor.StaysFloat)];
        var errors = TensorErrors.Measure(matrices, checkpoint.Config, null, 1, null, default);
        foreach (WeightType type in (WeightType[])[WeightType.Q3_K, WeightType.Q4_K, WeightType.Q5_K, WeightType.Q6_K])
        {
            long bytes = tensors.Sum(tensor => (matrices.Contains(tensor) ? tensor with { Type = type } : tensor).ByteCount);
            double cost = matrices.Sum(tensor => errors[tensor][type] * (tensor.Layer == checkpoint.Config.LayerCount ? 0.1 : 1));
            SizeChoice choice = SizeSearch.Choose(tensors, new HashSet<string>(), errors, null, checkpoint.Config, bytes);
            Assert.True(choice.TensorBytes <= bytes && choice.Cost < cost, $"{type}: {choice.Cost} against {cost}");
        }
    }

    // A class that matters takes the bits of those that do not; what a rule fixes stays.
    [Fact]
    public void BitsGoWhereTheyMatter()
    {
        string input = SynthModels.Write(_folder, "hf/");
        ConversionRequest request = SynthModels.Request(input, _folder.File("m.gguf"), "Q4_K_M") with { Rules = [TensorRule.Parse("blk.0.ffn_gate=Q6_K")] };
        using Checkpoint checkpoint = Checkpoint.Open(input);
        List<PlannedTensor> tensors = ConversionPlan.List(checkpoint, request);
        PlannedTensor[] matrices = [.. tensors.Where(tensor => !tensor.StaysFloat)];
        var errors = TensorErrors.Measure(matrices, checkpoint.Config, null, 1, null, default);
        Dictionary<string, double> sensitivity = matrices.Select(tensor => tensor.Class).Distinct().ToDictionary(name => name, name => name == "ffn_down" ? 1.0 : 0.001);
        SizeChoice choice = SizeSearch.Choose(tensors, new HashSet<string> { "blk.0.ffn_gate.weight" }, errors, sensitivity, checkpoint.Config, tensors.Sum(tensor => tensor.ByteCount));
        Assert.False(choice.Types.ContainsKey("blk.0.ffn_gate.weight"));
        double down = Bits(choice, ".ffn_down"), up = Bits(choice, ".ffn_up");
        Assert.True(down > up + 1, $"{down} against {up}");
        Assert.Contains("--size", Assert.Throws<BadRequestException>(() => SizeSearch.Choose(tensors, new HashSet<string>(), errors, null, checkpoint.Config, 1000)).Message, StringComparison.Ordinal);
    }

    private static double Bits(SizeChoice choice, string name) => choice.Types.Where(entry => entry.Key.Contains(name, StringComparison.Ordinal) && !entry.Key.StartsWith("blk.4", StringComparison.Ordinal))
        .Average(entry => 8.0 * WeightFormat.BlockBytes(entry.Value) / WeightFormat.BlockValues(entry.Value));
}
