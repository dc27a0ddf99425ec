using System.Text.Json;
using Qian.Inference.Text;

namespace Qian.Inference.Tests.Text;

public sealed class NfcNormalizerTests
{
    [Fact]
    public void AgreesWithRecordedNormalForms()
    {
        int changedCount = 0;
        foreach (string line in File.ReadLines(Path.Combine(TokenizerData.Folder, "nfc.jsonl")))
        {
            using JsonDocument row = JsonDocument.Parse(line);
            string text = row.RootElement.GetProperty("text").GetString()!;
            string expected = row.RootElement.GetProperty("nfc").GetString()!;
            Assert.Equal(expected, TokenizerData.ToNfc(text));
            Assert.Equal(expected, TokenizerData.ToNfc(expected));
            if (text != expected)
            {
                changedCount++;
                Assert.True(NfcNormalizer.IndexOfSuspect(text) >= 0);
            }
        }

        Assert.True(changedCount > 200);
    }

    [Theory]
    [InlineData("plain ASCII\n")]
    [InlineData("Ünïcödé, 中文, 한국어, 😀")]
    [InlineData("\u0E01\u0E34\u0E48 \u0915\u094D\u0937")]
    [InlineData("\uD800x\uDC00")]
    public void RecognisesTextThatIsNormalAlready(string text)
    {
        Assert.Equal(-1, NfcNormalizer.IndexOfSuspect(text));
        Assert.Equal(text, TokenizerData.ToNfc(text));
    }

    [Fact]
    public void ComposesAcrossLongTextsAndKeepsLoneSurrogates()
    {
        string before = new('x', 10_000);
        Assert.Equal($"{before}é\uD800é{before}", TokenizerData.ToNfc($"{before}e\u0301\uD800e\u0301{before}"));
    }

    [Fact]
    public void OrdersLongRunsOfMarksStably()
    {
        var random = new Random(4);
        (char Mark, int Class)[] marks = [('\u0334', 1), ('\u0335', 1), ('\u0323', 220), ('\u0324', 220), ('\u0313', 230), ('\u035C', 233)];
        (char Mark, int Class)[] run = [.. Enumerable.Range(0, 5000).Select(_ => marks[random.Next(marks.Length)])];
        string text = "☃" + string.Concat(run.Select(m => m.Mark));
        string expected = "☃" + string.Concat(run.OrderBy(m => m.Class).Select(m => m.Mark));
        Assert.Equal(expected, TokenizerData.ToNfc(text));
    }

    [Fact]
    public void EveryHangulSyllableSurvivesDecomposition()
    {
        for (int syllable = 0; syllable < 11172; syllable++)
        {
            int tail = syllable % 28;
            string jamo = $"{(char)(0x1100 + (syllable / 588))}{(char)(0x1161 + (syllable % 588 / 28))}{(tail == 0 ? "" : (char)(0x11A7 + tail))}";
            Assert.Equal(((char)(0xAC00 + syllable)).ToString(), TokenizerData.ToNfc(jamo));
        }
    }
}
