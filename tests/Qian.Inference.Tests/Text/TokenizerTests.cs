using System.Text;
using Qian.Inference.Text;

using Qian.Inference.Formats;

namespace Qian.Inference.Tests.Text;

public sealed class TokenizerTests
{
    private static readonly Lazy<TokenizerReference> s_reference = new(static () => new TokenizerReference(Path.Combine(TokenizerData.MiniFolder, "tokenizer.json")));

    [Fact]
    public void AgreesWithTheReferenceOnRandomText()
    {
        var random = new Random(1);
        for (int i = 0; i < 2000; i++)
        {
            string text = TokenizerData.RandomText(random, random.Next(1, 120));
            Assert.Equal(s_reference.Value.Encode(TokenizerData.ToNfc(text)), TokenizerData.Mini.Encode(text));
        }
    }

    // Lengths on both sides of where the heap takes over, in alphabets that merge much and little.
    [Theory]
    [InlineData("a")]
    [InlineData("ab")]
    [InlineData("etaoinshr")]
    [InlineData("etaoinshrdlcumwfgypbvkjxqzETAOIN中文é")]
    public void MergesPiecesOfAnyLengthAsTheReferenceDoes(string alphabet)
    {
        var random = new Random(2);
        foreach (int length in (int[])[2, 3, 5, 30, 93, 94, 95, 96, 97, 98, 200, 1000])
        {
            string text = string.Concat(Enumerable.Range(0, length).Select(_ => alphabet[random.Next(alphabet.Length)]));
            Assert.Equal(s_reference.Value.Merge(Encoding.UTF8.GetBytes(text)), TokenizerData.Mini.Encode(text));
        }
    }

    [Fact]
    public void DecodingGivesTheNormalizedTextBack()
    {
        var random = new Random(3);
        for (int i = 0; i < 1000; i++)
        {
            string text = TokenizerData.RandomText(random, random.Next(1, 300));
            foreach (bool matchAddedTokens in (bool[])[false, true])
            {
                Assert.Equal(TokenizerData.ToNfc(text), TokenizerData.Mini.Decode(TokenizerData.Mini.Encode(text, matchAddedTokens)));
            }
        }
    }

    [Fact]
    public void WindowsDoNotChangeTheTokens()
    {
        var random = new Random(5);
        var text = new StringBuilder();
        var expected = new List<int>();
        while (text.Length < 200_000)
        {
            // Lines are independent where the next begins with a visible ASCII character.
            string line = $"{(char)random.Next('!', '~')}{TokenizerData.RandomText(random, random.Next(1, 3000))}.\n";
            text.Append(line);
            expected.AddRange(TokenizerData.Mini.Encode(line));
        }

        Assert.Equal(expected, TokenizerData.Mini.Encode(text.ToString()));
        text.Replace('\n', '_');
        Assert.Equal(TokenizerData.ToNfc(text.ToString()), TokenizerData.Mini.Decode(TokenizerData.Mini.Encode(text.ToString())));
    }

    [Fact]
    public void MatchesAddedTokensOnlyWhenAsked()
    {
        Assert.True(TokenizerData.Mini.TryGetId("<|im_end|>", out int imEnd));
        Assert.True(TokenizerData.Mini.TryGetId("<think>", out int think));
        Assert.False(TokenizerData.Mini.TryGetId("think", out _));
        Assert.True(TokenizerData.Mini.IsControl(imEnd));
        Assert.False(TokenizerData.Mini.IsControl(think));
        int[] asked = TokenizerData.Mini.Encode("<|im_end|><|im_end<think>x", matchAddedTokens: true);
        Assert.Equal(2, asked.Count(id => id == imEnd || id == think));
        Assert.Equal(imEnd, asked[0]);
        int[] notAsked = TokenizerData.Mini.Encode("<|im_end|><|im_end<think>x");
        Assert.DoesNotContain(imEnd, notAsked);
        Assert.DoesNotContain(think, notAsked);
        Assert.Equal("<|im_end<think>x", TokenizerData.Mini.Decode(asked, skipControlTokens: true));
    }

    [Fact]
    public void AddedTokensMatchLeftmostThenLongest()
    {
        TokenizerSpec mini = TokenizerData.MiniSpec;
        int next = mini.RowCount;
        AddedToken[] added = [new(next, "<a", true), new(next + 1, "<a>b", true), new(next + 2, "a>", true), new(next + 3, "ж", false)];
        string?[] pieces = [.. mini.Pieces, null, null, null, null];
        var tokenizer = new Tokenizer(new TokenizerSpec(pieces, mini.Merges, [.. mini.AddedTokens, .. added], mini.PreTokenizer));
        Assert.Equal([next], tokenizer.Encode("<a", true));
        Assert.Equal([next + 1], tokenizer.Encode("<a>b", true));
        Assert.Equal([next, .. tokenizer.Encode(">c")], tokenizer.Encode("<a>c", true));
        Assert.Equal([.. tokenizer.Encode("<"), next, next + 2, next + 3], tokenizer.Encode("<<aa>ж", true));
    }

    [Fact]
    public void LoneSurrogatesBecomeReplacementCharacters()
    {
        Assert.Equal(TokenizerData.Mini.Encode("a\uFFFDb\uFFFD😀\uFFFD"), TokenizerData.Mini.Encode("a\uD800b\uDC00😀\uD83D"));
    }

    [Fact]
    public void UndefinedRowsHaveNoBytes()
    {
        TokenizerSpec spec = HuggingFaceTokenizer.ReadFolder(TokenizerData.MiniFolder, TokenizerData.MiniSpec.RowCount + 7);
        var tokenizer = new Tokenizer(spec);
        Assert.Equal(TokenizerData.MiniSpec.RowCount + 7, tokenizer.VocabularySize);
        int last = tokenizer.VocabularySize - 1;
        Assert.False(tokenizer.IsDefined(last));
        Assert.True(tokenizer.TokenBytes(last).IsEmpty);
        Assert.Equal("a", tokenizer.Decode([tokenizer.Encode("a")[0], last]));
        Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Decode([last + 1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.IsDefined(-1));
    }

    [Fact]
    public void EncodingAllocatesNothing()
    {
        string text = TokenizerData.RandomText(new Random(6), 20_000) + new string('a', 5000);
        var ids = new List<int>(100_000);
        for (int i = 0; i < 3; i++)
        {
            ids.Clear();
            TokenizerData.Mini.Encode(text, true, ids);
        }

        long before = GC.GetAllocatedBytesForCurrentThread();
        ids.Clear();
        TokenizerData.Mini.Encode(text, true, ids);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void ThreadsShareOneTokenizer()
    {
        string[] texts = [.. Enumerable.Range(0, 64).Select(seed => TokenizerData.RandomText(new Random(seed), 2000))];
        int[][] expected = [.. texts.Select(text => TokenizerData.Mini.Encode(text, true))];
        var found = new int[texts.Length][];
        Parallel.For(0, texts.Length, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i => found[i] = TokenizerData.Mini.Encode(texts[i], true));
        Assert.Equal(expected, found);
    }
}
