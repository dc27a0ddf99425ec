using Qian.Inference.Tests.Text;
using Qian.Inference.Verification;

namespace Qian.Inference.Tests.Verification;

public sealed class TokenizerGoldensTests
{
    [Fact]
    public void EveryRecordedAnswerIsReproduced()
    {
        IReadOnlyList<TokenizerGoldens.Comparison> comparisons = TokenizerGoldens.Run(TokenizerData.Folder);
        Assert.Equal([192, 192, 60], comparisons.Select(comparison => comparison.ComparedCount));
        Assert.All(comparisons, comparison => Assert.True(comparison.FailedCount == 0, comparison.FirstFailures));
    }

    [Fact]
    public void WrongAnswersAreReported()
    {
        string folder = Directory.CreateTempSubdirectory().FullName;
        File.Copy(Path.Combine(TokenizerData.MiniFolder, "tokenizer.json"), Path.Combine(folder, "tokenizer.json"));
        File.WriteAllLines(Path.Combine(folder, "cases.jsonl"), ["""{"text": "a", "ids": [64], "decoded": "a"}""", """{"text": "a", "ids": [65], "decoded": "a"}"""]);
        IReadOnlyList<TokenizerGoldens.Comparison> comparisons = TokenizerGoldens.Run(folder);
        Assert.Equal([1, 1], comparisons.Select(comparison => comparison.FailedCount));
        Assert.All(comparisons, comparison => Assert.StartsWith("line 2:", comparison.FirstFailures, StringComparison.Ordinal));
        Directory.Delete(folder, recursive: true);
    }
}
