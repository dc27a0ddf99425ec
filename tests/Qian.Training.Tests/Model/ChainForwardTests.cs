using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Verification;
using Qian.Kernels;
using Qian.Training.Model;

namespace Qian.Training.Tests.Model;

// The chain's forward pass is the inference network's, in another arrangement.
[Trait("Tier", "All")]
public sealed class ChainForwardTests
{
    [Theory]
    [InlineData("text-dense-tiny")]
    [InlineData("text-moe-tiny")]
    [InlineData("mtp-tiny")]
    public void HiddenRowsAreTheInferenceEngines(string name)
    {
        string folder = Path.Combine(ModelFolders.Goldens, name);
        int[] prompt = ModelFolders.Prompt(folder);
        using var team = new ThreadTeam(2);
        using TrainingModel model = TrainingModel.Full(folder, new TrainingModelOptions { MaxRows = prompt.Length }, team);
        BatchLoss loss = model.Evaluate(ModelFolders.Batch(prompt, prompt.Length));
        Assert.True(Compare.RelativeL2(model.Hidden.Span, InferenceHidden(folder, prompt)) < 1e-5);
        float[] logits = ModelFolders.Reference(folder, name == "mtp-tiny" ? "main_logits" : "logits");
        double expected = MeanLoss(logits, model.Config.VocabularySize, prompt.AsSpan(1));
        Assert.Equal(prompt.Length - 1, loss.TargetCount);
        Assert.Equal(expected, loss.Mean, 1e-4);
    }

    // Row i of the reference's MTP logits predicts token i + 2.
    [Fact]
    public void TheMtpLossIsThatOfTheReferencesLogits()
    {
        int[] prompt = ModelFolders.Prompt(ModelFolders.Mtp);
        using var team = new ThreadTeam(2);
        using TrainingModel model = TrainingModel.Full(ModelFolders.Mtp, new TrainingModelOptions { MaxRows = prompt.Length, MtpLossWeight = 0.5f }, team);
        BatchLoss loss = model.Evaluate(ModelFolders.Batch(prompt, prompt.Length));
        Assert.Equal(prompt.Length - 2, loss.MtpTargetCount);
        Assert.Equal(MeanLoss(ModelFolders.Reference(ModelFolders.Mtp, "mtp_logits"), model.Config.VocabularySize, prompt.AsSpan(2)), loss.MtpMean, 1e-4);
    }

    // Samples of one batch do not see each other: losses and gradients are the sums of those of the samples alone.
    [Theory]
    [InlineData("text-moe-tiny")]
    [InlineData("mtp-tiny")]
    public void SamplesOfABatchAreIndependent(string name)
    {
        string folder = Path.Combine(ModelFolders.Goldens, name);
        int[] tokens = ModelFolders.Prompt(folder)[..60];
        using var team = new ThreadTeam(2);
        using TrainingModel model = TrainingModel.Full(folder, new TrainingModelOptions { MaxRows = 60, MtpLossWeight = 0.5f }, team);
        BatchLoss together = model.ForwardBackward(ModelFolders.Batch(tokens, 35, 1, 2, 22), 0.1f);
        float[] gradient = model.Store.Gradients.Span.ToArray();
        model.ZeroGradients();
        BatchLoss apart = default;
        int first = 0;
        foreach (int length in (int[])[35, 1, 2, 22])
        {
            apart += model.ForwardBackward(ModelFolders.Batch(tokens.AsSpan(first, length), length), 0.1f);
            first += length;
        }

        Assert.Equal(together.TargetCount, apart.TargetCount);
        Assert.Equal(together.MtpTargetCount, apart.MtpTargetCount);
        Assert.Equal(together.LossSum, apart.LossSum, 1e-3);
        Assert.Equal(together.MtpLossSum, apart.MtpLossSum, 1e-3);
        Assert.True(Compare.RelativeL2(gradient, model.Store.Gradients.Span) < 1e-5);
    }

    [Fact]
    public void ABatchThatDoesNotFitTheModelIsRefused()
    {
        using var team = new ThreadTeam(1);
        using TrainingModel model = TrainingModel.Full(ModelFolders.Dense, new TrainingModelOptions { MaxRows = 64, MaxSampleCount = 1 }, team);
        Assert.Throws<ArgumentException>(() => model.Evaluate(ModelFolders.Batch(new int[65], 65)));
        Assert.Throws<ArgumentException>(() => model.Evaluate(ModelFolders.Batch(new int[64], 20, 20, 24)));
        Assert.Throws<ArgumentException>(() => model.Evaluate(ModelFolders.Batch([1, model.Config.VocabularySize, 1], 3)));
        Assert.Throws<ArgumentException>(() => model.Evaluate(new TrainingBatch(4)));
    }

    private static double MeanLoss(ReadOnlySpan<float> logits, int vocabulary, ReadOnlySpan<int> labels)
    {
        double sum = 0;
        for (int row = 0; row < labels.Length; row++)
        {
            ReadOnlySpan<float> values = logits.Slice(row * vocabulary, vocabulary);
            double normaliser = 0;
            foreach (float value in values)
                normaliser += Math.Exp(value);
            sum += Math.Log(normaliser) - values[labels[row]];
        }

        return sum / labels.Length;
    }

    private static float[] InferenceHidden(string folder, int[] prompt)
    {
        int rows = (prompt.Length + Network.BlockTokens) / Network.BlockTokens * Network.BlockTokens;
        var options = new EngineOptions { ExactArithmetic = true, KvType = KvType.F32, MaxBatchRows = Math.Max(128, rows) };
        using LoadedModel model = LoadedModel.Load(Checkpoint.Open(folder), options, rows, maxBlocks: rows / Network.BlockTokens + 1);
        using SequenceState sequence = model.NewSequence();
        Assert.True(sequence.TryReserve(prompt.Length));
        var batch = new ForwardBatch(model.Network.MaxRows);
        batch.Add(sequence, prompt);
        model.Network.Forward(batch);
        return model.Network.Hidden.Slice(0, (long)prompt.Length * model.Config.HiddenSize).Span.ToArray();
    }
}
