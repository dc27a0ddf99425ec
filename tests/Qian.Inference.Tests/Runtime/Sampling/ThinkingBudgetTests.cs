using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime.Sampling;

public sealed class ThinkingBudgetTests
{
    private const int Open = 1, Close = 2;

    // Runs a model that would emit `wanted`, and returns what comes out.
    private static List<int> Run(ThinkingBudget budget, params int[] wanted)
    {
        var output = new List<int>();
        foreach (int token in wanted)
        {
            while (budget.TryForce(out int forced))
            {
                output.Add(forced);
                budget.Observe(forced);
            }

            output.Add(token);
            budget.Observe(token);
        }

        return output;
    }

    private static ThinkingBudget Create(int count, bool startsInside = true) => new(count, Open, Close, [50, Close, 51], startsInside);

    [Fact]
    public void SpentBudgetClosesThinkingAndTheAnswerGoesOn()
    {
        ThinkingBudget budget = Create(3);
        Assert.Equal([10, 11, 12, 50, Close, 51, 13, 14], Run(budget, 10, 11, 12, 13, 14));
        Assert.True(budget.Exhausted);
        Assert.Equal(3, budget.ThinkingCount);
    }

    [Fact]
    public void ThinkingThatEndsInTimeIsLeftAlone()
    {
        ThinkingBudget budget = Create(3);
        int[] wanted = [10, 11, Close, 20, 21, 22, 23];
        Assert.Equal(wanted, Run(budget, wanted));
        Assert.False(budget.Exhausted);
    }

    [Fact]
    public void ClosingOnTheLastTokenIsStillInTime()
    {
        int[] wanted = [10, Close, 20];
        Assert.Equal(wanted, Run(Create(2), wanted));
    }

    [Fact]
    public void BudgetOfZeroClosesAtOnce() => Assert.Equal([50, Close, 51, 20], Run(Create(0), 20));

    [Fact]
    public void CountsOnlyInsideTheTags()
    {
        Assert.Equal([20, 21, Open, 10, 11, 50, Close, 51, 22, 23], Run(Create(2, startsInside: false), 20, 21, Open, 10, 11, 22, 23));
        int[] never = [20, 21, 22, 23];
        Assert.Equal(never, Run(Create(2, startsInside: false), never));
    }

    [Fact]
    public void ReopenedThinkingIsClosedAtOnce() =>
        Assert.Equal([10, 50, Close, 51, 20, Open, 50, Close, 51, 21], Run(Create(1), 10, 20, Open, 21));

    [Fact]
    public void AskingTwiceForcesOnce()
    {
        ThinkingBudget budget = Create(0);
        Assert.True(budget.TryForce(out int first) && budget.TryForce(out int again) && first == again);
        Assert.Throws<InvalidOperationException>(() => budget.Observe(99));
        Assert.Throws<ArgumentException>(() => new ThinkingBudget(5, Open, Close, [50], true));
    }

    [Fact]
    public void TheClosingTextHoldsTheTag() => Assert.Contains("</think>", ThinkingBudget.DefaultClosingText);
}
