using System.Globalization;

namespace Qian.Inference.Chat.Jinja;

// The filters over lists and dicts. Like jinja2's, map and select give a lazy sequence (always true, no length) until "| list".
internal static class JinjaSequenceFilters
{
    public static JinjaValue Apply(string name, JinjaValue value, JinjaArguments arguments)
    {
        switch (name)
        {
            case "length" or "count":
                return JinjaValue.FromInteger(Length(value));
            case "items":
                return Items(value, arguments);
            case "dictsort":
                return DictSort(value, arguments);
            case "list" when value.Kind == JinjaKind.List && value.List.Form == JinjaListForm.List:
                return value;
            case "reverse" when value.Kind == JinjaKind.Text:
                return JinjaValue.FromText(Reverse(value.Text, arguments));
        }

        if (!JinjaFilters.Exists(name))
        {
            throw new TemplateException(TemplateFault.Syntax, $"No filter named '{name}'.");
        }

        IReadOnlyList<JinjaValue> items = arguments.Interpreter.Items(value);
        arguments.Budget.Step(items.Count);
        switch (name)
        {
            case "list":
                return JinjaValue.FromList(items);
            case "first" or "last":
                return items.Count == 0
                    ? JinjaValue.UndefinedName(name == "first" ? "No first item, sequence was empty." : "No last item, sequence was empty.")
                    : items[name == "first" ? 0 : ^1];
            case "reverse":
                return Lazy([.. items.Reverse()]);
            case "join":
                return Join(items, arguments);
            case "map":
                return Map(items, arguments);
            case "select" or "reject":
                return Select(items, isRejected: name == "reject", attribute: null, arguments);
            case "selectattr" or "rejectattr":
                return Select(items, isRejected: name == "rejectattr", arguments.Require(0, "attribute"), arguments.After(1));
            case "unique":
                return Unique(items, arguments);
            case "sort":
                return Sort(items, arguments);
            case "sum":
                return Sum(items, arguments);
            default:
                return Extreme(items, name == "max", arguments);
        }
    }

    private static JinjaValue Lazy(IReadOnlyList<JinjaValue> items) => JinjaValue.FromList(items, JinjaListForm.Iterator);

    private static long Length(JinjaValue value) => value.Kind switch
    {
        JinjaKind.Undefined => 0,
        JinjaKind.Text => CodePoints.Count(value.Text.Value),
        JinjaKind.Mapping => value.Mapping.Count,
        JinjaKind.List when value.List.Form != JinjaListForm.Iterator => value.List.Items.Count,
        _ => throw new TemplateException(TemplateFault.Type, $"object of type '{value.TypeName}' has no len()"),
    };

    private static JinjaValue Items(JinjaValue value, JinjaArguments arguments)
    {
        if (value.IsUndefined)
        {
            return Lazy([]);
        }

        return value.Kind == JinjaKind.Mapping
            ? Lazy(JinjaMethods.Call(value, "items", arguments).List.Items)
            : throw new TemplateException(TemplateFault.Type, "Can only get item pairs from a mapping.");
    }

    private static JinjaText Reverse(JinjaText text, JinjaArguments arguments)
    {
        int[] offsets = CodePoints.Offsets(text.Value);
        var builder = new JinjaTextBuilder(arguments.Budget);
        for (int i = offsets.Length - 2; i >= 0; i--)
        {
            builder.Append(text, offsets[i], offsets[i + 1] - offsets[i]);
        }

        return builder.ToText();
    }

    private static JinjaValue Join(IReadOnlyList<JinjaValue> items, JinjaArguments arguments)
    {
        JinjaText separator = arguments.Find(0, "d") is { } given ? PythonText.Str(given, arguments.Budget) : JinjaText.Empty;
        JinjaValue? attribute = arguments.Find(1, "attribute");
        var texts = new JinjaValue[items.Count];
        for (int i = 0; i < texts.Length; i++)
        {
            JinjaValue item = attribute is { } path ? Member(items[i], path, arguments) : items[i];
            texts[i] = JinjaValue.FromText(PythonText.Str(item, arguments.Budget));
        }

        return JinjaValue.FromText(JinjaTextMethods.Join(separator, texts, arguments.Budget));
    }

    private static JinjaValue Map(IReadOnlyList<JinjaValue> items, JinjaArguments arguments)
    {
        JinjaValue? attribute = arguments.Count == 0 ? arguments.Find(0, "attribute") : null;
        JinjaValue? fallback = arguments.Find(int.MaxValue, "default");
        string? filter = attribute is null ? arguments.RequireText(0, "filter").Value : null;
        JinjaArguments rest = filter is null ? arguments : arguments.After(1);
        var mapped = new JinjaValue[items.Count];
        for (int i = 0; i < mapped.Length; i++)
        {
            if (filter is not null)
            {
                mapped[i] = JinjaFilters.Apply(filter, items[i], rest);
            }
            else
            {
                JinjaValue member = Member(items[i], attribute!.Value, arguments);
                mapped[i] = member.IsUndefined && fallback is { } value ? value : member;
            }
        }

        return Lazy(mapped);
    }

    private static JinjaValue Select(IReadOnlyList<JinjaValue> items, bool isRejected, JinjaValue? attribute, JinjaArguments arguments)
    {
        string? test = arguments.Count == 0 ? null : arguments.RequireText(0, "test").Value;
        JinjaArguments rest = test is null ? arguments : arguments.After(1);
        var kept = new List<JinjaValue>();
        foreach (JinjaValue item in items)
        {
            JinjaValue subject = attribute is { } path ? Member(item, path, arguments) : item;
            bool holds = test is null ? subject.IsTrue : JinjaPredicates.Test(test, subject, rest);
            if (holds != isRejected)
            {
                kept.Add(item);
            }
        }

        return Lazy(kept);
    }

    private static JinjaValue Unique(IReadOnlyList<JinjaValue> items, JinjaArguments arguments)
    {
        bool isCaseSensitive = arguments.Flag(0, "case_sensitive", fallback: false);
        JinjaValue? attribute = arguments.Find(1, "attribute");
        var seen = new JinjaMapping();
        var kept = new List<JinjaValue>();
        foreach (JinjaValue item in items)
        {
            JinjaValue key = SortKey(item, attribute, isCaseSensitive, arguments);
            if (!seen.TryGet(key, out _))
            {
                seen.Set(key, JinjaValue.None);
                kept.Add(item);
            }
        }

        return Lazy(kept);
    }

    private static JinjaValue Sort(IReadOnlyList<JinjaValue> items, JinjaArguments arguments)
    {
        bool isReversed = arguments.Flag(0, "reverse", fallback: false);
        bool isCaseSensitive = arguments.Flag(1, "case_sensitive", fallback: false);
        JinjaValue? attribute = arguments.Find(2, "attribute");
        return JinjaValue.FromList(Sorted(items, item => SortKey(item, attribute, isCaseSensitive, arguments), isReversed, arguments.Budget));
    }

    private static JinjaValue DictSort(JinjaValue value, JinjaArguments arguments)
    {
        bool isCaseSensitive = arguments.Flag(0, "case_sensitive", fallback: false);
        int position = arguments.Find(1, "by") is not null && arguments.RequireText(1, "by").Value == "value" ? 1 : 0;
        bool isReversed = arguments.Flag(2, "reverse", fallback: false);
        IReadOnlyList<JinjaValue> pairs = Items(value, arguments).List.Items;
        return JinjaValue.FromList(
            Sorted(pairs, pair => SortKey(pair.List.Items[position], null, isCaseSensitive, arguments), isReversed, arguments.Budget));
    }

    private static JinjaValue[] Sorted(
        IReadOnlyList<JinjaValue> items, Func<JinjaValue, JinjaValue> keyOf, bool isReversed, JinjaBudget budget)
    {
        var keys = new JinjaValue[items.Count];
        for (int i = 0; i < keys.Length; i++)
        {
            keys[i] = keyOf(items[i]);
        }

        int[] order = JinjaSort.Order(keys, isReversed, budget);
        var sorted = new JinjaValue[items.Count];
        for (int i = 0; i < sorted.Length; i++)
        {
            sorted[i] = items[order[i]];
        }

        return sorted;
    }

    private static JinjaValue Sum(IReadOnlyList<JinjaValue> items, JinjaArguments arguments)
    {
        JinjaValue? attribute = arguments.Find(0, "attribute");
        JinjaValue sum = arguments.Find(1, "start") ?? JinjaValue.FromInteger(0);
        foreach (JinjaValue item in items)
        {
            sum = JinjaOperators.Apply("+", sum, attribute is { } path ? Member(item, path, arguments) : item, arguments.Budget);
        }

        return sum;
    }

    private static JinjaValue Extreme(IReadOnlyList<JinjaValue> items, bool isMaximum, JinjaArguments arguments)
    {
        bool isCaseSensitive = arguments.Flag(0, "case_sensitive", fallback: false);
        JinjaValue? attribute = arguments.Find(1, "attribute");
        if (items.Count == 0)
        {
            return JinjaValue.UndefinedName("No aggregated item, sequence was empty.");
        }

        JinjaValue best = items[0];
        foreach (JinjaValue item in items)
        {
            int order = JinjaOperators.Order(
                SortKey(item, attribute, isCaseSensitive, arguments),
                SortKey(best, attribute, isCaseSensitive, arguments),
                arguments.Budget);
            best = (isMaximum ? order > 0 : order < 0) ? item : best;
        }

        return best;
    }

    private static JinjaValue SortKey(JinjaValue item, JinjaValue? attribute, bool isCaseSensitive, JinjaArguments arguments)
    {
        JinjaValue key = attribute is { } path ? Member(item, path, arguments) : item;
        if (isCaseSensitive || key.Kind != JinjaKind.Text)
        {
            return key;
        }

        arguments.Budget.Chars(key.Text.Length);
        return JinjaValue.FromText(key.Text.WithSameLength(key.Text.Value.ToLowerInvariant()));
    }

    // "function.name" or "0.role": each part is a key or an index.
    private static JinjaValue Member(JinjaValue item, JinjaValue path, JinjaArguments arguments)
    {
        arguments.Budget.Step();
        if (path.Kind != JinjaKind.Text)
        {
            return arguments.Interpreter.Item(item, path);
        }

        foreach (string part in path.Text.Value.Split('.'))
        {
            arguments.Budget.Step();
            JinjaValue key = int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int index)
                ? JinjaValue.FromInteger(index)
                : JinjaValue.FromLiteral(part);
            item = arguments.Interpreter.Item(item, key);
        }

        return item;
    }
}
