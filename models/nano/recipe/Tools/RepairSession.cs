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
        "Fix {f}.", "Please inspect {f} and mend what is wrong.", "Debug {m}.", "Check {f}, something is off.", "Mend {m} in {f}, please.", "Somebody broke {m}. Restore it.", "{f} has an error; find it.", "Can you look at {f}? A test fails.", "I think {m} does the wrong thing. Please see to it.", "Review {f} and correct the mistake.",
        "Please troubleshoot {f}.", "Get {f} to work again.", "Examine {m} and put it right.", "Solve the problem in {f}.", "The function {m} in {f} fails its tests.", "{f}: a test fails. Fix it.", "{m}: wrong result. Fix it.", "Open {f} and repair the bug.", "Could you correct {m}?", "Please make {m} right.", "Test {f} and fix what fails.",
        "Find what is wrong with {m}.", "Find what is wrong with {f}.", "Where is the mistake in {f}? Correct it.", "Take a look at {m}, its tests are red.", "Please get {m} to pass its tests.", "Patch {f}.", "Clean up the bug in {m}.", "Work on {f} until the tests pass.", "There seems to be an error in {m}.", "Kindly repair {f}.", "Sort out {f}, please.", "Heal {f}.",
    ];

    // A word that nobody knows before a name: what is to be opened is the name, whatever stands before it.
    private static readonly string[] s_strange = ["Please {w} {f}.", "{w} {f} for me.", "Could you {w} {f}?", "{w} {m}, please.", "Please {w} {m} in {f}.", "We must {w} {f} today.", "{f} has to be {w}.", "{w} {f}, it is {w}.", "I {w} that {f} is wrong."];

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
            Patient? patient = dice.Chance(45) ? LoopPatients.Draw(dice, split, language) : PlainPatients.Draw(dice, split, language);
            if (patient is null || !split.Admits("bug", $"{patient.Key}/{patient.Bug}") || patient.Cases(dice) is not { } cases)
                continue;
            string request = split == Split.Training && dice.Chance(20) ? dice.Pick(s_strange) : dice.Pick(s_requests);
            string className = split == Split.Training && dice.Chance(50) ? Invented.Word(dice, split) : dice.Pick(s_classes) + (dice.Chance(40) ? " " + dice.Pick("page", "one", "two", "helper", "box", "unit", "code", "lib", "main", "set") : "");
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
                Request = Fill(request, dice, split).Replace("{f}", path, StringComparison.Ordinal).Replace("{m}", patient.MethodName, StringComparison.Ordinal),
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

    // Lines that match, as the agent's tool prints them.
    public static string Search(IReadOnlyDictionary<string, string> files, Func<string, bool> isMatch) =>
        string.Join('\n', files.OrderBy(file => file.Key, StringComparer.Ordinal).SelectMany(file => file.Value.Split('\n').Select((line, i) => (line, i)).Where(numbered => isMatch(numbered.line)).Select(numbered => $"{file.Key}:{numbered.i + 1}: {numbered.line.Trim()}")));

    public Conversation Transcript(Dice dice)
    {
        bool thinks = dice.Chance(50);
        bool named = Request.Contains(SourcePath, StringComparison.Ordinal);
        string[] order = named
            ? dice.Pick<string[]>(["read", "run"], ["run", "read"], ["list", "read", "run"])
            : Tools.Has("search_files") && Request.Contains(Patient.MethodName, StringComparison.Ordinal) && dice.Chance(60) ? ["search", "read", "run"]
            : dice.Pick<string[]>(["list", "read", "run"], ["list", "run", "read"], ["run", "list", "read"], ["list", "tests", "read", "run"]);
        List<Turn> turns = [Turn.User(Request)];
        if (dice.Chance(12))
            OpenWrongFile(turns, dice, thinks, order.Contains("list"));
        foreach (string step in order)
        {
            switch (step)
            {
                case "list":
                    Add(turns, Tools.List, string.Join('\n', Files), thinks ? dice.Pick("I look at the files first.", "Which files are there?", "First I list the files.") : null);
                    break;
                case "search":
                    Add(turns, ToolBox.Search(Patient.MethodName), Search(new Dictionary<string, string> { [SourcePath] = SickText, [TestsPath] = TestsText }, line => line.Contains(Patient.MethodName, StringComparison.Ordinal)), thinks ? dice.Pick($"Where is {Patient.MethodName}?", $"I search for {Patient.MethodName}.") : null);
                    break;
                case "tests":
                    Add(turns, Tools.Read(TestsPath), TestsText.TrimEnd('\n'), thinks ? dice.Pick("The tests tell what is expected.", "I read the tests.") : null);
                    break;
                case "read":
                    Read(turns, dice, thinks, SickText);
                    break;
                default:
                    Add(turns, Tools.Run, SickReport, thinks ? dice.Pick("I run the tests to see what fails.", "Let me see the failure.", "What do the tests say?") : null);
                    break;
            }
        }

        string current = SickText;
        if (dice.Chance(25))
            current = Stumble(turns, dice, thinks);
        string reason = $"In {Patient.MethodName}, {Patient.Reason}.";
        string said = !thinks && dice.Chance(50) ? reason : "";
        turns.Add(Turn.Calls(Change(current, SoundText), thinks ? $"{reason} I correct that." : null, said));
        turns.Add(Turn.Result(Changed));
        Add(turns, Tools.Run, Report(Patient, Cases, test => Sorts.Show(test.Expected)), thinks ? dice.Pick("Now I check the fix.", "I run the tests again.") : null);
        turns.Add(Turn.Assistant(dice.Pick($"Fixed {SourcePath}: {Patient.Reason}. All tests pass now.", $"The bug was in {Patient.MethodName}: {Patient.Reason}. It is corrected and the tests pass.", $"Done. The mistake: {Patient.Reason}. All tests pass."), thinks ? "All tests pass." : null));
        return new Conversation("tools", turns, thinks) { Tools = Tools, Traits = Traits };
    }

    private string SickReport => Report(Patient, Cases, test => Patient.Outcome(test.Arguments));

    private string Changed => Tools.ChangeTool == "write_file" ? $"wrote {SourcePath}" : $"edited {SourcePath}";

    private static string Fill(string request, Dice dice, Split split)
    {
        if (!request.Contains("{w}", StringComparison.Ordinal))
            return request;
        string word = Invented.Word(dice, split);
        return request.Replace("{w}", request.StartsWith('{') ? char.ToUpperInvariant(word[0]) + word[1..] : word, StringComparison.Ordinal);
    }

    // A file that is not there is looked for, not asked for again.
    private void OpenWrongFile(List<Turn> turns, Dice dice, bool thinks, bool listsAnyway)
    {
        string wrong = dice.Pick("the " + SourcePath, SourcePath[..^3], "src/" + SourcePath, "code" + SourcePath, SourcePath[1..], SourcePath.Replace(".", "s.", StringComparison.Ordinal));
        turns.Add(Turn.Calls(Tools.Read(wrong), thinks ? $"I read {wrong}." : null) with { IsMistake = true });
        turns.Add(Turn.Result($"error: no file {wrong}"));
        if (!listsAnyway)
            Add(turns, Tools.List, string.Join('\n', Files), thinks ? dice.Pick("There is no such file. I list the files.", "That name was wrong. Which files are there?") : null);
    }

    // A first change that fails or does not help, and the look at what it did. The text as it is then.
    private string Stumble(List<Turn> turns, Dice dice, bool thinks)
    {
        string? misspelled = Patient.Language == Language.CSharp ? Patient.Parameters.Select(parameter => parameter.Name).FirstOrDefault(name => name.Length > 4) : null;
        switch (dice.Below(3))
        {
            case 0 when misspelled is not null:
                // One use of a name without its last letter: the compiler tells.
                string broken = Replace(SoundText, misspelled, misspelled[..^1]);
                turns.Add(Turn.Calls(Change(SickText, broken), thinks ? "I correct that." : null) with { IsMistake = true });
                turns.Add(Turn.Result(Changed));
                Add(turns, Tools.Run, $"ERROR {SourcePath}: CS0103: The name '{misspelled[..^1]}' does not exist in the current context", thinks ? dice.Pick("Now I check the fix.", "I run the tests again.") : null);
                if (dice.Chance(50))
                    Read(turns, dice, thinks, broken);
                return broken;
            case 1 when Tools.ChangeTool == "edit_file":
                string[] lines = [.. SickText.Split('\n').Select(line => line.Trim()).Where(line => line.Length > 6)];
                string old = dice.Pick(lines);
                old = old.Remove(old.Length / 2, 1);
                turns.Add(Turn.Calls(new Call("edit_file", ("path", SourcePath), ("old", old), ("new", old)), thinks ? "I correct that." : null) with { IsMistake = true });
                turns.Add(Turn.Result($"error: the text is not in {SourcePath}"));
                Read(turns, dice, thinks, SickText);
                return SickText;
            default:
                // A change that changes nothing: the tests say the same as before.
                string line = dice.Pick([.. SickText.Split('\n').Select(text => text.Trim()).Where(text => text.Length > 6 && Occurrences(SickText, text) == 1)]);
                turns.Add(Turn.Calls(Tools.ChangeTool == "write_file" ? Write(SickText) : new Call("edit_file", ("path", SourcePath), ("old", line), ("new", line)), thinks ? "I correct that." : null) with { IsMistake = true });
                turns.Add(Turn.Result(Changed));
                Add(turns, Tools.Run, SickReport, thinks ? dice.Pick("Now I check the fix.", "I run the tests again.") : null);
                if (dice.Chance(50))
                    Read(turns, dice, thinks, SickText);
                return SickText;
        }
    }

    private void Read(List<Turn> turns, Dice dice, bool thinks, string text) =>
        Add(turns, Tools.Read(SourcePath), text.TrimEnd('\n'), thinks ? dice.Pick($"The code is in {SourcePath}.", $"I read {SourcePath}.", $"Now I look at {SourcePath}.") : null);

    private static void Add(List<Turn> turns, Call call, string result, string? reasoning)
    {
        turns.Add(Turn.Calls(call, reasoning));
        turns.Add(Turn.Result(result));
    }

    private Call Change(string from, string to) => Tools.ChangeTool == "write_file" ? Write(to) : Edit(from, to);

    private Call Write(string text) => new("write_file", ("path", SourcePath), ("content", text.TrimEnd('\n')));

    // From the first line that differs to the last, and as many before it as it takes to name the place.
    private Call Edit(string from, string to)
    {
        string[] before = from.Split('\n');
        string[] after = to.Split('\n');
        int[] changed = [.. Enumerable.Range(0, before.Length).Where(i => before[i] != after[i])];
        int first = changed[0];
        while (Occurrences(from, Piece(before, first, changed[^1])) > 1)
            first--;
        return new Call("edit_file", ("path", SourcePath), ("old", Piece(before, first, changed[^1])), ("new", Piece(after, first, changed[^1])));
    }

    // The last use of a name, as a whole word.
    private static string Replace(string text, string name, string by)
    {
        int at = text.LastIndexOf(name, StringComparison.Ordinal);
        return text[..at] + by + text[(at + name.Length)..];
    }

    private static string Piece(string[] lines, int first, int last) => string.Join('\n', lines[first..(last + 1)]).Trim();

    private static int Occurrences(string text, string piece)
    {
        int count = 0;
        for (int at = text.IndexOf(piece, StringComparison.Ordinal); at >= 0; at = text.IndexOf(piece, at + 1, StringComparison.Ordinal))
            count++;
        return count;
    }
}
