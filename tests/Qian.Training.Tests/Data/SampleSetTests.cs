using Qian.Inference;

namespace Qian.Training.Tests.Data;

public sealed class SampleSetTests
{
    [Fact]
    public void CopiesAreLeftOutAndCounted()
    {
        SampleSet set = SampleSet.Create([.. Samples(100), .. Samples(60)]);
        Assert.Equal(100, set.Training.Count);
        Assert.Equal(60, set.Statistics.DuplicateCount);
        Assert.Equal(set.Training.Sum(sample => sample.Tokens.Length), set.Statistics.TrainingTokenCount);
        Assert.Equal(set.Training.Sum(sample => sample.TargetCount), set.Statistics.TrainingTargetCount);
    }

    [Fact]
    public void TheSplitDependsOnSeedAndContentAlone()
    {
        Sample[] samples = [.. Samples(2000)];
        SampleSet set = SampleSet.Create(samples, 0.1, 7);
        SampleSet reversed = SampleSet.Create([.. Samples(3000).Reverse()], 0.1, 7);
        Assert.InRange(set.HeldOut.Count, 150, 250);
        Assert.Equal(2000, set.HeldOut.Count + set.Training.Count);
        Assert.Subset(Keys(reversed.HeldOut), Keys(set.HeldOut));
        Assert.Empty(Keys(reversed.Training).Intersect(Keys(reversed.HeldOut)));
        Assert.NotEqual(Keys(set.HeldOut), Keys(SampleSet.Create(samples, 0.1, 8).HeldOut));
    }

    [Fact]
    public void SamplesOfOneFileStayTogether()
    {
        SampleSet set = SampleSet.Create(Samples(1000).Select((sample, i) => sample with { SplitKey = $"file {i % 50}" }), 0.3, 1);
        Assert.NotEmpty(set.HeldOut);
        Assert.Empty(set.HeldOut.Select(sample => sample.SplitKey).Intersect(set.Training.Select(sample => sample.SplitKey)));
    }

    [Fact]
    public void WhatIsMeasuredIsNeverTrainedOn()
    {
        SampleSet set = SampleSet.Create(Samples(100), heldOut: Samples(10));
        Assert.Equal(10, set.HeldOut.Count);
        Assert.Equal(90, set.Training.Count);
        Assert.Empty(Keys(set.Training).Intersect(Keys(set.HeldOut)));
    }

    [Theory]
    [InlineData(-0.1)]
    [InlineData(1.0)]
    [InlineData(double.NaN)]
    public void AFractionOutOfRangeIsRefused(double fraction)
    {
        Assert.Throws<BadRequestException>(() => SampleSet.Create(Samples(1), fraction));
    }

    [Fact]
    public void RowsAfterTheLastTargetAreLeftOut()
    {
        Sample sample = Sample.FromTokens([5, 6, 7, 8, 9], [true, false, true, false, false], "x")!;
        Assert.Equal([5, 6], sample.Tokens);
        Assert.Equal([TrainingBatch.Ignored, 7], sample.Labels);
        Assert.Null(Sample.FromTokens([5, 6], [true, false], "x"));
        Assert.Null(Sample.FromTokens([], [], "x"));
    }

    private static HashSet<string> Keys(IEnumerable<Sample> samples) => [.. samples.Select(sample => sample.Source)];

    private static IEnumerable<Sample> Samples(int count)
    {
        for (int i = 0; i < count; i++)
            yield return Sample.FromTokens([i, i + 1, i / 7, 3], $"sample {i}")!;
    }
}
