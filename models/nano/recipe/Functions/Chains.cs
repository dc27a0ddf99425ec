namespace Qian.Nano;

// Functions of one number or one text, as chains of one to three steps: "whether the digit sum of the square of n is even".
internal static class Chains
{
    // Code with {i} the value so far and {o} the variable to set; a step whose code has no {o} is an expression.
    private sealed record Step(string Key, string Name, string Phrase, string CSharp, string Python, Func<object, object> Apply, Sort From, Sort To, string Plan)
    {
        public bool IsExpression(Language language) => !(language == Language.CSharp ? CSharp : Python).Contains("{o}", StringComparison.Ordinal);
    }

    private static readonly Step[] s_steps =
    [
        Number("digitsum", "digit sum", "the digit sum of {s}", "int {o} = 0;\nfor (int rest = {i}; rest > 0; rest /= 10)\n    {o} += rest % 10;", "sum(int(d) for d in str({i}))", n => n.ToString().Sum(c => c - '0'), "add up the digits"),
        Number("digitcount", "digit count", "the number of digits of {s}", "{i}.ToString().Length", "len(str({i}))", n => n.ToString().Length, "count the digits"),
        Number("digitreverse", "reversed digits", "the reversed digits of {s}", "int.Parse(new string({i}.ToString().Reverse().ToArray()))", "int(str({i})[::-1])", n => { long r = 0; for (; n > 0; n /= 10) r = 10 * r + n % 10; return r; }, "reverse the digits"),
        Number("square", "square", "the square of {s}", "{i} * {i}", "{i} * {i}", n => n * n, "square it"),
        Number("cube", "cube", "the cube of {s}", "{i} * {i} * {i}", "{i} ** 3", n => n * n * n, "cube it"),
        Number("double", "double", "the double of {s}", "2 * {i}", "2 * {i}", n => n + n, "double it"),
        Number("half", "half", "half of {s}, rounded down", "{i} / 2", "{i} // 2", n => (n - n % 2) / 2, "halve it"),
        Number("next", "successor", "the successor of {s}", "{i} + 1", "{i} + 1", n => n + 1, "add 1"),
        Number("triangle", "triangular number", "the sum of all numbers from 1 to {s}", "{i} * ({i} + 1) / 2", "{i} * ({i} + 1) // 2", n => { long t = 0; for (long i = 1; i <= n; i++) t += i; return t; }, "use n(n+1)/2"),
        Number("factorial", "factorial", "the factorial of {s}", "int {o} = 1;\nfor (int i = 2; i <= {i}; i++)\n    {o} *= i;", "{o} = 1\nfor i in range(2, {i} + 1):\n    {o} *= i", n => n > 12 ? throw new OverflowException() : n < 2 ? 1 : Enumerable.Range(1, (int)n).Aggregate(1L, (a, b) => a * b), "multiply the numbers up to it"),
        Number("divisorcount", "divisor count", "the number of divisors of {s}", "Enumerable.Range(1, {i}).Count(d => {i} % d == 0)", "sum(1 for d in range(1, {i} + 1) if {i} % d == 0)", n => Divisors(n).Count(), "count the divisors"),
        Number("divisorsum", "divisor sum", "the sum of the divisors of {s}", "Enumerable.Range(1, {i}).Where(d => {i} % d == 0).Sum()", "sum(d for d in range(1, {i} + 1) if {i} % d == 0)", n => Divisors(n).Sum(), "add up the divisors"),
        Number("lastdigit", "last digit", "the last digit of {s}", "{i} % 10", "{i} % 10", n => n.ToString()[^1] - '0', "take the remainder by 10"),
        Number("fibonacci", "fibonacci number", "the Fibonacci number with index {s}", "int {o} = 0, next = 1;\nfor (int i = 0; i < {i}; i++)\n    ({o}, next) = (next, {o} + next);", "{o}, next_one = 0, 1\nfor _ in range({i}):\n    {o}, next_one = next_one, {o} + next_one", n => n > 40 ? throw new OverflowException() : Fibonacci(n), "step through the series"),
        Truth("even", "even", "{s} is even", "{i} % 2 == 0", "{i} % 2 == 0", n => n.ToString()[^1] is '0' or '2' or '4' or '6' or '8', "check the remainder by 2"),
        Truth("odd", "odd", "{s} is odd", "{i} % 2 != 0", "{i} % 2 != 0", n => n.ToString()[^1] is '1' or '3' or '5' or '7' or '9', "check the remainder by 2"),
        Truth("prime", "prime", "{s} is a prime number", "{i} > 1 && Enumerable.Range(2, {i} - 2).All(d => {i} % d != 0)", "{i} > 1 and all({i} % d != 0 for d in range(2, {i}))", n => Divisors(n).Count() == 2, "check that nothing divides it"),
        Truth("squared", "perfect square", "{s} is a perfect square", "Math.Sqrt({i}) % 1 == 0", "int({i} ** 0.5) ** 2 == {i}", n => { long r = 0; while (r * r < n) r++; return r * r == n; }, "check its square root"),
        Truth("by3", "divisible by three", "{s} is divisible by 3", "{i} % 3 == 0", "{i} % 3 == 0", n => n / 3 * 3 == n, "check the remainder by 3"),
        Truth("by5", "divisible by five", "{s} is divisible by 5", "{i} % 5 == 0", "{i} % 5 == 0", n => n / 5 * 5 == n, "check the remainder by 5"),
        Truth("above10", "above ten", "{s} is greater than 10", "{i} > 10", "{i} > 10", n => n >= 11, "compare with 10"),
        Truth("palindrome", "palindromic", "{s} reads the same backwards", "{i}.ToString() == new string({i}.ToString().Reverse().ToArray())", "str({i}) == str({i})[::-1]", n => n.ToString() is var t && Enumerable.Range(0, t.Length).All(i => t[i] == t[^(i + 1)]), "compare the digits with their reverse"),
        Text("reverse", "reversed", "the reverse of {s}", "new string({i}.Reverse().ToArray())", "{i}[::-1]", t => string.Concat(Enumerable.Range(1, t.Length).Select(i => t[^i])), "reverse it"),
        Text("upper", "upper", "{s} in upper case", "{i}.ToUpper()", "{i}.upper()", t => t.ToUpperInvariant(), "turn it to upper case"),
        Text("lower", "lower", "{s} in lower case", "{i}.ToLower()", "{i}.lower()", t => t.ToLowerInvariant(), "turn it to lower case"),
        Text("nospaces", "without blanks", "{s} without spaces", "{i}.Replace(\" \", \"\")", "{i}.replace(\" \", \"\")", t => string.Concat(t.Split(' ')), "remove the spaces"),
        Text("dashes", "with dashes", "{s} with spaces replaced by dashes", "{i}.Replace(' ', '-')", "{i}.replace(\" \", \"-\")", t => string.Join('-', t.Split(' ')), "replace the spaces"),
        Text("twice", "repeated", "{s} repeated twice", "{i} + {i}", "{i} * 2", t => string.Concat(t, t), "write it twice"),
        Text("start3", "first three", "the first three characters of {s}", "{i}.Substring(0, Math.Min(3, {i}.Length))", "{i}[:3]", t => string.Concat(t.Take(3)), "take the first three characters"),
        Text("tail", "without first", "{s} without its first character", "{i}.Substring(1)", "{i}[1:]", t => t.Length == 0 ? throw new ArgumentException() : string.Concat(t.Skip(1)), "drop the first character"),
        Text("exclaim", "with mark", "{s} with '!' at the end", "{i} + \"!\"", "{i} + \"!\"", t => $"{t}!", "append a mark"),
        new("length", "length", "the length of {s}", "{i}.Length", "len({i})", t => (long)((string)t).Count(), Sort.Text, Sort.Int, "take its length"),
        new("texteven", "even length", "{s} has an even length", "{i}.Length % 2 == 0", "len({i}) % 2 == 0", t => ((string)t).Length % 2 == 0, Sort.Text, Sort.Bool, "check the length"),
        new("textpalindrome", "palindrome", "{s} is a palindrome", "{i} == new string({i}.Reverse().ToArray())", "{i} == {i}[::-1]", t => (string)t is var s && Enumerable.Range(0, s.Length).All(i => s[i] == s[^(i + 1)]), Sort.Text, Sort.Bool, "compare it with its reverse"),
        new("wordcount", "word count", "the number of words in {s}", "{i}.Split(' ').Length", "len({i}.split(\" \"))", t => (long)((string)t).Count(c => c == ' ') + 1, Sort.Text, Sort.Int, "split at the spaces and count"),
    ];

    private static readonly string[] s_texts = ["level", "Hello World", "noon", "abc", "Never odd", "racecar", "a b c", "xy", "Open Door", "stats", "Qian runs", "no on", "ab ba", "Was it", "deed", "tea", "civic one"];

    public static Routine Draw(Dice dice, Split split, Language language)
    {
        while (true)
        {
            Sort start = dice.Chance(60) ? Sort.Int : Sort.Text;
            int count = split == Split.HeldOut ? dice.Between(2, 3) : dice.Pick(1, 2, 2, 2, 3);
            var steps = new List<Step>();
            Sort at = start;
            for (int i = 0; i < count && at != Sort.Bool; i++)
            {
                Step[] next = [.. s_steps.Where(step => step.From == at && !steps.Contains(step) && (at == start || step.To != at || i == count - 1))];
                steps.Add(dice.Pick(next));
                at = steps[^1].To;
            }

            string key = string.Join('<', Enumerable.Reverse(steps).Select(step => step.Key)) + (start == Sort.Int ? "<number" : "<text");
            if (steps.Count == 1 ? split == Split.HeldOut : !split.Admits("composition", key))
                continue;
            Routine routine = Build(dice, split, language, start, steps, key);
            // Chains that leave the range of an int nearly everywhere are no tasks.
            if (steps.Count == 1 || routine.Cases(Dice.For(7, key, 0), 4).Count == 4)
                return routine;
        }
    }

    private static Routine Build(Dice dice, Split split, Language language, Sort start, List<Step> steps, string key)
    {
        string name = Names.Parameter(dice, split, start == Sort.Int ? "number" : "text");
        string phrase = "$0";
        foreach (Step step in steps)
            phrase = step.Phrase.Replace("{s}", phrase, StringComparison.Ordinal);
        return new Routine
        {
            Key = key,
            PartCount = steps.Count,
            Language = language,
            Parameters = [new(name, start)],
            Result = steps[^1].To,
            Phrase = phrase,
            Plan = string.Join(", ", steps.Take(steps.Count - 1).Select(step => step.Plan)) + (steps.Count > 1 ? ", then " : "") + steps[^1].Plan,
            Body = Body(language, name, steps),
            Name = Names.Function(dice, split, $"{(steps[^1].To == Sort.Bool ? "is " : "")}{string.Join(" ", Enumerable.Reverse(steps).Select(step => step.Name))}"),
            Evaluate = arguments => steps.Aggregate(arguments[0], (value, step) => InRange(step.Apply(value))),
            Arguments = inner => [start == Sort.Text ? inner.Pick(s_texts) : (long)inner.Between(steps[^1].To == Sort.Bool ? 1 : 0, inner.Pick(9, 30, 400))],
        };
    }

    private static string Body(Language language, string name, List<Step> steps)
    {
        var lines = new List<string>();
        string value = name;
        foreach (Step step in steps)
        {
            string code = (language == Language.CSharp ? step.CSharp : step.Python).Replace("{i}", value, StringComparison.Ordinal);
            bool isLast = step == steps[^1];
            if (step.IsExpression(language))
            {
                string end = language == Language.CSharp ? ";" : "";
                string variable = Variable(step, language, name);
                lines.Add(isLast ? $"return {code}{end}" : language == Language.CSharp ? $"{step.To.CSharpType()} {variable} = {code};" : $"{variable} = {code}");
                value = variable;
            }
            else
            {
                value = Variable(step, language, name);
                lines.Add(code.Replace("{o}", value, StringComparison.Ordinal));
                if (isLast)
                    lines.Add(language == Language.CSharp ? $"return {value};" : $"return {value}");
            }
        }

        return string.Join('\n', lines);
    }

    private static string Variable(Step step, Language language, string parameter)
    {
        string name = language == Language.Python ? Names.Snake(step.Name) : char.ToLowerInvariant(step.Name[0]) + Names.Pascal(step.Name)[1..];
        return name == parameter || name is "double" ? name + (language == Language.CSharp ? "d" : "_value") : name;
    }

    private static object InRange(object value) => value is long number && number > 1_000_000_000 ? throw new OverflowException() : value;

    // The code tries every number, so large ones are no test.
    private static IEnumerable<long> Divisors(long n)
    {
        if (n > 50_000)
            throw new OverflowException();
        for (long d = 1; d <= n; d++)
        {
            if (n % d == 0)
                yield return d;
        }
    }

    private static long Fibonacci(long n)
    {
        long a = 0, b = 1;
        while (n-- > 0)
            (a, b) = (b, a + b);
        return a;
    }

    private static Step Number(string key, string name, string phrase, string cSharp, string python, Func<long, long> apply, string plan) =>
        new(key, name, phrase, cSharp, python, value => apply((long)value), Sort.Int, Sort.Int, plan);

    private static Step Truth(string key, string name, string phrase, string cSharp, string python, Func<long, bool> apply, string plan) =>
        new(key, name, phrase, cSharp, python, value => apply((long)value), Sort.Int, Sort.Bool, plan);

    private static Step Text(string key, string name, string phrase, string cSharp, string python, Func<string, string> apply, string plan) =>
        new(key, name, phrase, cSharp, python, value => apply((string)value), Sort.Text, Sort.Text, plan);
}
