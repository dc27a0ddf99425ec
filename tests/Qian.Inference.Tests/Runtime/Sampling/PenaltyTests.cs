using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime.Sampling;

// Sample changes the logits in place, so the numbers that the penalties leave can be read off.
public sealed class PenaltyTests
{
    private static float[] After(SamplingOptions options, float[] logits, int[] prompt, int[] output, int[]? breakers = null)
    {
        var sampler = new Sampler(options, VocabularyMask.All(logits.Length), 1000, null, breakers);
        sampler.Begin(prompt);
        foreach (int token in output)
            sampler.Accept(token);
        float[] result = [.. logits];
        sampler.Sample(result);
        return result;
    }

    [Fact]
    public void PresenceAndFrequencyCountTheOutputOnly() => Assert.Equal(
        [1f, 2 - 0.5f - (3 * 0.25f), 3f, -1 - 0.5f - 0.25f],
        After(new() { PresencePenalty = 0.5f, FrequencyPenalty = 0.25f }, [1, 2, 3, -1], prompt: [0, 2, 2], output: [1, 3, 1, 1]));

    [Fact]
    public void RepetitionCountsPromptAndOutputOnce() => Assert.Equal(
        [4f, 1, -3, 0, 3],
        After(new() { RepetitionPenalty = 2 }, [4, 2, -1.5f, 0, 6], prompt: [1, 2, 2], output: [3, 4, 4]));

    [Fact]
    public void RepetitionWindowSeesTheLatestTokens()
    {
        float[] logits = [4, 4, 4, 4];
        Assert.Equal([4f, 2, 4, 2], After(new() { RepetitionPenalty = 2, RepetitionWindow = 3 }, logits, prompt: [0, 2], output: [1, 3, 1]));
        Assert.Equal([2f, 2, 2, 2], After(new() { RepetitionPenalty = 2, RepetitionWindow = 5 }, logits, prompt: [0, 2], output: [1, 3, 1]));
    }

    [Fact]
    public void RepetitionThenFrequencyThenBias() => Assert.Equal(
        [((4f / 2) - 1) + 0.5f, 1],
        After(new() { RepetitionPenalty = 2, FrequencyPenalty = 1, LogitBias = new Dictionary<int, float> { [0] = 0.5f } }, [4, 1], prompt: [], output: [0]));

    [Fact]
    public void CountsFollowASlidingWindow()
    {
        var random = new Random(3);
        var counts = new TokenCounts(50, window: 20);
        var history = new List<int>();
        for (int i = 0; i < 2000; i++)
        {
            history.Add(random.Next(random.Next(1, 51)));
            counts.Add(history[^1]);
            var expected = history.TakeLast(20).GroupBy(t => t).Select(g => new TokenCounts.Entry(g.Key, g.Count())).OrderBy(e => e.Token);
            Assert.Equal(expected, counts.Entries.ToArray().OrderBy(e => e.Token));
        }
    }

    // Ends in 1 2 3; before, "1 2 3" was followed by 4, "9 2 3" by 5 and "3" alone by 6.
    [Fact]
    public void DryPenalisesByTheLengthOfTheRepeat()
    {
        int[] history = [1, 2, 3, 4, 9, 2, 3, 5, 8, 3, 6, 7, 1, 2, 3];
        float[] result = After(new() { Dry = new DryOptions { Multiplier = 0.5f, Base = 3, AllowedLength = 2 } }, new float[10], history, []);
        Assert.Equal([0, 0, 0, 0, -0.5f * 3, -0.5f, 0, 0, 0, 0], result);
    }

    [Fact]
    public void DryEndsAtBreakersAndNeverPenalisesThem()
    {
        int[] history = [1, 2, 3, 4, 9, 2, 3, 5, 8, 3, 6, 7, 1, 2, 3];
        var dry = new SamplingOptions { Dry = new DryOptions { Multiplier = 0.5f, Base = 3, AllowedLength = 1 } };
        // 2 breaks: all three matches have length 1.
        Assert.Equal([0, 0, 0, 0, -0.5f, -0.5f, -0.5f, 0, 0, 0], After(dry, new float[10], history, [], [2]));
        // 4 breaks: it is spared.
        Assert.Equal([0, 0, 0, 0, 0, -1.5f, -0.5f, 0, 0, 0], After(dry, new float[10], history, [], [4]));
        // 3 breaks: the history ends in it, nothing matches.
        Assert.Equal(new float[10], After(dry, new float[10], history, [], [3]));
    }

    [Fact]
    public void DryOfALongLoopBansWithoutOverflow()
    {
        float[] result = After(new() { Dry = new DryOptions { Multiplier = 1, Base = 100 } }, [1, 1], [.. Enumerable.Repeat(0, 500)], []);
        Assert.Equal([-1e30f, 1], result);
    }

    // The definition: every earlier place, walked backwards token by token.
    private static float[] DryByDefinition(DryOptions options, int vocabularySize, List<int> all, HashSet<int> breakers)
    {
        List<int> history = options.Range == 0 ? all : [.. all.TakeLast(options.Range)];
        var longest = new int[vocabularySize];
        for (int i = 0; i < history.Count - 1; i++)
        {
            int length = 0;
            while (length <= i && history[i - length] == history[^(length + 1)] && !breakers.Contains(history[i - length]))
                length++;
            if (!breakers.Contains(history[i + 1]))
                longest[history[i + 1]] = Math.Max(longest[history[i + 1]], length);
        }

        return [.. longest.Select(n => n < options.AllowedLength ? 0 : -(float)Math.Min(options.Multiplier * Math.Pow(options.Base, n - options.AllowedLength), 1e30))];
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(17)]
    [InlineData(64)]
    public void DryEqualsItsDefinitionOnRandomHistories(int range)
    {
        for (int seed = 0; seed < 12; seed++)
        {
            var random = new Random(seed);
            int vocabularySize = random.Next(1, 6);
            HashSet<int> breakers = seed % 3 == 0 ? [random.Next(vocabularySize)] : [];
            var options = new DryOptions { Multiplier = 0.7f, Base = 1.3f, AllowedLength = random.Next(1, 4), Range = range };
            var dry = new DryPenalty(options, vocabularySize, capacity: 300, [.. breakers]);
            var history = new List<int>();
            for (int i = 0; i < 300; i++)
            {
                // Stretches of earlier text come back, as they do in real repetition.
                int token = history.Count > 40 && random.Next(3) > 0 ? history[^random.Next(20, 30)] : random.Next(vocabularySize);
                history.Add(token);
                dry.Add(token);
                var logits = new float[vocabularySize];
                dry.Apply(logits);
                Assert.Equal(DryByDefinition(options, vocabularySize, history, breakers), logits);
            }
        }
    }
}
