namespace Qian.Nano;

// A project with a seeded bug, and the transcript of its repair: look, read, run, see the failure, correct, run, finish.
internal sealed class RepairSession
{
    private static readonly string[] s_requests =
    [
        "The tests fail. Find the bug and fix it.", "Please fix the failing tests.", "Something in this project is broken. Repair it.", "One of the tests fails; correct the code.", "Find the mistake in this project and fix it.",
        "The code has a bug. Please repair it and run the tests.", "Make the tests pass.", "There is a bug in {f}. Fix it.", "{f} gives wrong results. Please correct it.", "Please debug {f}.", "The tests of {f} fail. Fix the code, not the tests.",
        "Can you get the tests to pass?", "Look for the error in the project, correct it and check.", "Repair {f} so that all tests pass.", "My function {m} is wrong. Please fix it.", "{m} returns wrong values. Find out why and fix it.",
        "Run the tests, then fix what is wrong.", "Why do the tests fail? Please fix it.", "A test is red. Make it green.", "Help me fix {m} in {f}.", "Correct the bug in {f} and verify it.", "{m} in {f} is broken, please repair it.", "Tests are failing, please help.", "Bring this project back to working order.",
    ];

    private static readonly string[] s_classes = ["totals", "numbers", "calculator", "math tools", "shop", "report", "measure", "lists", "ledger", "store", "tools", "stats", "basket", "grades", "orders", "budget", "scores", "points", "invoice", "texts", "series", "counter", "table", "weather", "survey", "garden", "kitchen", "school"];
    private static readonly string[] s_extras = ["README.md", "notes.txt", "LICENSE", "todo.txt", "config.json"];

    public required Patient Patient { get; init; }

    public required ToolBox Tools { get; init; }

    public required string SourcePath { get; init; }

    public required string Request { get; init; }

    public required IReadOnlyList<TestCase> Cases { get; init; }

    public required IReadOnlyList<string> Files { get; init; }

    public required string SoundText { get; init; }

    public required string SickText { get; init; }

    public required IReadOnlyList<(string, string)> Traits { get; init; }

    // The names of the project's test file and its lines: one call and its value each.
    public const string TestsPath = "tests.txt";

    public string TestsText => string.Concat(Cases.Select(test => $"{Patient.Describe(test.Arguments)} == {Sorts.Show(test.Expected)}\n"));

    public static RepairSession Draw(Dice dice, Split split, Language? onlyLanguage = null)
    {
        while (true)
        {
            Language language = onlyLanguage ?? (dice.Chance(65) ? Language.CSharp : Language.Python);
            Patient? patient = dice.Chance(55) ? LoopPatients.Draw(dice, split, language) : PlainPatients.Draw(dice, split, language);
            if (patient is null || !split.Admits("bug", $"{patient.Key}/{patient.Bug}") || patient.Cases(dice) is not { } cases)
                continue;
            string request = dice.Pick(s_requests);
            string className = split == Split.Training && dice.Chance(30) ? Invented.Word(dice, split) : dice.Pick(s_classes) + (dice.Chance(40) ? " " + dice.Pick("page", "one", "two", "helper", "box", "unit", "code", "lib", "main", "set") : "");
            if (!split.Admits("request", request) || !split.Admits("name", className))
                continue;
            string path = language == Language.CSharp ? Names.Pascal(className) + ".cs" : Names.Snake(className) + ".py";
            List<string> files = [path, TestsPath];
            if (dice.Chance(50))
                files.Add(dice.Pick(s_extras));
            files.Sort(string.CompareOrdinal);
            return new RepairSession
            {
                Patient = patient,
                Tools = ToolBox.Draw(dice, split),
                SourcePath = path,
                Request = request.Replace("{f}", path, StringComparison.Ordinal).Replace("{m}", patient.MethodName, StringComparison.Ordinal),
                Cases = cases,
                Files = files,
                SoundText = patient.File(patient.Body, Names.Pascal(className)),
                SickText = patient.File(patient.WrongBody, Names.Pascal(className)),
                Traits = [("bug", $"{patient.Key}/{patient.Bug}"), ("request", request), ("name", className), ("name", patient.Name), .. patient.Parameters.Select(parameter => ("name", parameter.Name))],
            };
        }
    }

    // What the tests print, given what each call gave.
    public static string Report(Patient patient, IReadOnlyList<TestCase> cases, Func<TestCase, string> outcome)
    {
        var lines = new List<string>();
        foreach (TestCase test in cases)
        {
            string got = outcome(test);
            string expected = Sorts.Show(test.Expected);
            if (got != expected)
                lines.Add($"FAIL {patient.Describe(test.Arguments)}: expected {expected}, got {got}");
        }

        int failedCount = lines.Count;
        lines.Add(failedCount == 0 ? $"{cases.Count} of {cases.Count} tests passed" : $"{failedCount} of {cases.Count} tests failed");
        return string.Join('\n', lines);
    }

    public Conversation Transcript(Dice dice)
    {
        bool thinks = dice.Chance(50);
        bool named = Request.Contains(SourcePath, StringComparison.Ordinal);
        string[] order = named
            ? dice.Pick<string[]>(["read", "run"], ["run", "read"], ["list", "read", "run"])
            : dice.Pick<string[]>(["list", "read", "run"], ["list", "run", "read"], ["run", "list", "read"], ["list", "tests", "read", "run"]);
        List<Turn> turns = [Turn.User(Request)];
        foreach (string step in order)
        {
            switch (step)
            {
                case "list":
                    Add(turns, Tools.List, string.Join('\n', Files), thinks ? dice.Pick("I look at the files first.", "Which files are there?", "First I list the files.") : null);
                    break;
                case "tests":
                    Add(turns, Tools.Read(TestsPath), TestsText.TrimEnd('\n'), thinks ? dice.Pick("The tests tell what is expected.", "I read the tests.") : null);
                    break;
                case "read":
                    Add(turns, Tools.Read(SourcePath), SickText.TrimEnd('\n'), thinks ? dice.Pick($"The code is in {SourcePath}.", $"I read {SourcePath}.", $"Now I look at {SourcePath}.") : null);
                    break;
                default:
                    Add(turns, Tools.Run, Report(Patient, Cases, test => Patient.Outcome(test.Arguments)), thinks ? dice.Pick("I run the tests to see what fails.", "Let me see the failure.", "What do the tests say?") : null);
                    break;
            }
        }

        string reason = $"In {Patient.MethodName}, {Patient.Reason}.";
        string said = !thinks && dice.Chance(50) ? reason : "";
        turns.Add(Turn.Calls(Change(), thinks ? $"{reason} I correct that." : null, said));
        turns.Add(Turn.Result(Tools.ChangeTool == "write_file" ? $"wrote {SourcePath}" : $"edited {SourcePath}"));
        Add(turns, Tools.Run, Report(Patient, Cases, test => Sorts.Show(test.Expected)), thinks ? dice.Pick("Now I check the fix.", "I run the tests again.") : null);
        turns.Add(Turn.Assistant(dice.Pick($"Fixed {SourcePath}: {Patient.Reason}. All tests pass now.", $"The bug was in {Patient.MethodName}: {Patient.Reason}. It is corrected and the tests pass.", $"Done. The mistake: {Patient.Reason}. All tests pass."), thinks ? "All tests pass." : null));
        return new Conversation("tools", turns, thinks) { Tools = Tools, Traits = Traits };
    }

    private static void Add(List<Turn> turns, Call call, string result, string? reasoning)
    {
        turns.Add(Turn.Calls(call, reasoning));
        turns.Add(Turn.Result(result));
    }

    // The whole sound file, or the lines that differ.
    private Call Change()
    {
        if (Tools.ChangeTool == "write_file")
            return new Call("write_file", ("path", SourcePath), ("content", SoundText.TrimEnd('\n')));
        string[] sick = SickText.Split('\n');
        string[] sound = SoundText.Split('\n');
        int last = Enumerable.Range(0, sick.Length).First(i => sick[i] != sound[i]);
        // As many lines before it as it takes to name the place.
        int first = last;
        while (Occurrences(Piece(sick, first, last)) > 1)
            first--;
        return new Call("edit_file", ("path", SourcePath), ("old", Piece(sick, first, last)), ("new", Piece(sound, first, last)));
    }

    private static string Piece(string[] lines, int first, int last) => string.Join('\n', lines[first..(last + 1)]).Trim();

    private int Occurrences(string piece)
    {
        int count = 0;
        for (int at = SickText.IndexOf(piece, StringComparison.Ordinal); at >= 0; at = SickText.IndexOf(piece, at + 1, StringComparison.Ordinal))
            count++;
        return count;
    }
}
