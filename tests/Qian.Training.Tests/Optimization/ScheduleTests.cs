using Qian.Training.Optimization;
using Qian.Training.Run;

namespace Qian.Training.Tests.Optimization;

public sealed class ScheduleTests
{
    [Fact]
    public void TheRateRisesByEqualStepsToItsPeak()
    {
        foreach ((_, ScheduleKind kind) in Schedule.Names)
        {
            var schedule = new Schedule(kind, 0.8, WarmupSteps: 4);
            RunLimit limit = RunLimit.OfSteps(100);
            double[] rates = [.. Enumerable.Range(0, 4).Select(step => RateAt(schedule, limit, step))];
            Assert.Equal([0.2, 0.4, 0.6, 0.8], rates.Select(rate => Math.Round(rate, 12)));
        }
    }

    [Theory]
    [InlineData(nameof(ScheduleKind.Constant), 1.0, 1.0, 1.0, 1.0)]
    [InlineData(nameof(ScheduleKind.Linear), 1.0, 0.75, 0.5, 0.25)]
    [InlineData(nameof(ScheduleKind.Cosine), 1.0, 0.853553390593, 0.5, 0.146446609407)]
    [InlineData(nameof(ScheduleKind.ConstantWithDecay), 1.0, 1.0, 1.0, 0.625)]
    public void TheCurveFollowsWhatLiesBehind(string kind, double atStart, double atQuarter, double atHalf, double atThreeQuarters)
    {
        // Of 440 steps the first 40 are warm-up; the quarters are those of the 400 behind it.
        var schedule = new Schedule(Enum.Parse<ScheduleKind>(kind), 1, WarmupSteps: 40, DecayShare: 400 * 0.4 / 440);
        RunLimit limit = RunLimit.OfSteps(440);
        double[] rates = [RateAt(schedule, limit, 40), RateAt(schedule, limit, 140), RateAt(schedule, limit, 240), RateAt(schedule, limit, 340)];
        double[] expected = [atStart, atQuarter, atHalf, atThreeQuarters];
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i], rates[i], 1e-9);
    }

    [Fact]
    public void NoStepOfARunIsTakenAtRateZero()
    {
        foreach ((_, ScheduleKind kind) in Schedule.Names)
        {
            var schedule = new Schedule(kind, 1, WarmupSteps: 3);
            for (int step = 0; step < 20; step++)
                Assert.True(RateAt(schedule, RunLimit.OfSteps(20), step) > 0, $"{kind} at {step}");
        }
    }

    [Fact]
    public void TokensAndHoursGiveTheCurveOfSteps()
    {
        var schedule = new Schedule(ScheduleKind.ConstantWithDecay, 1, WarmupSteps: 0, DecayShare: 0.5);
        for (int step = 0; step < 10; step++)
        {
            double bySteps = schedule.Rate(step, RunLimit.OfSteps(10).Progress(new RunPosition(step, 0, 0)), 0);
            double byTokens = schedule.Rate(step, RunLimit.OfTokens(1000).Progress(new RunPosition(step, step * 100, 0)), 0);
            double byHours = schedule.Rate(step, RunLimit.OfHours(2).Progress(new RunPosition(step, 0, step * 720)), 0);
            Assert.Equal(bySteps, byTokens, 12);
            Assert.Equal(bySteps, byHours, 12);
        }
    }

    [Fact]
    public void ALimitIsReachedAtItsEndAndNotBefore()
    {
        Assert.False(RunLimit.OfSteps(5).IsReached(new RunPosition(4, 0, 0)));
        Assert.True(RunLimit.OfSteps(5).IsReached(new RunPosition(5, 0, 0)));
        Assert.False(RunLimit.OfTokens(5).IsReached(new RunPosition(0, 4, 0)));
        Assert.True(RunLimit.OfTokens(5).IsReached(new RunPosition(0, 6, 0)));
        Assert.False(RunLimit.OfHours(0.5).IsReached(new RunPosition(0, 0, 1799)));
        Assert.True(RunLimit.OfHours(0.5).IsReached(new RunPosition(0, 0, 1800)));
    }

    private static double RateAt(Schedule schedule, RunLimit limit, long step) =>
        schedule.Rate(step, limit.Progress(new RunPosition(step, 0, 0)), limit.WarmupProgress(schedule.WarmupSteps, 1));
}
