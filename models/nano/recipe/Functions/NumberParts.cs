using System.Globalization;

namespace Qian.Nano;

// In code: {x} an element, {q} a second parameter. In phrases: {n} a plural ("numbers"), {s} what it is applied to,
// with its article, {p} without, {q} the bound.
// Holds takes the element and the bound.
internal sealed record NumberFilter(string Key, string Name, string[] Phrases, string CSharp, string Python, Func<double, double, bool> Holds, string Plan, bool ForDoubles = false, bool HasBound = false);

internal sealed record NumberMap(string Key, string Name, string[] Phrases, string CSharp, string Python, Func<double, double> Apply, string Plan, bool ForDoubles = false);

// How a fold stands to the steps before it.
internal enum Fit
{
    Any,        // alone, filtered, mapped
    NeedsStep,  // makes sense only behind a filter or map ("a list of the even numbers")
    NeedsFilter,
    NoMap,
}

// CSharp and Python give the body for a source; Loop is the other C# style: initial value, statement for an element {e} with
// accumulator {a}, result. Result is null when it is the element's own sort.
internal sealed record NumberFold(string Key, string Name, string[] Phrases, Func<CSharpSource, string> CSharp, Func<PythonSource, string> Python, Func<double[], object> Apply, string Plan)
{
    public Fit Fit { get; init; } = Fit.Any;

    public Sort? Result { get; init; }

    public bool ReturnsMany { get; init; }

    // Phrases for no map, over a singular: {1} is "even number in $0".
    public string[]? Singular { get; init; }

    public (string Init, string Step, string Result)? Loop { get; init; }
}

// A filtered and mapped C# sequence, as LINQ.
internal sealed record CSharpSource(string List, string X, string? Condition, string? Element, string Type)
{
    public string Filtered => Condition is null ? List : $"{List}.Where({X} => {Condition})";

    public string Sequence => Element is null ? Filtered : $"{Filtered}.Select({X} => {Element})";

    // As the argument of an instance-like method: C# 14 would take array.Reverse() for the one that reverses in place.
    public bool IsPlain => Condition is null && Element is null;

    public string Matching(string method) => Condition is null ? $"{List}.{method}()" : $"{List}.{method}({X} => {Condition})";
}

internal sealed record PythonSource(string List, string X, string? Condition, string? Element)
{
    public bool IsPlain => Condition is null && Element is null;

    public string Generator => IsPlain ? List : Of(Element ?? X);

    public string Sequence => IsPlain ? List : $"[{Of(Element ?? X)}]";

    public string Of(string element) => $"{element} for {X} in {List}{(Condition is null ? "" : " if " + Condition)}";
}

internal static class NumberParts
{
    public static NumberFilter[] Filters { get; } =
    [
        new("even", "even", ["even {n}", "even {n}", "{n} that are even"], "{x} % 2 == 0", "{x} % 2 == 0", (x, _) => x % 2 == 0, "keep the even ones"),
        new("odd", "odd", ["odd {n}", "odd {n}", "{n} that are odd"], "{x} % 2 != 0", "{x} % 2 != 0", (x, _) => x % 2 != 0, "keep the odd ones"),
        new("positive", "positive", ["positive {n}", "{n} greater than zero"], "{x} > 0", "{x} > 0", (x, _) => x > 0, "keep the positive ones", true),
        new("negative", "negative", ["negative {n}", "{n} below zero"], "{x} < 0", "{x} < 0", (x, _) => x < 0, "keep the negative ones", true),
        new("nonzero", "non zero", ["nonzero {n}", "{n} that are not zero"], "{x} != 0", "{x} != 0", (x, _) => x != 0, "drop the zeros", true),
        new("above", "above limit", ["{n} greater than {q}", "{n} above {q}"], "{x} > {q}", "{x} > {q}", (x, q) => x > q, "keep those above the bound", true, true),
        new("below", "below limit", ["{n} less than {q}", "{n} below {q}"], "{x} < {q}", "{x} < {q}", (x, q) => x < q, "keep those below the bound", true, true),
        new("atleast", "at least", ["{n} that are at least {q}"], "{x} >= {q}", "{x} >= {q}", (x, q) => x >= q, "keep those that reach the bound", true, true),
        new("differs", "other than", ["{n} that differ from {q}", "{n} not equal to {q}"], "{x} != {q}", "{x} != {q}", (x, q) => x != q, "drop those equal to it", false, true),
        .. new[] { 3, 4, 5, 7, 10 }.SelectMany(Multiples),
        .. new[] { 10, 20, 50, 100 }.SelectMany(Bounds),
        new("twodigit", "two digit", ["two-digit {n}"], "{x} >= 10 && {x} <= 99", "10 <= {x} <= 99", (x, _) => x is >= 10 and <= 99, "keep those from 10 to 99"),
    ];

    public static NumberMap[] Maps { get; } =
    [
        new("square", "squares", ["the squares of {s}"], "{x} * {x}", "{x} * {x}", x => x * x, "square each", true),
        new("cube", "cubes", ["the cubes of {s}"], "{x} * {x} * {x}", "{x} ** 3", x => x * x * x, "cube each", true),
        new("double", "doubles", ["the doubles of {s}", "twice {s}"], "2 * {x}", "2 * {x}", x => 2 * x, "double each", true),
        new("triple", "triples", ["the triples of {s}"], "3 * {x}", "3 * {x}", x => 3 * x, "triple each", true),
        new("abs", "absolute values", ["the absolute values of {s}"], "Math.Abs({x})", "abs({x})", Math.Abs, "take the absolute value of each", true),
        new("negate", "negated", ["the negatives of {s}"], "-{x}", "-{x}", x => 0 - x, "negate each", true),
        new("increment", "incremented", ["{s}, each increased by 1"], "{x} + 1", "{x} + 1", x => x + 1, "add 1 to each", true),
        new("lastdigit", "last digits", ["the last digits of {s}"], "Math.Abs({x}) % 10", "abs({x}) % 10", x => Math.Abs(x) % 10, "take the last digit of each"),
    ];

    public static NumberFold[] Folds { get; } =
    [
        new("sum", "sum", ["the sum of {s}", "the sum of {s}", "the total of {s}"], s => $"return {s.Sequence}.Sum();", s => $"return sum({s.Generator})", v => v.Aggregate(0.0, (a, b) => a + b), "add them up")
            { Loop = ("0", "{a} += {e};", "{a}") },
        new("product", "product", ["the product of {s}"], s => $"return {s.Sequence}.Aggregate({{one}}, (a, b) => a * b);", s => $"result = 1\nfor {s.X} in {s.List}:\n{PythonLoop(s, "result *= {e}")}\nreturn result", v => v.Aggregate(1.0, (a, b) => a * b), "multiply them")
            { Loop = ("1", "{a} *= {e};", "{a}") },
        new("max", "largest", ["the largest of {s}", "the maximum of {s}", "the greatest of {s}"], s => $"return {s.Sequence}.Max();", s => $"return max({s.Generator})", v => Some(v).OrderBy(x => x).Last(), "take the largest")
            { Singular = ["the largest {1}", "the maximum {1}", "the greatest {1}", "the biggest {1}", "the highest {1}"], Loop = ("{min}", "if ({e} > {a})\n    {a} = {e};", "{a}") },
        new("min", "smallest", ["the smallest of {s}", "the minimum of {s}", "the least of {s}"], s => $"return {s.Sequence}.Min();", s => $"return min({s.Generator})", v => Some(v).OrderBy(x => x).First(), "take the smallest")
            { Singular = ["the smallest {1}", "the minimum {1}", "the least {1}", "the lowest {1}"], Loop = ("{max}", "if ({e} < {a})\n    {a} = {e};", "{a}") },
        new("average", "average", ["the average of {s}", "the mean of {s}"], s => $"return {s.Sequence}.Average();", s => s.IsPlain ? $"return sum({s.List}) / len({s.List})" : $"kept = {s.Sequence}\nreturn sum(kept) / len(kept)", v => Some(v).Sum() / v.Length, "divide their sum by their count")
            { Result = Sort.Double },
        new("count", "count", ["the number of {p}", "the number of {p}", "the count of {p}", "how many {p} there are"], s => $"return {s.Matching("Count")};", s => $"return sum(1 for {s.X} in {s.List} if {s.Condition})", v => (double)v.Length, "count them")
            { Fit = Fit.NeedsFilter, Result = Sort.Int, Loop = ("0", "{a}++;", "{a}") },
        new("list", "list", ["a list of {s}", "a new list with {s}"], s => $"return {s.Sequence}.{s.Type}();", s => $"return {s.Sequence}", v => v, "collect them in a list")
            { Fit = Fit.NeedsStep, ReturnsMany = true },
        new("range", "range", ["the difference between the largest and the smallest of {s}"], s => s.IsPlain ? $"return {s.List}.Max() - {s.List}.Min();" : $"var kept = {s.Sequence}.ToList();\nreturn kept.Max() - kept.Min();", s => s.IsPlain ? $"return max({s.List}) - min({s.List})" : $"kept = {s.Sequence}\nreturn max(kept) - min(kept)", v => Some(v).Max() - v.Min(), "subtract the smallest from the largest"),
        new("sorted", "sorted", ["{s} in ascending order", "{s} sorted from smallest to largest"], s => $"return {s.Sequence}.Order().{s.Type}();", s => $"return sorted({s.Generator})", v => Sorted(v), "sort them") { ReturnsMany = true },
        new("descending", "descending", ["{s} in descending order", "{s} sorted from largest to smallest"], s => $"return {s.Sequence}.OrderDescending().{s.Type}();", s => $"return sorted({s.Sequence}, reverse=True)", v => Sorted(v).Reverse().ToArray(), "sort them downwards") { ReturnsMany = true },
        new("distinct", "distinct", ["the distinct values of {s}", "{s} without duplicates"], s => $"return {s.Sequence}.Distinct().{s.Type}();", s => $"return list(dict.fromkeys({s.Generator}))", v => Unique(v), "drop the duplicates") { ReturnsMany = true },
        new("distinctcount", "distinct count", ["the number of distinct values of {s}"], s => $"return {s.Sequence}.Distinct().Count();", s => s.IsPlain ? $"return len(set({s.List}))" : $"return len({{{s.Of(s.Element ?? s.X)}}})", v => (double)new HashSet<double>(v).Count, "count the distinct ones") { Result = Sort.Int },
        new("first", "first", ["the first of {s}"], s => $"return {s.Sequence}.First();", s => s.IsPlain ? $"return {s.List}[0]" : $"return next({s.Generator})", v => Some(v)[0], "take the first") { Singular = ["the first {1}"] },
        new("last", "last", ["the last of {s}"], s => $"return {s.Sequence}.Last();", s => $"return {s.Sequence}[-1]", v => Some(v)[^1], "take the last") { Singular = ["the last {1}"] },
        new("any", "has", ["there are any {p}"], s => $"return {s.Matching("Any")};", s => $"return any({s.Condition} for {s.X} in {s.List})", v => v.Length > 0, "look for one") { Fit = Fit.NeedsFilter, Result = Sort.Bool },
        new("joined", "joined", ["{s} joined by commas", "a string of {s} separated by commas"], s => $"return string.Join(\",\", {s.Sequence});", s => $"return \",\".join(str({s.Element ?? s.X}) for {s.X} in {s.List}{(s.Condition is null ? "" : " if " + s.Condition)})", v => string.Join(",", v.Select(x => x.ToString(CultureInfo.InvariantCulture))), "join them with commas") { Result = Sort.Text },
        new("reversed", "reversed", ["{s} in reverse order", "{s} from last to first"], s => s.IsPlain ? $"return Enumerable.Reverse({s.List}).{s.Type}();" : $"return {s.Sequence}.Reverse().{s.Type}();", s => $"return {s.Sequence}[::-1]", v => Backwards(v), "reverse their order") { ReturnsMany = true },
        new("second", "second largest", ["the second largest of {s}", "the second largest distinct value of {s}"], s => $"return {s.Sequence}.Distinct().OrderDescending().ElementAt(1);", s => s.IsPlain ? $"return sorted(set({s.List}))[-2]" : $"return sorted({{{s.Of(s.Element ?? s.X)}}})[-2]", v => Sorted(Unique(v))[^2], "sort the distinct ones and take the second") { Singular = ["the second largest {1}", "the second greatest {1}", "the second biggest {1}"] },
    ];

    // The statement {e} for each element of a Python loop, behind its condition.
    private static string PythonLoop(PythonSource source, string statement)
    {
        string line = statement.Replace("{e}", source.Element ?? source.X, StringComparison.Ordinal);
        return source.Condition is null ? "    " + line : $"    if {source.Condition}:\n        {line}";
    }

    private static IEnumerable<NumberFilter> Multiples(int k) =>
        [new($"multiple{k}", $"multiples of {Word(k)}", [$"multiples of {k}", $"{{n}} divisible by {k}"], $"{{x}} % {k} == 0", $"{{x}} % {k} == 0", (x, _) => x % k == 0, $"keep those divisible by {k}")];

    private static IEnumerable<NumberFilter> Bounds(int k) =>
    [
        new($"above{k}", $"above {Word(k)}", [$"{{n}} greater than {k}", $"{{n}} above {k}"], $"{{x}} > {k}", $"{{x}} > {k}", (x, _) => x > k, $"keep those above {k}", true),
        new($"below{k}", $"below {Word(k)}", [$"{{n}} less than {k}", $"{{n}} smaller than {k}"], $"{{x}} < {k}", $"{{x}} < {k}", (x, _) => x < k, $"keep those below {k}", true),
    ];

    private static string Word(int k) => k switch { 3 => "three", 4 => "four", 5 => "five", 7 => "seven", 10 => "ten", 20 => "twenty", 50 => "fifty", _ => "hundred" };

    private static double[] Some(double[] values) => values.Length > 0 ? values : throw new InvalidOperationException("undefined for no values");

    private static double[] Sorted(double[] values)
    {
        var sorted = (double[])values.Clone();
        Array.Sort(sorted);
        return sorted;
    }

    private static double[] Unique(double[] values)
    {
        var unique = new List<double>();
        foreach (double value in values)
        {
            if (!unique.Contains(value))
                unique.Add(value);
        }

        return [.. unique];
    }

    private static double[] Backwards(double[] values)
    {
        var reversed = new double[values.Length];
        for (int i = 0; i < values.Length; i++)
            reversed[^(i + 1)] = values[i];
        return reversed;
    }
}
