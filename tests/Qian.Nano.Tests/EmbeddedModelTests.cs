using Qian.Inference;

namespace Qian.Nano.Tests;

// What the README promises of the model in the repository, greedy: it answers at once or after thinking, and the method that
// it writes for the README's request works. None of these sentences is in its data (DataTests).
public sealed class EmbeddedModelTests
{
    private const string Demonstration = "Write a C# method that returns the largest element of an int array.";

    private static readonly SamplingOptions s_greedy = new() { Temperature = 0, MaxTokens = 400 };

    [Fact]
    public async Task TheMethodOfTheReadmeWorks()
    {
        (string text, string reasoning) = await Ask(Demonstration, think: false);
        Assert.Empty(reasoning);
        string code = AnswerMeasure.FencedCode(text);
        string method = System.Text.RegularExpressions.Regex.Match(code, @"\bint (\w+)\(int\[\]").Groups[1].Value;
        TestCase[] cases = [Case([3, 9, 4], 9), Case([-5, -2, -8], -2), Case([7], 7), Case([1, 2, 3, 10], 10), Case([10, 2, 3, 1], 10)];
        CodeOutcome outcome = CodeRunner.RunCSharp([new CodeItem("Demonstration", code, method, cases)])[0];
        Assert.True(outcome.Passes(cases), $"{outcome.Fault}\n{text}");
    }

    [Fact]
    public async Task ThinkingEndsAndAnAnswerFollows()
    {
        (string text, string reasoning) = await Ask("Write a C# method that returns the smallest element of an int array.", think: true);
        Assert.NotEmpty(reasoning.Trim());
        Assert.Contains("```csharp", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ItSaysWhatItIs()
    {
        (string text, _) = await Ask("Who are you?", think: false);
        Assert.Contains("nano", text, StringComparison.OrdinalIgnoreCase);
    }

    private static string Folder()
    {
        string at = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(at, "Qian.slnx")))
            at = Path.GetDirectoryName(at) ?? throw new InvalidOperationException("the tests run outside the repository");
        return Path.Combine(at, "models", "nano");
    }

    private static TestCase Case(int[] values, int expected) => new([values], expected);

    private static async Task<(string Text, string Reasoning)> Ask(string prompt, bool think)
    {
        using Engine engine = Engine.Load(Folder(), new EngineOptions { ContextLength = 1024 });
        using var chat = new ChatSession(engine, new ChatSettings { Think = think });
        var text = new System.Text.StringBuilder();
        var reasoning = new System.Text.StringBuilder();
        await foreach (ChatDelta delta in chat.SendAsync(prompt, s_greedy))
        {
            text.Append(delta.Text);
            reasoning.Append(delta.Reasoning);
        }

        return (text.ToString(), reasoning.ToString());
    }
}
