using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;
using Qian.Training.Model;

namespace Qian.Training.Tests.Model;

public sealed class TrainingMemoryTests
{
    // What passes get is what was estimated, to the byte.
    [Theory]
    [InlineData("text-dense-tiny", false)]
    [InlineData("text-moe-tiny", true)]
    [InlineData("mtp-tiny", false)]
    public void TheEstimateIsWhatIsAllocated(string name, bool recompute)
    {
        string folder = Path.Combine(ModelFolders.Goldens, name);
        var options = new TrainingModelOptions { MaxRows = 512, Recompute = recompute, MtpLossWeight = 1 };
        ModelConfig config;
        using (Checkpoint checkpoint = Checkpoint.Open(folder))
            config = checkpoint.Config;
        TrainingMemory estimate = TrainingMemory.Estimate(config, options, threadCount: 2);
        using var team = new ThreadTeam(2);
        using TrainingModel model = TrainingModel.Full(folder, options, team);
        long trained = sizeof(float) * model.Parameters.Sum(parameter => parameter.Length);
        Assert.Equal(model.ScratchBytes, estimate.PassBytes);
        Assert.Equal(trained, estimate.ParameterBytes);
        Assert.Equal(2 * trained, estimate.OptimizerBytes);
    }

    [Fact]
    public void RecomputingTakesLess()
    {
        using Checkpoint checkpoint = Checkpoint.Open(ModelFolders.Dense);
        var options = new TrainingModelOptions { MaxRows = 4096 };
        TrainingMemory kept = TrainingMemory.Estimate(checkpoint.Config, options, 2), again = TrainingMemory.Estimate(checkpoint.Config, options with { Recompute = true }, 2);
        Assert.True(again.PassBytes < kept.PassBytes / 2);
        Assert.Null(kept.Refusal(kept.TotalBytes, options));
        Assert.Contains("Recompute", kept.Refusal(kept.TotalBytes - 1, options)!, StringComparison.Ordinal);
    }
}
