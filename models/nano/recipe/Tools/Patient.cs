namespace Qian.Nano;

// A small program with one seeded bug: the sound code, the fragment that is wrong in it, and how both behave.
internal sealed record Patient
{
    public required string Key { get; init; }

    public required string Bug { get; init; }

    public required Language Language { get; init; }

    // Words of the method's name.
    public required string Name { get; init; }

    public required IReadOnlyList<Parameter> Parameters { get; init; }

    public required Sort Result { get; init; }

    // Lines of the body, sound.
    public required string Body { get; init; }

    public required string Right { get; init; }

    public required string Wrong { get; init; }

    // "the loop starts at 1 and skips the first element"
    public required string Reason { get; init; }

    public required Func<object[], object> Evaluate { get; init; }

    // What the bug makes of it; throws what the program throws.
    public required Func<object[], object> EvaluateWrong { get; init; }

    public required Func<Dice, object[]> Arguments { get; init; }

    public string MethodName => Language == Language.CSharp ? Names.Pascal(Name) : Names.Snake(Name);

    public string WrongBody
    {
        get
        {
            int at = Body.IndexOf(Right, StringComparison.Ordinal);
            if (at < 0)
                throw new InvalidOperationException($"{Key}/{Bug}: '{Right}' does not occur in the body");
            return Body[..at] + Wrong + Body[(at + Right.Length)..];
        }
    }

    public string File(string body, string className)
    {
        string parameters = string.Join(", ", Parameters.Select(p => Language == Language.CSharp ? $"{p.Sort.CSharpType(p.Holder)} {p.Name}" : p.Name));
        if (Language == Language.Python)
            return $"def {MethodName}({parameters}):\n    {body.Replace("\n", "\n    ", StringComparison.Ordinal)}\n";
        string inner = body.Replace("\n", "\n        ", StringComparison.Ordinal);
        return $"public static class {className}\n{{\n    public static {Result.CSharpType()} {MethodName}({parameters})\n    {{\n        {inner}\n    }}\n}}\n";
    }

    // Three or four cases of which at least one shows the bug; null when none of many does.
    public IReadOnlyList<TestCase>? Cases(Dice dice)
    {
        var shown = new List<TestCase>();
        var hidden = new List<TestCase>();
        for (int i = 0; i < 60 && (shown.Count < 3 || hidden.Count < 2); i++)
        {
            object[] arguments = Arguments(dice);
            object expected = Evaluate(arguments);
            bool isSame = Outcome(arguments) == Sorts.Show(expected);
            List<TestCase> cases = isSame ? hidden : shown;
            string text = Describe(arguments);
            if (!shown.Concat(hidden).Any(known => Describe(known.Arguments) == text))
                cases.Add(new TestCase(arguments, expected));
        }

        if (shown.Count == 0)
            return null;
        List<TestCase> all = [.. shown.Take(dice.Between(1, 3)), .. hidden.Take(dice.Between(0, 2))];
        dice.Shuffle(all);
        return all;
    }

    public string Describe(object[] arguments) => $"{MethodName}({string.Join(", ", arguments.Select(Sorts.Show))})";

    // What the sick program gives, as the tests print it.
    public string Outcome(object[] arguments)
    {
        try
        {
            return Sorts.Show(EvaluateWrong(arguments));
        }
        catch (IndexOutOfRangeException)
        {
            return Language == Language.CSharp ? "IndexOutOfRangeException" : "IndexError";
        }
    }
}
