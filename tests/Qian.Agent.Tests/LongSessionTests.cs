using Microsoft.Extensions.AI;
using Qian.Inference;

namespace Qian.Agent.Tests;

// A session of thirty steps of the embedded model with real tools: thinking, calls, results, answers, several tasks one after the
// other. Whether it does well does not matter here; what is counted is what it had to read.
public sealed class LongSessionTests
{
    private const int StepCount = 30;

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task EveryTokenIsReadOnce(bool think)
    {
        using Engine engine = Embedded.Load();
        using var client = new QianChatClient(engine, keptSessions: 1);
        using var bench = new Bench();
        bench.Put("Totals.cs", "public static class Totals\n{\n    public static int SumAll(int[] numbers)\n    {\n        int total = 1;\n        for (int i = 0; i < numbers.Length; i++)\n        {\n            total += numbers[i];\n        }\n        return total;\n    }\n}\n");
        bench.Put("tests.txt", "SumAll([1, 2]) == 3\n");
        bench.Put("makefile", "test:\n\t@echo 'FAIL SumAll([1, 2]): expected 3, got 4'\n\t@echo '1 of 1 tests failed'\n");
        var options = new ChatOptions { Temperature = 0, MaxOutputTokens = 1000, AdditionalProperties = new AdditionalPropertiesDictionary { ["enable_thinking"] = think } };
        var agent = new CodingAgent(client, bench.Tools, options, mostSteps: StepCount);
        var steps = new List<StepEnded>();
        int callCount = 0;
        agent.Happened += happened =>
        {
            if (happened is StepEnded step)
                steps.Add(step);
            callCount += happened is ToolCalled ? 1 : 0;
        };
        string[] tasks = ["The tests fail. Find the bug and fix it.", "Please debug Totals.cs.", "List the files.", "Run the tests, then fix what is wrong."];
        for (int i = 0; steps.Count < StepCount; i++)
            await agent.RunAsync(tasks[i % tasks.Length]);

        Assert.True(callCount >= StepCount / 3, $"only {callCount} calls");
        Assert.Equal(0, steps[0].CachedTokens);
        // Computed in a step: what of the prompt was not kept, and of the reply all but its last token, which nothing has followed yet.
        // It is read with the next prompt. So the sum is the length of the whole history, and no token was computed twice.
        long computedCount = steps.Sum(step => step.PromptTokens - step.CachedTokens + step.OutputTokens - 1);
        Assert.Equal(steps[^1].PromptTokens + steps[^1].OutputTokens - 1, computedCount);
        for (int i = 1; i < steps.Count; i++)
            Assert.Equal(steps[i - 1].PromptTokens + steps[i - 1].OutputTokens - 1, steps[i].CachedTokens);
    }
}
