using Qian.Inference.Verification;

namespace Qian.Inference.Tests.Chat;

public class ToolCallCaseTests
{
    [Fact]
    public void EveryCaseParsesAsExpectedForEverySplit()
    {
        string path = ChatData.PathOf("tool-calls/tool-call-cases.json");
        Assert.True(ToolCallCases.Recognises(path));
        IReadOnlyList<VerificationResult> results = ToolCallCases.Run(path);
        Assert.Equal(100, results.Count);
        string failures = string.Join("\n", results.Where(result => !result.Passed).Select(result => $"{result.Subject}: {result.Detail}"));
        Assert.True(failures.Length == 0, failures);
    }
}
