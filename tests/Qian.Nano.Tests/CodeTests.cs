namespace Qian.Nano.Tests;

// Every code answer is right: what is generated is compiled and run against values that an evaluator computes on its own.
public class CodeTests
{
    [Theory]
    [InlineData(Split.Training, 1200)]
    [InlineData(Split.HeldOut, 300)]
    internal void CSharpAnswersGiveTheExpectedValues(Split split, int count)
    {
        List<CodeItem> items = Items(split, Language.CSharp, count, out HashSet<string> keys);
        IReadOnlyList<CodeOutcome> outcomes = CodeRunner.RunCSharp(items);
        AssertAllPass(items, outcomes);
        if (split == Split.Training)
            Assert.Subset(keys, SingleTasks.Keys.ToHashSet());
    }

    [Theory]
    [InlineData(Split.Training, 1200)]
    [InlineData(Split.HeldOut, 300)]
    internal void PythonAnswersGiveTheExpectedValues(Split split, int count)
    {
        List<CodeItem> items = Items(split, Language.Python, count, out _);
        // Unrun where there is no Python.
        if (CodeRunner.RunPython(items) is { } outcomes)
            AssertAllPass(items, outcomes);
    }

    [Theory]
    [InlineData(0, 300)]
    [InlineData(1, 300)]
    public void SeededBugsBehaveAsTheTranscriptsSay(int language, int count)
    {
        var items = new List<CodeItem>();
        var sessions = new List<RepairSession>();
        for (int i = 0; i < count; i++)
        {
            RepairSession session = RepairSession.Draw(Dice.For(5, "bugs", i), i % 5 == 0 ? Split.HeldOut : Split.Training, (Language)language);
            sessions.Add(session);
            items.Add(new CodeItem($"Sick{i}", session.SickText, session.Patient.MethodName, session.Cases));
            items.Add(new CodeItem($"Sound{i}", session.SoundText, session.Patient.MethodName, session.Cases));
        }

        if ((language == 0 ? CodeRunner.RunCSharp(items) : CodeRunner.RunPython(items)) is not { } outcomes)
            return;
        for (int i = 0; i < count; i++)
        {
            RepairSession session = sessions[i];
            Assert.True(outcomes[2 * i + 1].Passes(session.Cases), session.SoundText + outcomes[2 * i + 1].Fault);
            for (int k = 0; k < session.Cases.Count; k++)
            {
                string shown = session.Patient.Outcome(session.Cases[k].Arguments);
                string found = outcomes[2 * i].Show(k);
                Assert.True(found == shown, $"{session.SickText}\n{session.Patient.Describe(session.Cases[k].Arguments)}: transcript says {shown}, found {found}");
            }
        }
    }

    [Fact]
    public void CodeThatDoesNotCompileOrEndOrAnswerFailsAlone()
    {
        TestCase[] cases = [new([3L], 4L)];
        IReadOnlyList<CodeOutcome> outcomes = CodeRunner.RunCSharp(
        [
            new("A", "public static int Next(int n) => n + 1;", "Next", cases),
            new("B", "public static int Next(int n) => n + ;", "Next", cases),
            new("C", "public static int Next(int n) { while (true) { } }", "Next", cases),
            new("D", "public int Other(int n) { return n + 1; }", "Next", cases),
            new("E", "public static int Next(int n) => throw new ArgumentException();", "Next", cases),
            new("F", "public static int Next(int n) => n + 1; } }", "Next", cases),
            new("G", "public static long Next(long n) => n + 2;", "Next", cases),
            new("H", "public static int Next(int n) { var b = new List<long[]>(); while (true) b.Add(new long[1 << 24]); }", "Next", cases),
        ]);
        Assert.Equal([true, false, false, true, false, false, false, false], outcomes.Select(outcome => outcome.Passes(cases)));
        Assert.Equal("!Timeout", outcomes[2].Lines![0]);
        Assert.Equal("!ArgumentException", outcomes[4].Lines![0]);
        Assert.Equal("!OutOfMemoryException", outcomes[7].Lines![0]);
    }

    private static List<CodeItem> Items(Split split, Language language, int count, out HashSet<string> keys)
    {
        var items = new List<CodeItem>();
        keys = [];
        for (int i = 0; items.Count < count; i++)
        {
            Dice dice = Dice.For(3, "code", i);
            // Often enough that every single task is met.
            Routine routine = split == Split.Training && i % 3 == 0 ? SingleTasks.Draw(dice, split, language) : FunctionRequests.DrawRoutine(dice, split);
            if (routine.Language != language)
                continue;
            keys.Add(routine.Key);
            IReadOnlyList<TestCase> cases = routine.Cases(dice, 6);
            Assert.True(cases.Count >= 2, $"{routine.Key}: too few cases");
            string name = language == Language.CSharp ? Names.Pascal(routine.Name) : Names.Snake(routine.Name);
            items.Add(new CodeItem($"Item{i}", routine.Code(dice.Chance(50), dice.Chance(50)), name, cases));
        }

        return items;
    }

    private static void AssertAllPass(List<CodeItem> items, IReadOnlyList<CodeOutcome> outcomes)
    {
        var failures = new List<string>();
        for (int i = 0; i < items.Count; i++)
        {
            if (outcomes[i].Passes(items[i].Cases))
                continue;
            string cases = string.Join("\n", items[i].Cases.Select((test, k) => $"{Sorts.Show(test.Arguments)} expected {Sorts.Show(test.Expected)} found {outcomes[i].Lines?[k]}"));
            failures.Add($"{items[i].Code}\n{outcomes[i].Fault}\n{cases}");
        }

        Assert.True(failures.Count == 0, $"{failures.Count} of {items.Count}:\n{string.Join("\n\n", failures.Take(12))}");
    }
}
