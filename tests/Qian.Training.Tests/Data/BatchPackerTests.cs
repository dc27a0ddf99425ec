using Qian.Inference;

namespace Qian.Training.Tests.Data;

public sealed class BatchPackerTests
{
    [Theory]
    [InlineData(512, 20, 200, 512)]
    [InlineData(1024, 100, 400, 512)]
    [InlineData(4096, 20, 512, 512)]
    [InlineData(2048, 1, 3000, 512)]
    [InlineData(512, 60, 350, 512)]
    public void NearlyAllRowsAreUsed(int maxRows, int shortest, int longest, int limit)
    {
        Sample[] samples = Random(3000, shortest, longest);
        var packer = new BatchPacker(samples, new PackingOptions { MaxRows = maxRows, MaxSampleRows = limit, Seed = 1 });
        const int Steps = 300;
        for (int i = 0; i < Steps; i++)
            packer.NextStep();
        double used = (double)packer.RowsDone / ((long)Steps * maxRows);
        Assert.True(used > 0.97, $"{used:P2} of the rows are used");
    }

    [Fact]
    public void EverySampleIsTakenOncePerEpoch()
    {
        Sample[] samples = Random(2000, 5, 60);
        var packer = new BatchPacker(samples, new PackingOptions { MaxRows = 256, MicroBatchCount = 2, Seed = 3 });
        var batch = new TrainingBatch(256);
        var counts = new int[samples.Length];
        while (packer.EpochsDone < 3)
        {
            packer.NextStep();
            for (int m = 0; m < 2; m++)
            {
                packer.Fill(m, batch);
                for (int s = 0; s < batch.SampleCount; s++)
                    counts[batch.TokenIds[batch.Borders[s]]]++;
            }
        }

        // Three epochs, give or take what waits in the window.
        Assert.All(counts, count => Assert.InRange(count, 2, 4));
        Assert.True(counts.Count(count => count == 3) > 1700);
    }

    [Fact]
    public void SeekingGivesTheSameSteps()
    {
        Sample[] samples = Random(500, 5, 120);
        var options = new PackingOptions { MaxRows = 300, MicroBatchCount = 3, Seed = 9 };
        var straight = new BatchPacker(samples, options);
        var steps = new List<string>();
        for (int i = 0; i < 200; i++)
            steps.Add(Step(straight));
        var seeking = new BatchPacker(samples, options);
        foreach (int step in new[] { 150, 3, 3, 199, 0 })
        {
            seeking.Seek(step);
            Assert.Equal(step, seeking.NextStepIndex);
            Assert.Equal(steps[step], Step(seeking));
        }

        Assert.NotEqual(steps[0], Step(new BatchPacker(samples, options with { Seed = 10 })));
        Assert.Equal(200, steps.Distinct().Count());
    }

    [Fact]
    public void LongSamplesAreCutWithoutLoss()
    {
        int[] tokens = [.. Enumerable.Range(0, 1001)];
        var packer = new BatchPacker([Sample.FromTokens(tokens, "long")!], new PackingOptions { MaxRows = 300, Seed = 1 });
        Assert.Equal(4, packer.PieceCount);
        Assert.Equal(1000, packer.RowsPerEpoch);
        var seen = new HashSet<int>();
        var batch = new TrainingBatch(300);
        for (int i = 0; i < 30; i++)
        {
            packer.NextStep();
            packer.Fill(0, batch);
            for (int row = 0; row < batch.RowCount; row++)
            {
                Assert.Equal(batch.TokenIds[row] + 1, batch.Labels[row]);
                seen.Add(batch.TokenIds[row]);
            }
        }

        Assert.Equal(1000, seen.Count);
    }

    [Theory]
    [InlineData(nameof(LongSamples.Cut), 3, 0)]
    [InlineData(nameof(LongSamples.Truncate), 2, 50)]
    [InlineData(nameof(LongSamples.Drop), 1, 150)]
    public void TheLengthLimitIsKept(string longSamples, int pieceCount, int droppedRowCount)
    {
        Sample[] samples = [Sample.FromTokens(new int[151], "long")!, Sample.FromTokens(new int[51], "short")!];
        var packer = new BatchPacker(samples, new PackingOptions { MaxRows = 200, MaxSampleRows = 100, LongSamples = Enum.Parse<LongSamples>(longSamples) });
        Assert.Equal(pieceCount, packer.PieceCount);
        Assert.Equal(droppedRowCount, packer.DroppedRowCount);
    }

    [Fact]
    public void TheTargetsOfAStepAreKnownBeforehand()
    {
        var packer = new BatchPacker(Random(100, 5, 50), new PackingOptions { MaxRows = 128, MicroBatchCount = 4 });
        packer.NextStep();
        var batch = new TrainingBatch(128);
        int targetCount = 0, rowCount = 0, sourceCount = 0;
        for (int m = 0; m < packer.MicroBatchCount; m++)
        {
            packer.Fill(m, batch);
            targetCount += batch.TargetCount;
            rowCount += batch.RowCount;
            sourceCount += packer.Sources(m).Count - batch.SampleCount;
        }

        Assert.Equal(packer.StepTargetCount, targetCount);
        Assert.Equal(packer.StepRowCount, rowCount);
        Assert.Equal(0, sourceCount);
    }

    [Fact]
    public void OneSmallSampleStillMakesFullBatches()
    {
        var packer = new BatchPacker([Sample.FromTokens([1, 2, 3, 4], "x")!], new PackingOptions { MaxRows = 10 });
        packer.NextStep();
        Assert.Equal(9, packer.StepRowCount);
        Assert.Equal(3, packer.EpochsDone);
    }

    [Fact]
    public void NothingToLearnIsRefused()
    {
        Assert.Throws<BadRequestException>(() => new BatchPacker([], new PackingOptions { MaxRows = 10 }));
        Assert.Throws<BadRequestException>(() => new BatchPacker([Sample.FromTokens([1, 2], "x")!], new PackingOptions { MaxRows = 10, MaxSampleRows = 11 }));
    }

    [Fact]
    public void MeasuringTakesEachSampleOnceInOrder()
    {
        Sample[] samples = Random(300, 5, 90);
        var batches = new MeasuringBatches(samples, new PackingOptions { MaxRows = 200 });
        var batch = new TrainingBatch(200);
        var order = new List<int>();
        long rowCount = 0, targetCount = 0;
        for (int i = 0; i < batches.Count; i++)
        {
            batches.Fill(i, batch);
            rowCount += batch.RowCount;
            targetCount += batch.TargetCount;
            for (int s = 0; s < batch.SampleCount; s++)
                order.Add(batch.TokenIds[batch.Borders[s]]);
        }

        Assert.Equal(Enumerable.Range(0, 300), order);
        Assert.Equal((batches.RowCount, batches.TargetCount), (rowCount, targetCount));
        var limited = new MeasuringBatches(samples, new PackingOptions { MaxRows = 200 }, rowLimit: 1000);
        Assert.InRange(limited.RowCount, 1000, 1100);
    }

    private static string Step(BatchPacker packer)
    {
        packer.NextStep();
        var batch = new TrainingBatch(300);
        var text = new System.Text.StringBuilder();
        for (int m = 0; m < packer.MicroBatchCount; m++)
        {
            packer.Fill(m, batch);
            text.AppendJoin(',', batch.TokenIds[..batch.RowCount]).Append(';').AppendJoin(',', batch.SampleBorders.ToArray()).Append('/');
        }

        return text.ToString();
    }

    // Sample i begins with token i.
    private static Sample[] Random(int count, int shortest, int longest)
    {
        var random = new Random(1);
        var samples = new Sample[count];
        for (int i = 0; i < count; i++)
        {
            var tokens = new int[random.Next(shortest, longest + 1) + 1];
            tokens[0] = i;
            samples[i] = Sample.FromTokens(tokens, $"sample {i}")!;
        }

        return samples;
    }
}
