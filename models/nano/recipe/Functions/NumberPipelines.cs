namespace Qian.Nano;

// Functions over sequences of numbers: filter, map and fold, each optional but one. Twenty filters, eight maps and sixteen folds
// make some two thousand compositions, each over int, long or double, over arrays, lists or sequences.
internal static class NumberPipelines
{
    private static readonly Dictionary<string, string> s_truths = new()
    {
        ["even"] = "even",
        ["odd"] = "odd",
        ["positive"] = "positive",
        ["negative"] = "negative",
        ["nonzero"] = "different from zero",
        ["above"] = "greater than {q}",
        ["below"] = "less than {q}",
        ["multiple3"] = "divisible by 3",
        ["multiple5"] = "divisible by 5",
        ["above10"] = "greater than 10",
        ["below100"] = "less than 100",
    };

    private static readonly NumberFold s_all = new("all", "are all", ["all {n} in $0 are {t}", "every one of the {n} in $0 is {t}"], s => $"return {s.Matching("All")};",
        s => $"return all({s.Condition} for {s.X} in {s.List})", v => throw new InvalidOperationException(), "check that no element fails it")
    { Fit = Fit.NeedsFilter, Result = Sort.Bool };

    public static Routine Draw(Dice dice, Split split, Language language)
    {
        while (true)
        {
            NumberFold fold = dice.Chance(6) ? s_all : dice.Pick(NumberParts.Folds);
            bool wantsFilter = fold.Fit == Fit.NeedsFilter || dice.Chance(58);
            bool wantsMap = fold.Fit != Fit.NeedsFilter && dice.Chance(split == Split.HeldOut ? 60 : 45);
            NumberFilter? filter = wantsFilter ? dice.Pick(NumberParts.Filters) : null;
            NumberMap? map = wantsMap ? dice.Pick(NumberParts.Maps) : null;
            if (fold.Fit == Fit.NeedsStep && filter is null && map is null)
                continue;
            if (fold == s_all && !s_truths.ContainsKey(filter!.Key))
                continue;
            int partCount = (filter is null ? 0 : 1) + (map is null ? 0 : 1) + (fold.Key == "list" ? 0 : 1);
            string key = string.Join('<', new[] { fold.Key, map?.Key, filter?.Key, "numbers" }.OfType<string>());
            if (partCount == 1 ? split == Split.HeldOut : !split.Admits("composition", key))
                continue;
            Sort element = Element(dice, fold, filter, map);
            Routine routine = Build(dice, split, language, fold, map, filter, element, key, partCount);
            if (!Exclusions.Excludes(routine))
                return routine;
        }
    }

    private static Sort Element(Dice dice, NumberFold fold, NumberFilter? filter, NumberMap? map)
    {
        bool canDouble = filter is not { ForDoubles: false } && map is not { ForDoubles: false } && fold.Key is not ("joined" or "distinctcount");
        int roll = dice.Below(100);
        return roll < 72 ? Sort.Int : roll < 84 || !canDouble ? Sort.Long : Sort.Double;
    }

    private static Routine Build(Dice dice, Split split, Language language, NumberFold fold, NumberMap? map, NumberFilter? filter, Sort element, string key, int partCount)
    {
        string list = Names.Parameter(dice, split, "numbers");
        string bound = filter is { HasBound: true } ? Names.Parameter(dice, split, "limit", list) : "";
        string x = dice.Pick<string>([.. new[] { "x", "x", "n", "number", "value", "item" }.Where(name => name != list && name != bound)]);
        Holder holder = dice.Pick(Holder.Array, Holder.Array, Holder.List, Holder.List, Holder.Sequence);
        Holder many = dice.Chance(60) ? Holder.List : Holder.Array;
        string? condition = Fill(language == Language.CSharp ? filter?.CSharp : filter?.Python, x, bound);
        string? mapped = Fill(language == Language.CSharp ? map?.CSharp : map?.Python, x, bound);
        string body;
        if (language == Language.Python)
            body = fold.Python(new PythonSource(list, x, condition, mapped));
        else if (fold.Loop is not null && dice.Chance(25))
            body = Loop(dice, fold, element, list, x, condition, mapped);
        else
            body = fold.CSharp(new CSharpSource(list, x, condition, mapped, many == Holder.List ? "ToList" : "ToArray"));
        body = body.Replace("{one}", element switch { Sort.Int => "1", Sort.Long => "1L", _ => "1.0" }, StringComparison.Ordinal);

        List<Parameter> parameters = [new(list, element.Plural(), holder)];
        if (bound.Length > 0)
            parameters.Add(new(bound, element));
        Sort result = fold.ReturnsMany ? element.Plural() : fold.Result ?? element;
        string core = NameCore(fold, map, filter);
        return new Routine
        {
            Key = key,
            PartCount = partCount,
            Language = language,
            Parameters = parameters,
            Result = result,
            ResultHolder = many,
            Phrase = Phrase(dice, fold, map, filter, element),
            Plan = Plan(fold, map, filter),
            Body = body,
            Name = Names.Function(dice, split, core),
            Evaluate = arguments => Evaluate(fold, map, filter, result, arguments),
            Arguments = inner => Arguments(inner, element, filter),
        };
    }

    private static string NameCore(NumberFold fold, NumberMap? map, NumberFilter? filter)
    {
        string noun = map is null ? filter?.Name ?? "numbers" : filter is null ? map.Name : $"{filter.Name} {map.Name}";
        if (fold.Key != "list")
            return $"{fold.Name} {noun}";
        return noun.Contains(' ', StringComparison.Ordinal) ? noun : noun + " numbers";
    }

    private static string Plan(NumberFold fold, NumberMap? map, NumberFilter? filter)
    {
        List<string> steps = [];
        if (filter is not null && fold.Key is not "all")
            steps.Add(filter.Plan);
        if (map is not null)
            steps.Add(map.Plan);
        steps.Add(fold.Plan);
        return string.Join(steps.Count == 2 ? ", then " : ", ", steps.Take(steps.Count == 3 ? 2 : steps.Count)) + (steps.Count == 3 ? ", then " + steps[2] : "");
    }

    private static string Phrase(Dice dice, NumberFold fold, NumberMap? map, NumberFilter? filter, Sort element)
    {
        string plural = element == Sort.Double ? dice.Pick("numbers", "values", "elements") : dice.Pick("numbers", "numbers", "elements", "values", "integers");
        string place = dice.Pick("in $0", "in $0", "of $0", "from $0");
        string kept = filter is null ? "{n}" : dice.Pick(filter.Phrases);
        string phrase;
        if (fold == s_all)
        {
            phrase = dice.Pick(fold.Phrases).Replace("{t}", s_truths[filter!.Key], StringComparison.Ordinal);
        }
        else if (map is null && fold.Singular is not null && dice.Chance(80))
        {
            string one = kept.Replace("multiples", "multiple", StringComparison.Ordinal).Replace("that are", "that is", StringComparison.Ordinal).Replace("differ ", "differs ", StringComparison.Ordinal);
            phrase = $"{dice.Pick(fold.Singular).Replace("{1}", one, StringComparison.Ordinal)} {place}";
            plural = plural[..^1];
        }
        else
        {
            string bare = $"{kept} {place}";
            string all = filter is null && dice.Chance(40) ? "all " + bare : "the " + bare;
            if (map is not null)
                all = dice.Pick(map.Phrases).Replace("{s}", all, StringComparison.Ordinal);
            phrase = dice.Pick(fold.Phrases).Replace("{s}", all, StringComparison.Ordinal).Replace("{p}", bare, StringComparison.Ordinal);
        }

        return phrase.Replace("{n}", plural, StringComparison.Ordinal).Replace("{q}", "$1", StringComparison.Ordinal);
    }

    private static string Loop(Dice dice, NumberFold fold, Sort element, string list, string x, string? condition, string? mapped)
    {
        string type = element.CSharpType();
        (string init, string step, string result) = fold.Loop!.Value;
        string total = fold.Key switch { "sum" => dice.Pick("sum", "total"), "product" => "product", "count" => "count", "max" => dice.Pick("best", "largest"), _ => dice.Pick("best", "smallest") };
        string totalType = fold.Result == Sort.Int ? "int" : type;
        init = init.Replace("{min}", type + ".MinValue", StringComparison.Ordinal).Replace("{max}", type + ".MaxValue", StringComparison.Ordinal);
        step = step.Replace("{a}", total, StringComparison.Ordinal).Replace("{e}", mapped ?? x, StringComparison.Ordinal);
        if (condition is not null)
            step = step.StartsWith("if (", StringComparison.Ordinal) ? $"if ({condition} && {step["if (".Length..]}" : $"if ({condition})\n    {step}";
        string block = step.Contains('\n', StringComparison.Ordinal) ? "{\n    " + step.Replace("\n", "\n    ", StringComparison.Ordinal) + "\n}" : "    " + step;
        return $"{totalType} {total} = {init};\nforeach ({type} {x} in {list})\n{block}\nreturn {result.Replace("{a}", total, StringComparison.Ordinal)};";
    }

    private static string? Fill(string? code, string x, string bound) => code?.Replace("{x}", x, StringComparison.Ordinal).Replace("{q}", bound, StringComparison.Ordinal);

    private static object Evaluate(NumberFold fold, NumberMap? map, NumberFilter? filter, Sort result, object[] arguments)
    {
        var values = (Array)arguments[0];
        double bound = arguments.Length > 1 ? Convert.ToDouble(arguments[1]) : 0;
        var kept = new List<double>();
        foreach (object item in values)
        {
            double value = Convert.ToDouble(item);
            if (filter is null || filter.Holds(value, bound))
                kept.Add(map is null ? value : map.Apply(value));
        }

        if (fold == s_all)
            return kept.Count == values.Length;
        return OfSort(fold.Apply([.. kept]), result);
    }

    private static object OfSort(object value, Sort sort) => value switch
    {
        double number when sort is Sort.Int or Sort.Long => checked((long)number),
        double[] numbers when sort is Sort.Ints or Sort.Longs => numbers.Select(number => checked((long)number)).ToArray(),
        _ => value,
    };

    // About half of the values pass the filter, or hardly a case would be defined for rare ones.
    private static object[] Arguments(Dice dice, Sort element, NumberFilter? filter)
    {
        int count = dice.Chance(8) ? 0 : dice.Between(2, 7);
        int reach = dice.Pick(5, 12, 30, 120);
        double bound = element == Sort.Double ? dice.Between(-reach, reach) / 2.0 : dice.Between(-2, reach / 2);
        var values = new double[count];
        for (int i = 0; i < count; i++)
        {
            bool mustPass = filter is not null && dice.Chance(50);
            int tries = 0;
            do
                values[i] = element == Sort.Double ? dice.Between(-4 * reach, 4 * reach) / 4.0 : dice.Between(-reach / 2, tries > 10 ? 150 : reach);
            while (mustPass && !filter!.Holds(values[i], bound) && ++tries < 40);
        }

        Array list = element == Sort.Double ? values : values.Select(value => (long)value).ToArray();
        return filter is { HasBound: true } ? [list, element == Sort.Double ? bound : (long)bound] : [list];
    }
}
