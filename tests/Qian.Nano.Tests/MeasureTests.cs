using System.Text.Json;
using Qian.Inference.Chat;

namespace Qian.Nano.Tests;

public class MeasureTests
{
    [Theory]
    [InlineData(8, 10, 0.4902, 0.9433)]
    [InlineData(0, 10, 0, 0.2775)]
    [InlineData(190, 200, 0.9104, 0.9726)]
    public void IntervalsAreWilsons(int passed, int count, double low, double high)
    {
        var score = new Score("", passed, count);
        Assert.Equal(low, score.Interval.Low, 4);
        Assert.Equal(high, score.Interval.High, 4);
    }

    [Theory]
    [InlineData("Here it is:\n\n```csharp\nint A() => 1;\n```", "int A() => 1;")]
    [InlineData("```python\ndef a():\n    return 1\n```\nDone.", "def a():\n    return 1")]
    [InlineData("int A() => 1;", "int A() => 1;")]
    [InlineData("```csharp\nint A() => 1;", "```csharp\nint A() => 1;")]
    public void CodeIsTakenFromItsFence(string text, string code) => Assert.Equal(code, AnswerMeasure.FencedCode(text));

    [Fact]
    public void CallsOfTheTemplateAreWellFormedAndBrokenOnesAreNot()
    {
        int checkedCount = 0;
        for (int i = 0; i < 60; i++)
        {
            Dice dice = Dice.For(31, "form", i);
            Conversation sample = RepairSession.Draw(dice, Split.HeldOut).Transcript(dice);
            for (int at = 1; at < sample.Turns.Count; at++)
            {
                if (sample.Turns[at].Call is not { } call)
                    continue;
                string Render(int count, bool prompt) => ChatTemplate.Default.Render(Speaker.Messages([.. sample.Turns.Take(count)]), Speaker.Definitions(sample.Tools), new ChatTemplateOptions { AddGenerationPrompt = prompt, EnableThinking = sample.Thinks ? null : false });
                string raw = Render(at + 1, false)[Render(at, true).Length..].TrimEnd('\n');
                Assert.EndsWith("<|im_end|>", raw, StringComparison.Ordinal);
                Assert.True(CallForm.IsWellFormed(raw, sample.Tools!), raw);
                checkedCount++;
                foreach (string broken in (string[])[raw.Replace("</function>\n", "", StringComparison.Ordinal), raw.Replace("<function=", "<function=my_", StringComparison.Ordinal), raw.Replace("</tool_call>", "", StringComparison.Ordinal), raw + "and more", "Done."])
                    Assert.False(CallForm.IsWellFormed(broken, sample.Tools!), broken);
                if (call.Arguments.Count > 0)
                    Assert.False(CallForm.IsWellFormed(raw.Replace("<parameter=" + call.Arguments[0].Name, "<parameter=thing", StringComparison.Ordinal), sample.Tools!));
            }
        }

        Assert.True(checkedCount > 200);
    }

    // The transcripts' own calls, carried out for real, repair the project: so generator and workbench speak of the same tools.
    [Fact]
    public void TheWorkbenchAnswersAsTheTranscriptsSay()
    {
        var runs = new List<(RepairSession Session, Workbench Bench, string Source, string Report)>();
        int mistakes = 0;
        for (int i = 0; i < 60; i++)
        {
            Dice dice = Dice.For(32, "bench", i);
            RepairSession session = RepairSession.Draw(dice, Split.HeldOut, Language.CSharp);
            Conversation sample = session.Transcript(dice);
            var bench = new Workbench(session);
            for (int at = 1; at < sample.Turns.Count; at++)
            {
                if (sample.Turns[at].Call is not { } call)
                    continue;
                mistakes += sample.Turns[at].IsMistake ? 1 : 0;
                JsonElement arguments = JsonSerializer.SerializeToElement(call.Arguments.ToDictionary(argument => argument.Name, argument => argument.Value));
                if (bench.Answer(new ToolCall("", call.Tool, arguments)) is { } answer)
                    Assert.Equal(sample.Turns[at + 1].Content, answer);
                else
                    runs.Add((session, bench, bench.Source, sample.Turns[at + 1].Content));
            }

            Assert.EndsWith("tests passed", runs[^1].Report, StringComparison.Ordinal);
        }

        Assert.InRange(mistakes, 5, 40);
        IReadOnlyList<CodeOutcome> outcomes = CodeRunner.RunCSharp([.. runs.Select((run, i) => new CodeItem($"Item{i}", run.Source, run.Session.Patient.MethodName, run.Session.Cases))]);
        for (int i = 0; i < runs.Count; i++)
            Assert.Equal(runs[i].Report, runs[i].Bench.Report(outcomes[i]));
    }

    [Theory]
    [InlineData("write_file", "path", "nowhere/else/and/far/too/long/")]
    [InlineData("edit_file", "path", "absent")]
    [InlineData("read_file", "path", "/etc/passwd")]
    [InlineData("delete_all", "path", "x")]
    public void TheWorkbenchRefusesWhatDoesNotExist(string tool, string name, string value)
    {
        RepairSession session = RepairSession.Draw(Dice.For(33, "bench", 0), Split.HeldOut, Language.CSharp);
        string text = tool == "write_file" ? value + new string('x', 100) : value;
        string? answer = new Workbench(session).Answer(new ToolCall("", tool, JsonSerializer.SerializeToElement(new Dictionary<string, string> { [name] = text })));
        Assert.StartsWith("error:", answer, StringComparison.Ordinal);
    }
}
