using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime;

public sealed class LoopGuardTests
{
    private static int FirstAlarm(IEnumerable<int> tokens)
    {
        var guard = new LoopGuard();
        int count = 0;
        foreach (int token in tokens)
        {
            count++;
            if (guard.Observe(token))
                return count;
        }

        return -1;
    }

    private static IEnumerable<int> Repeated(int period, int times) => Enumerable.Range(0, period * times).Select(i => 1000 + i % period * 3);

    [Theory]
    [InlineData(1, 384)]
    [InlineData(2, 384)]
    [InlineData(31, 384)]
    [InlineData(100, 1200)]
    [InlineData(192, 2304)]
    public void ASpanThatComesAgainAndAgainIsALoop(int period, int noticedAfter) => Assert.Equal(50 + noticedAfter, FirstAlarm(Enumerable.Range(0, 50).Concat(Repeated(period, 2400 / period + 20))));

    [Fact]
    public void WhatEndsInTimeIsNone()
    {
        var random = new Random(1);
        Assert.Equal(-1, FirstAlarm(Enumerable.Range(0, 20_000).Select(_ => random.Next(40))));
        Assert.Equal(-1, FirstAlarm(Repeated(30, 11)));
        // A table: rows alike but for one cell.
        Assert.Equal(-1, FirstAlarm(Enumerable.Range(0, 6000).Select(i => i % 12 == 5 ? i : i % 12)));
        // Longer than what is looked for.
        Assert.Equal(-1, FirstAlarm(Repeated(LoopGuard.LongestPeriod + 1, 40)));
    }
}
