using System.Text.Json;
using Qian.Inference.Chat;

namespace Qian.Nano;

// Held-out bugs in C#, given to the model with real tools: at most eight steps each, all items in step so that each round compiles once.
internal static class RepairMeasure
{
    private const int MostSteps = 8;
    private const int MaxTokens = 400;

    public static Score Run(Speaker speaker, ulong seed, int count, string? transcripts = null)
    {
        List<Repair> repairs = [.. Enumerable.Range(0, count).Select(i => Start(seed, i))];
        for (int step = 0; step < MostSteps; step++)
        {
            List<Repair> open = [.. repairs.Where(repair => !repair.IsOver)];
            if (open.Count == 0)
                break;
            IReadOnlyList<Reply> replies = speaker.AskAll([.. open.Select(repair => ((IReadOnlyList<Turn>)repair.Turns, (ToolBox?)repair.Session.Tools, repair.Thinks))], MaxTokens);
            for (int i = 0; i < open.Count; i++)
                open[i].Take(replies[i]);
            List<Repair> testing = [.. open.Where(repair => repair.WantsTests)];
            IReadOnlyList<CodeOutcome> outcomes = CodeRunner.RunCSharp([.. testing.Select((repair, i) => repair.Item(i, repair.Session.Cases))]);
            for (int i = 0; i < testing.Count; i++)
                testing[i].Report(outcomes[i]);
        }

        // The original tests and more like them, whatever the model says about them.
        List<IReadOnlyList<TestCase>> cases = [.. repairs.Select((repair, i) => MoreCases(repair.Session, seed, i))];
        IReadOnlyList<CodeOutcome> final = CodeRunner.RunCSharp([.. repairs.Select((repair, i) => repair.Item(i, cases[i]))]);
        if (transcripts is not null)
            File.AppendAllLines(transcripts, repairs.Select((repair, i) => repair.Transcript(final[i].Passes(cases[i]))));
        return new Score("seeded bug repaired within 8 steps", repairs.Where((_, i) => final[i].Passes(cases[i])).Count(), count, "C#, held-out bugs");
    }

    private static Repair Start(ulong seed, int index)
    {
        Dice dice = Dice.For(seed, "measure repair", index);
        return new Repair(RepairSession.Draw(dice, Split.HeldOut, Language.CSharp), index % 2 == 0);
    }

    private static List<TestCase> MoreCases(RepairSession session, ulong seed, int index)
    {
        Dice dice = Dice.For(seed, "measure repair cases", index);
        List<TestCase> cases = [.. session.Cases];
        for (int i = 0; i < 8; i++)
        {
            object[] arguments = session.Patient.Arguments(dice);
            cases.Add(new TestCase(arguments, session.Patient.Evaluate(arguments)));
        }

        return cases;
    }

    private sealed class Repair(RepairSession session, bool thinks)
    {
        private readonly Workbench _bench = new(session);

        public RepairSession Session => session;

        public bool Thinks => thinks;

        public List<Turn> Turns { get; } = [Turn.User(session.Request)];

        public bool IsOver { get; private set; }

        public bool WantsTests { get; private set; }

        public CodeItem Item(int index, IReadOnlyList<TestCase> cases) => new($"Item{index}", _bench.Source, session.Patient.MethodName, cases);

        // A reply without a whole call ends the repair.
        public void Take(Reply reply)
        {
            if (reply.Calls.Count == 0)
            {
                Turns.Add(Turn.Assistant(reply.Text, thinks ? reply.Reasoning.Trim() : null));
                IsOver = true;
                return;
            }

            ToolCall call = reply.Calls[0];
            (string, string)[] arguments = call.Arguments.ValueKind == JsonValueKind.Object
                ? [.. call.Arguments.EnumerateObject().Select(argument => (argument.Name, argument.Value.ToString()))]
                : [];
            Turns.Add(Turn.Calls(new Call(call.Name, arguments), thinks ? reply.Reasoning.Trim() : null, reply.Text.Trim()));
            string? answer = _bench.Answer(call);
            WantsTests = answer is null;
            if (answer is not null)
                Turns.Add(Turn.Result(answer));
        }

        public string Transcript(bool passed) => JsonSerializer.Serialize(new { passed, patient = session.Patient.Key, bug = session.Patient.Bug, messages = JsonDocument.Parse(MessageWriter.Write(Speaker.Messages(Turns))).RootElement });

        public void Report(CodeOutcome outcome)
        {
            WantsTests = false;
            Turns.Add(Turn.Result(_bench.Report(outcome)));
        }
    }
}
