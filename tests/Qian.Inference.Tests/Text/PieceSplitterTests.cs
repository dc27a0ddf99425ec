using System.Text;
using Qian.Inference.Text;

using Qian.Inference.Formats;

namespace Qian.Inference.Tests.Text;

public sealed class PieceSplitterTests
{
    [Theory]
    [InlineData("I'm 1234, we're coding.", "I|'m| |1|2|3|4|,| we|'re| coding|.")]
    [InlineData("it'S it'\u017Fx 'tis 'Lla 'x", "it|'S| it|'\u017F|x| '|tis| '|Lla| '|x")]
    [InlineData("  one\t two\n\nthree  \n", " | one|\t| two|\n\n|three|  \n")]
    [InlineData("a   b", "a|  | b")]
    [InlineData("a\t\tb 1  ", "a|\t|\tb| |1|  ")]
    [InlineData("x  \r\n  y", "x|  \r\n| | y")]
    [InlineData("f(x);\r\n\r\n}\n", "f|(x|);\r\n\r\n|}\n")]
    [InlineData("\u3000全角 =>\u00A0=", "\u3000全角| =>|\u00A0|=")]
    [InlineData("\U00010400\U00010428a \U0001D7D8\U0001F600!", "\U00010400\U00010428a| |\U0001D7D8|\U0001F600!")]
    [InlineData("\u0301!I", "\u0301|!I")]
    public void CutsWhereTheExpressionCuts(string text, string pieces)
    {
        Assert.Equal(pieces, string.Join('|', Split(text, PreTokenizer.Qwen35)));
    }

    // A tokenizer that loads the older expression for this family mis-splits Devanagari; see the rows published with the real vocabulary.
    [Theory]
    [InlineData("क्", "क्", "क|्")]
    [InlineData("क्ष", "क्ष", "क|्ष")]
    [InlineData("e\u0301\u0301 x", "e\u0301\u0301| x", "e|\u0301\u0301| x")]
    public void MarksAreLettersOnlyForTheNewerFamily(string text, string qwen35, string qwen2)
    {
        Assert.Equal(qwen35, string.Join('|', Split(text, PreTokenizer.Qwen35)));
        Assert.Equal(qwen2, string.Join('|', Split(text, PreTokenizer.Qwen2)));
    }

    [Fact]
    public void AgreesWithTheExpressionOnRandomText()
    {
        var random = new Random(20);
        for (int i = 0; i < 3000; i++)
        {
            string text = TokenizerData.RandomText(random, random.Next(1, 60));
            Assert.Equal(TokenizerReference.Split(text, marksAreLetters: true), Split(text, PreTokenizer.Qwen35));
            Assert.Equal(TokenizerReference.Split(text, marksAreLetters: false), Split(text, PreTokenizer.Qwen2));
        }
    }

    // Each code point alone among letters, digits, spaces and punctuation shows its class.
    [Fact]
    public void ClassifiesEveryCodePointAsTheExpressionDoes()
    {
        for (int codePoint = 0; codePoint < 0x32000; codePoint += codePoint is > 0x3400 and < 0xA000 or > 0xAC00 and < 0xD700 or > 0x17000 ? 61 : 1)
        {
            if (codePoint is >= 0xD800 and < 0xE000)
            {
                continue;
            }

            string text = $"a{char.ConvertFromUtf32(codePoint)}!{char.ConvertFromUtf32(codePoint)} {char.ConvertFromUtf32(codePoint)}b";
            Assert.Equal(TokenizerReference.Split(text, marksAreLetters: true), Split(text, PreTokenizer.Qwen35));
        }
    }

    private static List<string> Split(string text, PreTokenizer kind)
    {
        var splitter = new PieceSplitter(kind);
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        var pieces = new List<string>();
        for (int start = 0; start < utf8.Length;)
        {
            int end = splitter.FindEnd(utf8, start);
            pieces.Add(Encoding.UTF8.GetString(utf8[start..end]));
            start = end;
        }

        return pieces;
    }
}
