using Qian.Inference.Text;

using Qian.Inference.Formats;

namespace Qian.Inference.Tests.Text;

public sealed class TokenizerSpecTests
{
    [Fact]
    public void GgufValuesRoundTrip()
    {
        TokenizerSpec spec = SyntheticVocabulary.Create(600, 11);
        (string[] tokens, int[] types, string[] merges) = spec.ToGguf();
        Assert.Equal("[PAD599]", tokens[599]);
        Assert.Equal(5, types[599]);
        TokenizerSpec read = TokenizerSpec.FromGguf(tokens, types, merges, "qwen35", spec.EosId, spec.PaddingId);
        Assert.Equal(spec.Pieces, read.Pieces);
        Assert.Equal(spec.Merges, read.Merges);
        Assert.Equal(spec.AddedTokens, read.AddedTokens);
        Assert.Equal(spec.EosId, read.EosId);
        Assert.Equal(spec.PaddingId, read.PaddingId);
        Assert.Null(read.BosId);
    }

    [Fact]
    public void PaddingRowsThatCallThemselvesUserDefinedAreStillPadding()
    {
        (string[] tokens, int[] types, string[] merges) = SyntheticVocabulary.Create(600, 11).ToGguf();
        types[599] = 4;
        Assert.False(new Tokenizer(TokenizerSpec.FromGguf(tokens, types, merges, "qwen2")).IsDefined(599));
    }

    [Theory]
    [InlineData("type count")]
    [InlineData("byte type")]
    [InlineData("pre")]
    [InlineData("merge without space")]
    [InlineData("merge of strangers")]
    [InlineData("merge twice")]
    [InlineData("alphabet")]
    [InlineData("empty")]
    [InlineData("same token")]
    [InlineData("same added token")]
    [InlineData("eos")]
    [InlineData("no byte")]
    public void DamagedValuesAreRefused(string damage)
    {
        (string[] tokens, int[] types, string[] merges) = SyntheticVocabulary.Create(600, 11).ToGguf();
        string pre = "qwen35";
        int eos = 1;
        switch (damage)
        {
            case "type count":
                types = types[1..];
                break;
            case "byte type":
                types[300] = 6;
                break;
            case "pre":
                pre = "llama-bpe";
                break;
            case "merge without space":
                merges[3] = "et";
                break;
            case "merge of strangers":
                merges[3] = "q q";
                break;
            case "merge twice":
                merges[3] = merges[2];
                break;
            case "alphabet":
                tokens[300] = "中";
                break;
            case "empty":
                tokens[300] = "";
                break;
            case "same token":
                tokens[300] = tokens[301];
                break;
            case "same added token":
                tokens[570] = tokens[571];
                break;
            case "eos":
                eos = 600;
                break;
            default:
                types[0] = 5;
                break;
        }

        Assert.Throws<BadModelFileException>(() => new Tokenizer(TokenizerSpec.FromGguf(tokens, types, merges, pre, eos)));
    }
}
