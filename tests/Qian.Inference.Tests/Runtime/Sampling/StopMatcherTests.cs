using System.Text;
using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime.Sampling;

public sealed class StopMatcherTests
{
    private static (string Shown, string? Match) Run(string[] stops, IEnumerable<string> pieces)
    {
        var matcher = new StopMatcher(stops);
        var shown = new StringBuilder();
        foreach (string piece in pieces)
        {
            if (matcher.Feed(piece, shown))
                break;
        }

        matcher.Flush(shown);
        return (shown.ToString(), matcher.Match);
    }

    [Theory]
    [InlineData("hello world", new string[0], "hello world", null)]
    [InlineData("hello STOP and", new[] { "STOP" }, "hello ", "STOP")]
    [InlineData("STOP", new[] { "STOP" }, "", "STOP")]
    [InlineData("a STO", new[] { "STOP" }, "a STO", null)]
    [InlineData("aab", new[] { "ab" }, "a", "ab")]
    [InlineData("aaaab", new[] { "aab" }, "aa", "aab")]
    [InlineData("ababac", new[] { "abac" }, "ab", "abac")]
    [InlineData("xabcx", new[] { "abcd", "bc" }, "xa", "bc")]
    [InlineData("xabcdx", new[] { "abcd", "cd" }, "x", "abcd")]
    [InlineData("xabcdx", new[] { "cd", "abcd" }, "x", "abcd")]
    [InlineData("abc", new[] { "abc", "b" }, "a", "b")]
    [InlineData("one\n\ntwo", new[] { "\n\n" }, "one", "\n\n")]
    [InlineData("grin \U0001F600 end", new[] { "\U0001F600" }, "grin ", "\U0001F600")]
    public void EverySplitGivesTheSame(string text, string[] stops, string shown, string? match)
    {
        // Bit i set: a cut after character i.
        for (int cuts = 0; cuts < 1 << Math.Min(text.Length - 1, 12); cuts++)
        {
            var pieces = new List<string>();
            int start = 0;
            for (int i = 0; i < text.Length; i++)
            {
                if (i == text.Length - 1 || (cuts >> i & 1) != 0)
                {
                    pieces.Add(text[start..(i + 1)]);
                    start = i + 1;
                }
            }

            Assert.Equal((shown, match), Run(stops, pieces));
        }
    }

    [Fact]
    public void RandomTextsEqualASearchOfTheWhole()
    {
        var random = new Random(4);
        string Letters(int length) => string.Concat(Enumerable.Range(0, length).Select(_ => (char)('a' + random.Next(2))));
        for (int round = 0; round < 3000; round++)
        {
            string text = Letters(random.Next(0, 30));
            string[] stops = [.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => Letters(random.Next(1, 8)))];
            string? match = null;
            int end = text.Length + 1;
            foreach (string stop in stops)
            {
                int at = text.IndexOf(stop, StringComparison.Ordinal);
                if (at >= 0 && (at + stop.Length < end || (at + stop.Length == end && stop.Length > match!.Length)))
                    (end, match) = (at + stop.Length, stop);
            }

            var pieces = new List<string>();
            for (int start = 0, length; start < text.Length; start += length)
            {
                length = Math.Min(random.Next(0, 6), text.Length - start);
                pieces.Add(text.Substring(start, length));
            }

            Assert.Equal((match is null ? text : text[..(end - match.Length)], match), Run(stops, pieces));
        }
    }

    [Fact]
    public void HoldsBackNoMoreThanAPossibleStop()
    {
        var matcher = new StopMatcher(["<|end|>", "\n\n"]);
        var shown = new StringBuilder();
        Assert.False(matcher.Feed("a <|en", shown));
        Assert.Equal("a ", shown.ToString());
        Assert.False(matcher.Feed("ter", shown));
        Assert.Equal("a <|enter", shown.ToString());
        Assert.False(matcher.Feed(" b\n", shown));
        Assert.Equal("a <|enter b", shown.ToString());
        Assert.True(matcher.Feed("\nnever", shown));
        Assert.True(matcher.Feed("shown", shown));
        Assert.Equal("a <|enter b", shown.ToString());
        Assert.Equal("\n\n", matcher.Match);
    }
}
