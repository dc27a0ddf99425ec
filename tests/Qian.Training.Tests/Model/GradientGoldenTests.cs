using Qian.Inference.Verification;
using Qian.Training.Verification;

namespace Qian.Training.Tests.Model;

// d loss / d weight of every tensor, losses and optimiser runs against the original implementation's autograd. Run on every tier.
[Trait("Tier", "All")]
public sealed class GradientGoldenTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void EverythingLiesWithinTheFoldersBounds(bool recompute)
    {
        List<VerificationResult> results = GradientGoldens.Run(Path.Combine(ModelFolders.Goldens, "gradients"), "gradients", recompute: recompute);
        Assert.True(results.Count > 20);
        Assert.All(results, result => Assert.True(result.Passed, $"{result.Quantity}: {result.Value:g3} exceeds {result.Bound:g3} {result.Detail}"));
    }
}
