using Qian.Inference.Text;

using Qian.Inference.Formats;

namespace Qian.Inference.Tests.Text;

public sealed class SyntheticVocabularyTests
{
    [Theory]
    [InlineData(289, 0)]
    [InlineData(1000, 3)]
    [InlineData(248320, 243)]
    public void FillsTheRowsWithDistinctMergeableTokens(int rowCount, int paddingRowCount)
    {
        TokenizerSpec spec = SyntheticVocabulary.Create(rowCount, paddingRowCount);
        Assert.Equal(rowCount, spec.RowCount);
        string[] pieces = [.. spec.Pieces.OfType<string>()];
        Assert.Equal(rowCount - paddingRowCount - SyntheticVocabulary.AddedTokenCount, pieces.Length);
        Assert.Equal(pieces.Length, pieces.Distinct().Count());
        Assert.Equal(pieces.Length - 256, spec.Merges.Length);
        Assert.All(spec.Merges, merge => Assert.True(spec.Pieces[merge.Left] + spec.Pieces[merge.Right] == spec.Pieces[merge.Result]));
        var tokenizer = new Tokenizer(spec);
        Assert.True(tokenizer.TryGetId("<|im_end|>", out int imEnd));
        Assert.Equal(spec.EosId, imEnd);
        var random = new Random(9);
        for (int i = 0; i < 100; i++)
        {
            string text = TokenizerData.RandomText(random, 200);
            Assert.Equal(TokenizerData.ToNfc(text), tokenizer.Decode(tokenizer.Encode(text, true)));
        }
    }

    [Fact]
    public void TheRealSizePutsTheAddedTokensWhereTheRealModelHasThem()
    {
        var tokenizer = new Tokenizer(SyntheticVocabulary.Create(248320, 243));
        Assert.Equal([248045, 248046, 248068, 248076], tokenizer.Encode("<|im_start|><|im_end|><think><|audio_pad|>", true));
        int[] ids = tokenizer.Encode("the rain in Spain stays mainly in the plain, 中文");
        Assert.InRange(ids.Length, 10, 28);
    }

    [Fact]
    public void IsTheSameEveryTime()
    {
        Assert.Equal(SyntheticVocabulary.Create(5000, 5).Pieces, SyntheticVocabulary.Create(5000, 5).Pieces);
    }
}
