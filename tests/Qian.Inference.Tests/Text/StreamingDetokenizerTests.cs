using System.Text;
using Qian.Inference.Text;

namespace Qian.Inference.Tests.Text;

public sealed class StreamingDetokenizerTests
{
    // Random ids give every kind of broken UTF-8; bytes of real text give every kind of cut character.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void PartsAddUpToTheWhole(bool skipsControlTokens)
    {
        var random = new Random(8);
        Tokenizer tokenizer = TokenizerData.Mini;
        int[] byteIds = new int[256];
        for (int id = 0; id < tokenizer.VocabularySize; id++)
        {
            if (tokenizer.TokenBytes(id) is [byte value])
            {
                byteIds[value] = id;
            }
        }

        for (int i = 0; i < 2000; i++)
        {
            int[] ids = (i % 3) switch
            {
                0 => [.. Enumerable.Range(0, random.Next(1, 40)).Select(_ => random.Next(tokenizer.VocabularySize))],
                1 => [.. Enumerable.Range(0, random.Next(1, 40)).Select(_ => byteIds[random.Next(3) == 0 ? random.Next(0xE0, 0x100) : random.Next(0x80, 0xC0)])],
                _ => [.. Encoding.UTF8.GetBytes(TokenizerData.RandomText(random, 40)).Select(value => byteIds[value])],
            };
            var stream = new StreamingDetokenizer(tokenizer, skipsControlTokens);
            var text = new StringBuilder();
            foreach (int id in ids)
            {
                string part = stream.Append(id).ToString();
                Assert.False(part.Length > 0 && (char.IsLowSurrogate(part[0]) || char.IsHighSurrogate(part[^1])));
                text.Append(part);
            }

            text.Append(stream.Flush());
            Assert.False(stream.HasPending);
            Assert.Equal(tokenizer.Decode(ids, skipsControlTokens), text.ToString());
        }
    }

    [Fact]
    public void HoldsBackOnlyWhatCouldStillBecomeACharacter()
    {
        Tokenizer tokenizer = TokenizerData.Mini;
        var stream = new StreamingDetokenizer(tokenizer);
        int[] bytes = [.. Enumerable.Range(0, tokenizer.VocabularySize).Where(id => tokenizer.TokenBytes(id).Length == 1)];
        int Id(byte value) => bytes.First(id => tokenizer.TokenBytes(id)[0] == value);
        Assert.Equal("", stream.Append(Id(0xF0)).ToString());
        Assert.Equal("", stream.Append(Id(0x9F)).ToString());
        Assert.Equal("", stream.Append(Id(0x98)).ToString());
        Assert.True(stream.HasPending);
        Assert.Equal("😀", stream.Append(Id(0x80)).ToString());
        Assert.Equal("", stream.Append(Id(0xE4)).ToString());
        Assert.Equal("\uFFFDx", stream.Append(Id((byte)'x')).ToString());
        Assert.Equal("\uFFFD", stream.Append(Id(0xFF)).ToString());
        Assert.Equal("", stream.Append(Id(0xC3)).ToString());
        Assert.Equal("\uFFFD", stream.Flush().ToString());
        Assert.Equal("", stream.Flush().ToString());
    }
}
