using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime.Prefixes;

public sealed class KeepPlanTests
{
    private const int Start = 1;

    // Messages of the given lengths, each beginning with the start token.
    private static int[] Text(params int[] lengths) => [.. lengths.SelectMany(length => Enumerable.Range(0, length).Select(i => i == 0 ? Start : 7))];

    private static (int, bool)[] Places(KeepPlan plan, int[] tokens, int first = 0) => [.. plan.Places(tokens, first).Select(place => (place.TokenCount, place.IsMinor))];

    [Fact]
    public void KeepsTheFirstMessageAndTheReplysBeginning()
    {
        var plan = new KeepPlan(Start, 1000, 1, long.MaxValue / 4);
        Assert.Equal([(50, false), (280, false)], Places(plan, Text(50, 30, 200, 4)));
        Assert.Equal([(280, false)], Places(plan, Text(50, 30, 200, 4), first: 100));
        // No message begins near the end: the end itself.
        Assert.Equal([(50, false), (350, false)], Places(plan, Text(50, 300)));
        Assert.Equal([(40, false)], Places(plan, [.. Enumerable.Repeat(7, 40)]));
        Assert.Empty(Places(plan, []));
    }

    [Fact]
    public void LongTextsAreKeptAtIntervalsAsFarAsTheBudgetGoes()
    {
        int[] tokens = Text(100, 5000, 300, 300, 4);
        (int Place, bool IsMinor)[] close = Places(new KeepPlan(Start, 1000, 1, 1 << 30), tokens);
        Assert.Equal([(100, false), (1100, true), (2100, true), (3100, true), (5100, false), (5700, false)], close);
        // Half of ten states' bytes: five of them, and the two that are always kept.
        (int Place, bool IsMinor)[] far = Places(new KeepPlan(Start, 1000, 1, 10_000), Text(100, 50_000, 4));
        Assert.InRange(far.Length, 4, 7);
        Assert.Equal((100, false), far[0]);
        Assert.Equal((50_100, false), far[^1]);
        Assert.Empty(Places(new KeepPlan(Start, 1000, 1, 999), tokens));
    }
}
