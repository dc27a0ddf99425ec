using System.Text.Json;

namespace Qian.Nano;

// Held-out functions (their code is run), thinking that closes, tool calls in their form, JSON answers.
internal static class AnswerMeasure
{
    // Thinking must be over within these, and the answer is at most 120 tokens.
    private const int MostThinking = 512;
    private const int MaxTokens = 700;

    public static IReadOnlyList<Score> Functions(Speaker speaker, ulong seed, int count, out IReadOnlyList<Reply> replies)
    {
        var items = new List<(Conversation Sample, Routine Routine, IReadOnlyList<TestCase> Cases)>();
        for (int i = 0; items.Count < count; i++)
        {
            Dice dice = Dice.For(seed, "measure functions", i);
            Routine routine = FunctionRequests.DrawRoutine(dice, Split.HeldOut);
            IReadOnlyList<TestCase> cases = routine.Cases(dice, 6);
            // Too little is defined to tell right from wrong.
            if (cases.Count >= 3)
                items.Add((FunctionRequests.Ask(dice, Split.HeldOut, routine, thinks: items.Count % 2 == 0), routine, cases));
        }

        replies = speaker.AskAll([.. items.Select(item => (item.Sample.Turns.Take(1).ToList() as IReadOnlyList<Turn>, (ToolBox?)null, item.Sample.Thinks))], MaxTokens);
        IReadOnlyList<Reply> answers = replies;
        Score Run(Language language)
        {
            List<int> chosen = [.. Enumerable.Range(0, count).Where(i => items[i].Routine.Language == language)];
            List<CodeItem> code = [.. chosen.Select(i => new CodeItem($"Item{i}", FencedCode(answers[i].Text), MethodName(items[i].Routine), items[i].Cases))];
            string name = language == Language.CSharp ? "functions in C# pass their tests" : "functions in Python pass their tests";
            if ((language == Language.CSharp ? CodeRunner.RunCSharp(code) : CodeRunner.RunPython(code)) is not { } outcomes)
                return new Score(name, 0, 0, $"unrun: no python3; {chosen.Count} items");
            return new Score(name, outcomes.Where((outcome, i) => outcome.Passes(code[i].Cases)).Count(), chosen.Count);
        }

        Score cSharp = Run(Language.CSharp);
        Score python = Run(Language.Python);
        List<int> thinking = [.. Enumerable.Range(0, count).Where(i => items[i].Sample.Thinks)];
        int closed = thinking.Count(i => answers[i].IsWhole && answers[i].TokensUntilAnswer <= MostThinking && answers[i].Text.Trim().Length > 0);
        return
        [
            new Score("functions pass their tests", cSharp.Passed + python.Passed, cSharp.Count + python.Count, "held-out compositions, wordings and names"),
            cSharp,
            python,
            new Score("thinking closes within 512 tokens and answers", closed, thinking.Count),
        ];
    }

    public static Score Calls(Speaker speaker, ulong seed, int count)
    {
        var prompts = new List<(IReadOnlyList<Turn>, ToolBox?, bool)>();
        for (int i = 0; i < count; i++)
        {
            Dice dice = Dice.For(seed, "measure calls", i);
            Conversation sample = dice.Chance(60) ? RepairSession.Draw(dice, Split.HeldOut).Transcript(dice) : Errands.Draw(dice, Split.HeldOut);
            int at = dice.Pick<int>([.. Enumerable.Range(0, sample.Turns.Count).Where(k => sample.Turns[k].Call is not null)]);
            prompts.Add(([.. sample.Turns.Take(at)], sample.Tools, sample.Thinks));
        }

        IReadOnlyList<Reply> replies = speaker.AskAll(prompts, MaxTokens);
        return new Score("tool calls well-formed without grammar", replies.Where((reply, i) => CallForm.IsWellFormed(reply.Raw, prompts[i].Item2!)).Count(), count, "each after a held-out transcript so far");
    }

    public static Score Json(Speaker speaker, ulong seed, int count)
    {
        List<Conversation> samples = [.. Enumerable.Range(0, count).Select(i => JsonRequests.Draw(Dice.For(seed, "measure json", i), Split.HeldOut))];
        IReadOnlyList<Reply> replies = speaker.AskAll([.. samples.Select(sample => (sample.Turns.Take(1).ToList() as IReadOnlyList<Turn>, (ToolBox?)null, sample.Thinks))], MaxTokens);
        return new Score("JSON as asked, every value right", replies.Where((reply, i) => SameJson(reply.Text, samples[i].Turns[1].Content)).Count(), count, "held-out forms, wordings and names");
    }

    // What stands in the last fence; all of it where there is none.
    public static string FencedCode(string text)
    {
        int end = text.LastIndexOf("\n```", StringComparison.Ordinal);
        int start = end < 0 ? -1 : text.LastIndexOf("```", end, StringComparison.Ordinal);
        int line = start < 0 ? -1 : text.IndexOf('\n', start);
        return line < 0 || line > end ? text : text[(line + 1)..end];
    }

    private static string MethodName(Routine routine) => routine.Language == Language.CSharp ? Names.Pascal(routine.Name) : Names.Snake(routine.Name);

    private static bool SameJson(string text, string expected)
    {
        try
        {
            using JsonDocument found = JsonDocument.Parse(text.Trim());
            using JsonDocument wanted = JsonDocument.Parse(expected);
            return JsonElement.DeepEquals(found.RootElement, wanted.RootElement);
        }
        catch (JsonException)
        {
            return false;
        }
    }
}
