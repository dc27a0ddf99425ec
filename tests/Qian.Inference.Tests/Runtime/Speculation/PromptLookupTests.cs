using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime;

// The longest earlier match against a search that looks everywhere.
public sealed class PromptLookupTests
{
    [Theory]
    [InlineData(2, 400, 5)]
    [InlineData(4, 600, 100_000)]
    [InlineData(40, 2000, 64)]
    public void FindsWhatASearchThroughEverythingFinds(int alphabet, int length, int capacity)
    {
        var random = new Random(alphabet);
        var tokens = new List<int>();
        var lookup = new PromptLookup(capacity);
        int found = 0;
        while (tokens.Count < length)
        {
            // Bursts of several tokens, as accepted runs bring them, and now and then a copy of what was.
            if (tokens.Count > 50 && random.Next(4) == 0)
            {
                int start = random.Next(tokens.Count - 30);
                tokens.AddRange(tokens.GetRange(start, random.Next(3, 30)));
            }
            else
            {
                for (int i = random.Next(1, 5); i > 0; i--)
                    tokens.Add(random.Next(alphabet));
            }

            int[] text = [.. tokens];
            int[] drafts = new int[6];
            int count = lookup.Draft(text, drafts, out int matchLength);
            int expected = LongestMatch(text);
            if (alphabet > 4)
                Assert.Equal(expected, matchLength);
            Assert.InRange(matchLength, 0, expected);
            Assert.Equal(matchLength > 0 ? 6 : 0, count);
            if (count == 0)
                continue;
            found++;
            // Whatever was drafted follows an occurrence of the text's end that is as long as claimed.
            Assert.Contains(Enumerable.Range(matchLength - 1, text.Length - matchLength), place => Ending(text, place) >= matchLength && Follows(text, place, drafts));
        }

        Assert.InRange(found, 40, length);
    }

    [Fact]
    public void ATextThatRepeatsItselfGoesOnRepeating()
    {
        var lookup = new PromptLookup(16);
        Span<int> drafts = stackalloc int[8];
        Assert.Equal(8, lookup.Draft([1, 2, 9, 3, 4, 5, 3, 4, 5, 3, 4, 5], drafts, out int matchLength));
        Assert.Equal(6, matchLength);
        Assert.Equal([3, 4, 5, 3, 4, 5, 3, 4], drafts);
        Assert.Equal(8, lookup.Draft([1, 2, 9, 3, 4, 5, 3, 4, 5, 3, 4, 5, 8, 8, 8, 8], drafts, out matchLength));
        Assert.Equal(3, matchLength);
        Assert.Equal([8, 8, 8, 8, 8, 8, 8, 8], drafts);
    }

    [Fact]
    public void ShortTextsGiveNothing()
    {
        Span<int> drafts = stackalloc int[4];
        foreach (int[] text in (int[][])[[], [1], [1, 1], [1, 1, 1], [1, 2, 3, 1, 2]])
            Assert.Equal(0, new PromptLookup(4).Draft(text, drafts, out _));
    }

    [Fact]
    public void TakingTokensInAllocatesNothing()
    {
        int[] text = [.. Enumerable.Range(0, 4000).Select(i => i * i % 97)];
        var lookup = new PromptLookup(text.Length);
        int[] drafts = new int[8];
        lookup.Draft(text.AsSpan(0, 10), drafts, out _);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int count = 11; count < text.Length; count++)
            lookup.Draft(text.AsSpan(0, count), drafts, out _);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private static int LongestMatch(int[] text)
    {
        int best = 0;
        for (int place = 2; place < text.Length - 1; place++)
            best = Math.Max(best, Ending(text, place));
        return best < PromptLookup.ShortestMatch ? 0 : Math.Min(best, PromptLookup.LongestMatch);
    }

    private static int Ending(int[] text, int place)
    {
        int length = 0;
        while (length <= place && text[place - length] == text[^(1 + length)])
            length++;
        return length;
    }

    private static bool Follows(int[] text, int place, int[] guess)
    {
        for (int i = 0; i < guess.Length; i++)
        {
            int source = place + 1 + i;
            if (guess[i] != (source < text.Length ? text[source] : guess[source - text.Length]))
                return false;
        }

        return true;
    }
}
