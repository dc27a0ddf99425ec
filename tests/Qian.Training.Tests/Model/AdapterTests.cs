using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Verification;
using Qian.Kernels;
using Qian.Training.Model;

namespace Qian.Training.Tests.Model;

[Trait("Tier", "All")]
public sealed class AdapterTests
{
    private static readonly LoraOptions s_lora = new() { Rank = 4, Alpha = 12, Seed = 7 };

    // With W' = W + scale · B A trained in full: dB = scale · dW' Aᵀ and dA = scale · Bᵀ dW'.
    [Theory]
    [InlineData("text-dense-tiny")]
    [InlineData("text-moe-tiny")]
    public void GradientsFollowFromThoseOfTheWholeMatrix(string name)
    {
        string folder = Path.Combine(ModelFolders.Goldens, name);
        TrainingBatch batch = ModelFolders.Batch(ModelFolders.Prompt(folder).AsSpan(0, 48), 31, 17);
        var options = new TrainingModelOptions { MaxRows = 48 };
        using var team = new ThreadTeam(2);
        using TrainingModel adapter = TrainingModel.LowRank(folder, s_lora, options, team), whole = TrainingModel.Full(folder, options, team);
        FillB(adapter);
        Dictionary<string, Parameter> wholeByName = whole.Parameters.ToDictionary(parameter => parameter.Name);
        (Parameter A, Parameter B, Parameter W)[] targets = [.. Pairs(adapter).Select(pair => (pair.A, pair.B, wholeByName[BaseTensor(pair.A)]))];
        foreach ((Parameter a, Parameter b, Parameter w) in targets)
        {
            float[] product = Product(b.Value.Span, a.Value.Span, w.Rows, s_lora.Rank, w.Columns);
            for (int i = 0; i < product.Length; i++)
                w.Value.Span[i] += s_lora.Scale * product[i];
        }

        BatchLoss adapterLoss = adapter.ForwardBackward(batch, 1f), wholeLoss = whole.ForwardBackward(batch, 1f);
        Assert.Equal(wholeLoss.Mean, adapterLoss.Mean, 1e-4);
        Assert.Contains(targets, target => target.W.Name.Contains("linear_attn.in_proj_qkv", StringComparison.Ordinal));
        foreach ((Parameter a, Parameter b, Parameter w) in targets)
        {
            float[] dW = w.Gradient.Span.ToArray();
            float[] dB = Scaled(Product(dW, Transposed(a.Value.Span, s_lora.Rank, w.Columns), w.Rows, w.Columns, s_lora.Rank));
            float[] dA = Scaled(Product(Transposed(b.Value.Span, w.Rows, s_lora.Rank), dW, s_lora.Rank, w.Rows, w.Columns));
            Assert.True(Compare.RelativeL2(b.Gradient.Span, dB) < 5e-4, b.Name);
            Assert.True(Compare.RelativeL2(a.Gradient.Span, dA) < 5e-4, a.Name);
        }
    }

    [Fact]
    public void AFreshAdapterIsNothingYet()
    {
        TrainingBatch batch = ModelFolders.Batch(ModelFolders.Prompt(ModelFolders.Dense).AsSpan(0, 30), 30);
        var options = new TrainingModelOptions { MaxRows = 30 };
        using var team = new ThreadTeam(2);
        using TrainingModel adapter = TrainingModel.LowRank(ModelFolders.Dense, s_lora, options, team), whole = TrainingModel.Full(ModelFolders.Dense, options, team);
        Assert.Equal(whole.Evaluate(batch).Mean, adapter.Evaluate(batch).Mean, 1e-6);
        foreach ((Parameter a, Parameter b) in Pairs(adapter))
        {
            double bound = 1 / Math.Sqrt(a.Columns);
            Assert.All(a.Value.Span.ToArray(), value => Assert.InRange(value, -bound, bound));
            Assert.True(a.Value.Span.ToArray().Max() > 0.9 * bound);
            Assert.All(b.Value.Span.ToArray(), value => Assert.Equal(0, value));
        }
    }

    // QLoRA over a 4-bit file: a step along the gradient changes the loss by its squared length. The same under dropout, where a
    // pass of the same number leaves out the same values, also in a layer that is run twice.
    [Theory]
    [InlineData(0, false)]
    [InlineData(0.25, false)]
    [InlineData(0.25, true)]
    public void OverAQuantisedBaseTheLossChangesAsTheGradientSays(double dropout, bool recompute)
    {
        string file = Path.Combine(ModelFolders.Goldens, "gguf-tiny", "Q4_K_M.gguf");
        int[] tokens = [.. Enumerable.Range(0, 40).Select(i => i * 37 % 400)];
        TrainingBatch batch = ModelFolders.Batch(tokens, 25, 15);
        using var team = new ThreadTeam(2);
        using TrainingModel model = TrainingModel.LowRank(file, s_lora with { Dropout = dropout, UseRsLora = true }, new TrainingModelOptions { MaxRows = 40, Recompute = recompute }, team);
        FillB(model);
        model.PassIndex = 5;
        model.ForwardBackward(batch, 1f);
        float[] gradient = model.Store.Gradients.Span.ToArray(), values = model.Store.Values.Span.ToArray();
        double squared = gradient.Sum(value => (double)value * value);
        double step = 0.05 / squared, change = LossAt(step) - LossAt(-step);
        Assert.Equal(1, change / (2 * step * squared), 1e-2);

        double LossAt(double distance)
        {
            for (int i = 0; i < values.Length; i++)
                model.Store.Values.Span[i] = (float)(values[i] + distance * gradient[i]);
            model.PassIndex = 5;
            return model.ForwardBackward(batch, 1f).LossSum;
        }
    }

    [Fact]
    public void DropoutDependsOnThePassAndNotOnRecomputing()
    {
        TrainingBatch batch = ModelFolders.Batch(ModelFolders.Prompt(ModelFolders.Dense).AsSpan(0, 40), 40);
        (float[] plain, double loss) = Run(recompute: false, passIndex: 3);
        (float[] again, double lossAgain) = Run(recompute: true, passIndex: 3);
        Assert.Equal(plain, again);
        Assert.Equal(loss, lossAgain);
        Assert.NotEqual(loss, Run(recompute: false, passIndex: 4).Loss);

        (float[] Gradient, double Loss) Run(bool recompute, long passIndex)
        {
            using var team = new ThreadTeam(2);
            using TrainingModel model = TrainingModel.LowRank(ModelFolders.Dense, s_lora with { Dropout = 0.1 }, new TrainingModelOptions { MaxRows = 40, Recompute = recompute }, team);
            FillB(model);
            model.PassIndex = passIndex;
            double sum = model.ForwardBackward(batch, 1f).LossSum;
            return (model.Store.Gradients.Span.ToArray(), sum);
        }
    }

    // An adapter trained over a GGUF file, whose value heads stand in another order, is saved for the Hugging Face folder.
    [Fact]
    public void AnAdapterOverAGgufFitsTheHuggingFaceFolder()
    {
        using var folder = new TempFolder();
        string gguf = Path.Combine(folder.Path, "base.gguf"), peft = Path.Combine(folder.Path, "adapter");
        using (Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Dense))
            GgufExport.Write(checkpoint, gguf, WeightType.F32);
        TrainingBatch batch = ModelFolders.Batch(ModelFolders.Prompt(ModelFolders.Dense).AsSpan(0, 40), 40);
        var options = new TrainingModelOptions { MaxRows = 40 };
        using var team = new ThreadTeam(2);
        using TrainingModel ours = TrainingModel.LowRank(gguf, s_lora, options, team), theirs = TrainingModel.LowRank(ModelFolders.Dense, s_lora, options, team);
        FillB(ours);
        ours.Save(peft);
        using (GoldenTensors saved = GoldenTensors.Open(Path.Combine(peft, "adapter_model.safetensors")))
        {
            Assert.Equal(theirs.Parameters.Select(parameter => parameter.Name).Order(), saved.Names.Order());
            Assert.Contains("base_model.model.model.language_model.layers.0.linear_attn.in_proj_qkv.lora_A.weight", saved.Names);
            foreach (Parameter parameter in theirs.Parameters)
                saved.Floats(parameter.Name).CopyTo(parameter.Value.Span);
        }

        double bare = BareLoss();
        Assert.Equal(ours.Evaluate(batch).Mean, theirs.Evaluate(batch).Mean, 1e-5);
        Assert.True(Math.Abs(ours.Evaluate(batch).Mean - bare) > 0.01);
        using JsonDocument config = JsonDocument.Parse(File.ReadAllText(Path.Combine(peft, "adapter_config.json")));
        Assert.Equal((4, 12.0, "LORA"), (config.RootElement.GetProperty("r").GetInt32(), config.RootElement.GetProperty("lora_alpha").GetDouble(), config.RootElement.GetProperty("peft_type").GetString()));
        Assert.Equal(LoraOptions.AllTargets, config.RootElement.GetProperty("target_modules").EnumerateArray().Select(target => target.GetString()!));

        double BareLoss()
        {
            using TrainingModel model = TrainingModel.LowRank(gguf, s_lora, options, team);
            return model.Evaluate(batch).Mean;
        }
    }

    [Fact]
    public void WhatCannotBeTrainedIsRefused()
    {
        using var team = new ThreadTeam(1);
        var options = new TrainingModelOptions { MaxRows = 8 };
        Assert.Throws<BadRequestException>(() => TrainingModel.LowRank(ModelFolders.Dense, s_lora with { Rank = 0 }, options, team));
        Assert.Throws<BadRequestException>(() => TrainingModel.LowRank(ModelFolders.Dense, s_lora with { Targets = ["wq"] }, options, team));
        Assert.Throws<BadRequestException>(() => TrainingModel.LowRank(ModelFolders.Dense, s_lora with { Dropout = 1 }, options, team));
    }

    [Fact]
    public void TheEstimateIsWhatIsAllocated()
    {
        var options = new TrainingModelOptions { MaxRows = 100 };
        using var team = new ThreadTeam(2);
        using TrainingModel model = TrainingModel.LowRank(ModelFolders.Dense, s_lora with { Dropout = 0.1 }, options, team);
        using Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Dense);
        TrainingMemory estimate = TrainingMemory.Estimate(checkpoint, s_lora with { Dropout = 0.1 }, options, threadCount: 2);
        Assert.Equal(model.ScratchBytes, estimate.PassBytes);
        Assert.Equal(sizeof(float) * model.Parameters.Sum(parameter => parameter.Length), estimate.ParameterBytes);
    }

    // B begins at zero: give it something.
    private static void FillB(TrainingModel model)
    {
        var random = new Random(3);
        foreach ((_, Parameter b) in Pairs(model))
        {
            foreach (ref float value in b.Value.Span)
                value = (float)(random.NextDouble() - 0.5) * 0.1f;
        }
    }

    private static IEnumerable<(Parameter A, Parameter B)> Pairs(TrainingModel model)
    {
        Dictionary<string, Parameter> byName = model.Parameters.ToDictionary(parameter => parameter.Name);
        return byName.Values.Where(parameter => parameter.Name.Contains(".lora_A.", StringComparison.Ordinal))
            .Select(a => (a, byName[a.Name.Replace(".lora_A.", ".lora_B.", StringComparison.Ordinal)]));
    }

    private static string BaseTensor(Parameter a) => a.Name["base_model.model.".Length..].Replace(".lora_A.", ".", StringComparison.Ordinal);

    private static float[] Scaled(float[] values) => Array.ConvertAll(values, value => s_lora.Scale * value);

    private static float[] Transposed(ReadOnlySpan<float> matrix, int rows, int columns)
    {
        var result = new float[matrix.Length];
        for (int row = 0; row < rows; row++)
        {
            for (int column = 0; column < columns; column++)
                result[column * rows + row] = matrix[row * columns + column];
        }

        return result;
    }

    // [rows, inner] · [inner, columns]
    private static float[] Product(ReadOnlySpan<float> left, ReadOnlySpan<float> right, int rows, int inner, int columns)
    {
        var result = new float[rows * columns];
        for (int row = 0; row < rows; row++)
        {
            for (int column = 0; column < columns; column++)
            {
                double sum = 0;
                for (int k = 0; k < inner; k++)
                    sum += (double)left[row * inner + k] * right[k * columns + column];
                result[row * columns + column] = (float)sum;
            }
        }

        return result;
    }
}
