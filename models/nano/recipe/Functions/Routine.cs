namespace Qian.Nano;

internal sealed record Parameter(string Name, Sort Sort, Holder Holder = Holder.Array);

// A function to be asked for: what it does in words, its code in one language, and an evaluator on plain values that shares nothing
// with the code. Drawn whole by a family (number pipelines, text pipelines, chains of steps, single tasks).
internal sealed record Routine
{
    // The composition, without language and types: what the partition decides on where it has parts.
    public required string Key { get; init; }

    // Primitives that it is composed of.
    public required int PartCount { get; init; }

    public required Language Language { get; init; }

    public required IReadOnlyList<Parameter> Parameters { get; init; }

    public required Sort Result { get; init; }

    public Holder ResultHolder { get; init; }

    // "the sum of the even numbers in $0", or for a truth "all numbers in $0 are even"; $0 and on stand for the parameters.
    public required string Phrase { get; init; }

    // One or two short sentences of reasoning.
    public required string Plan { get; init; }

    // Lines of the body; a lone "return …" may become an expression body in C#.
    public required string Body { get; init; }

    // Ahead of a Python function.
    public string Imports { get; init; } = "";

    // The function's name as words.
    public required string Name { get; init; }

    public required Func<object[], object> Evaluate { get; init; }

    // Draws the arguments of one test case.
    public required Func<Dice, object[]> Arguments { get; init; }

    public bool IsTruth => Result == Sort.Bool;

    public string Shape => string.Join(",", Parameters.Select(parameter => parameter.Sort.CSharpType(parameter.Holder)));

    public string Signature(bool typed = true)
    {
        if (Language == Language.CSharp)
            return $"public static {Result.CSharpType(ResultHolder)} {Names.Pascal(Name)}({string.Join(", ", Parameters.Select(p => $"{p.Sort.CSharpType(p.Holder)} {p.Name}"))})";
        string parameters = string.Join(", ", Parameters.Select(p => typed ? $"{p.Name}: {p.Sort.Type(Language.Python, p.Holder)}" : p.Name));
        return $"def {Names.Snake(Name)}({parameters}){(typed ? " -> " + Result.Type(Language.Python, ResultHolder) : "")}:";
    }

    public string Code(bool asExpression, bool typed = true, string comment = "")
    {
        if (Language == Language.Python)
            return Imports + Signature(typed) + "\n" + comment + Indent(Body);
        if (asExpression && Body.StartsWith("return ", StringComparison.Ordinal) && !Body.Contains('\n'))
            return $"{comment}{Signature()} => {Body["return ".Length..]}";
        return $"{comment}{Signature()}\n{{\n{Indent(Body)}\n}}";
    }

    // Test cases with their expected values; those on which the task is not defined (the greatest of nothing) are left out.
    public IReadOnlyList<TestCase> Cases(Dice dice, int count)
    {
        var cases = new List<TestCase>();
        for (int i = 0; i < 6 * count && cases.Count < count; i++)
        {
            object[] arguments = Arguments(dice);
            try
            {
                object expected = Evaluate(arguments);
                if (!IsTooLarge(expected))
                    cases.Add(new TestCase(arguments, expected));
            }
            catch (Exception undefined) when (undefined is InvalidOperationException or OverflowException or ArgumentException or IndexOutOfRangeException or DivideByZeroException)
            {
            }
        }

        return cases;
    }

    // Beyond what an int holds, languages differ.
    private bool IsTooLarge(object value) => value switch
    {
        long number => Math.Abs(number) > int.MaxValue,
        double number => Math.Abs(number) > int.MaxValue || !double.IsFinite(number),
        long[] numbers => numbers.Any(number => Math.Abs(number) > int.MaxValue),
        _ => false,
    };

    private static string Indent(string body) => "    " + body.Replace("\n", "\n    ", StringComparison.Ordinal);
}

internal sealed record TestCase(object[] Arguments, object Expected);
