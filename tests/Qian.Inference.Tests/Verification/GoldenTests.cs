using Qian.Inference.Verification;
using Qian.Kernels;

namespace Qian.Inference.Tests.Verification;

// Every golden folder of the repository, through the same code as `qian verify`. Run on every tier.
[Trait("Tier", "All")]
public sealed class GoldenTests
{
    public static TheoryData<string> Folders()
    {
        var data = new TheoryData<string>();
        foreach (VerificationTarget target in VerificationTarget.Find([GoldenFolders.Goldens]))
            data.Add(Path.GetFileName(target.Path));
        return data;
    }

    [Theory]
    [MemberData(nameof(Folders))]
    public void EverythingLiesWithinTheFoldersBounds(string folder)
    {
        VerificationTarget target = Assert.Single(VerificationTarget.Find([Path.Combine(GoldenFolders.Goldens, folder)]));
        List<VerificationResult> results = target.Run(KvType.F32, progress: null);
        Assert.NotEmpty(results);
        Assert.All(results, result => Assert.True(result.Passed, $"{result.Subject}: {result.Quantity}: {result.Value:g3} exceeds {result.Bound:g3} {result.Detail}"));
    }

    [Fact]
    public void EveryKindOfGoldenIsThere()
    {
        TargetKind[] kinds = [.. VerificationTarget.Find([GoldenFolders.Goldens]).Select(target => target.Kind).Distinct().Order()];
        Assert.Equal([TargetKind.ModelGoldens, TargetKind.GgufGoldens, TargetKind.OpGoldens, TargetKind.BlockGoldens], kinds);
    }

    [Theory]
    [InlineData(KvType.F16)]
    [InlineData(KvType.Q8_0)]
    public void InvariantsHoldOnAQuantisedFile(KvType kv)
    {
        List<VerificationResult> results = Invariants.Run(Path.Combine(GoldenFolders.Goldens, "gguf-tiny", "Q4_K_M.gguf"), "gguf-tiny", kv);
        Assert.All(results, result => Assert.True(result.Passed, $"{result.Quantity}: {result.Value:g3} exceeds {result.Bound:g3}"));
    }

    [Theory]
    [InlineData("text-dense-tiny")]
    [InlineData("text-moe-tiny")]
    public void InvariantsHoldOnAFloatFolder(string folder)
    {
        List<VerificationResult> results = Invariants.Run(Path.Combine(GoldenFolders.Goldens, folder), folder, KvType.F16);
        Assert.All(results, result => Assert.True(result.Passed, $"{result.Quantity}: {result.Value:g3} exceeds {result.Bound:g3}"));
    }
}
