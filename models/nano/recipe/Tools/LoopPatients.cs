namespace Qian.Nano;

// Programs that go through an array by index, put together from an operation and a condition, with the bugs that such loops have.
// One simulation with every place of the loop as a setting gives the behaviour of the sound program and of the sick ones.
internal static class LoopPatients
{
    private sealed record Operation(string Key, string Name, long Init, string CSharp, string Python, Func<long, long, long> Add);

    private sealed record Condition(string Key, string Name, string Right, string Wrong, string Says, Func<long, bool> Holds, Func<long, bool> HoldsWrong);

    private sealed record Loop(long Init, int Start, int End, Func<long, long, long> Add, Func<long, bool> Holds, Func<long[], int, long> Pick);

    private static readonly Operation[] s_operations =
    [
        new("sum", "sum", 0, "{t} += {e};", "{t} += {e}", (t, x) => t + x),
        new("product", "product", 1, "{t} *= {e};", "{t} *= {e}", (t, x) => t * x),
        new("count", "count", 0, "{t} += 1;", "{t} += 1", (t, _) => t + 1),
        new("squares", "sum squares", 0, "{t} += {e} * {e};", "{t} += {e} * {e}", (t, x) => t + x * x),
        new("doubles", "sum doubles", 0, "{t} += 2 * {e};", "{t} += 2 * {e}", (t, x) => t + 2 * x),
    ];

    private static readonly Condition[] s_conditions =
    [
        new("", "", "", "", "", _ => true, _ => true),
        new("even", "even", "% 2 == 0", "% 2 != 0", "takes the odd elements instead of the even ones", x => x % 2 == 0, x => x % 2 != 0),
        new("odd", "odd", "% 2 != 0", "% 2 == 0", "takes the even elements instead of the odd ones", x => x % 2 != 0, x => x % 2 == 0),
        new("positive", "positive", "> 0", "< 0", "takes the negative elements instead of the positive ones", x => x > 0, x => x < 0),
        new("negative", "negative", "< 0", "> 0", "takes the positive elements instead of the negative ones", x => x < 0, x => x > 0),
        new("large", "large", "> 10", "< 10", "takes the elements below 10 instead of those above", x => x > 10, x => x < 10),
        new("limit", "at least five", ">= 5", "> 5", "leaves out the elements equal to 5", x => x >= 5, x => x > 5),
        new("multiple", "threes", "% 3 == 0", "% 3 != 0", "takes the elements that 3 does not divide", x => x % 3 == 0, x => x % 3 != 0),
    ];

    public static Patient? Draw(Dice dice, Split split, Language language)
    {
        Operation operation = dice.Pick(s_operations);
        Condition condition = dice.Pick(s_conditions);
        if (operation.Key == "count" && condition.Key == "")
            return null;
        bool isCSharp = language == Language.CSharp;
        string list = Names.Parameter(dice, split, "numbers");
        string total = dice.Pick("total", "result", "answer");
        string element = list + "[i]";
        string add = (isCSharp ? operation.CSharp : operation.Python).Replace("{t}", total, StringComparison.Ordinal).Replace("{e}", element, StringComparison.Ordinal);
        string open = isCSharp ? $"if ({element} {condition.Right})" : $"if {element} {condition.Right}:";
        string step = condition.Key == "" ? add : $"{open}\n    {add}";
        string body = isCSharp
            ? $"int {total} = {operation.Init};\nfor (int i = 0; i < {list}.Length; i++)\n{{\n    {step.Replace("\n", "\n    ", StringComparison.Ordinal)}\n}}\nreturn {total};"
            : $"{total} = {operation.Init}\nfor i in range(0, len({list})):\n    {step.Replace("\n", "\n    ", StringComparison.Ordinal)}\nreturn {total}";
        var sound = new Loop(operation.Init, 0, 0, operation.Add, condition.Holds, (items, i) => items[i]);
        (string bug, string right, string wrong, string reason, Loop sick) = Sicken(dice, isCSharp, operation, condition, list, total, add, sound);
        if (bug == "")
            return null;
        return new Patient
        {
            Key = $"loop {operation.Key} {condition.Key}",
            Bug = bug,
            Language = language,
            Name = Names.Function(dice, split, $"{operation.Name} {condition.Name}".Trim() + (condition.Key == "" ? " all" : "")),
            Parameters = [new(list, Sort.Ints)],
            Result = Sort.Int,
            Body = body,
            Right = right,
            Wrong = wrong,
            Reason = reason,
            Evaluate = arguments => Run(sound, (long[])arguments[0]),
            EvaluateWrong = arguments => Run(sick, (long[])arguments[0]),
            Arguments = inner => [Enumerable.Range(0, inner.Between(1, 5)).Select(_ => (long)inner.Between(-6, inner.Pick(9, 16))).ToArray()],
        };
    }

    private static (string Bug, string Right, string Wrong, string Reason, Loop Sick) Sicken(Dice dice, bool isCSharp, Operation operation, Condition condition, string list, string total, string add, Loop sound)
    {
        string end = isCSharp ? ";" : "";
        string sign = operation.Key == "product" ? "*=" : "+=";
        switch (dice.Below(8))
        {
            case 0:
                return ("init", $"{total} = {operation.Init}", $"{total} = {1 - operation.Init}", $"{total} starts at {1 - operation.Init} instead of {operation.Init}", sound with { Init = 1 - operation.Init });
            case 1:
                return ("start", isCSharp ? "i = 0" : "range(0,", isCSharp ? "i = 1" : "range(1,", "the loop starts at 1 and skips the first element", sound with { Start = 1 });
            case 2:
                return ("short", isCSharp ? $"{list}.Length;" : $"len({list}))", isCSharp ? $"{list}.Length - 1;" : $"len({list}) - 1)", "the loop stops too early and skips the last element", sound with { End = -1 });
            case 3:
                return ("long", isCSharp ? $"i < {list}" : $"len({list}))", isCSharp ? $"i <= {list}" : $"len({list}) + 1)", "the loop goes one past the last element", sound with { End = 1 });
            case 4 when operation.Key != "product":
                return ("operator", $"{total} +=", $"{total} -=", $"it subtracts from {total} instead of adding", sound with { Add = (t, x) => 2 * t - operation.Add(t, x) });
            case 4:
                return ("operator", $"{total} {sign}", $"{total} +=", $"it adds to {total} instead of multiplying", sound with { Add = (t, x) => t + x });
            case 5 when condition.Key != "":
                return ("condition", condition.Right, condition.Wrong, $"the condition {condition.Says}", sound with { Holds = condition.HoldsWrong });
            case 6 when operation.Key is "sum" or "product":
                return ("element", add, $"{total} {sign} i{end}", "it uses the index i instead of the element", sound with { Add = operation.Add, Pick = (items, i) => i });
            case 7:
                return ("return", $"return {total}", "return 0", $"it returns 0 instead of {total}", sound with { Add = (_, _) => 0, Init = 0 });
            default:
                return ("", "", "", "", sound);
        }
    }

    private static object Run(Loop loop, long[] items)
    {
        long total = loop.Init;
        for (int i = loop.Start; i < items.Length + loop.End; i++)
        {
            if (loop.Holds(items[i]))
                total = loop.Add(total, loop.Pick(items, i));
        }

        return total;
    }
}
