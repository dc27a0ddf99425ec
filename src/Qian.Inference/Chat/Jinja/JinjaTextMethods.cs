namespace Qian.Inference.Chat.Jinja;

// Python's string methods. All of them keep the marks of where each character came from; white space is Python's.
internal static class JinjaTextMethods
{
    public static JinjaValue Call(JinjaText text, string name, JinjaArguments arguments)
    {
        arguments.Budget.Chars(text.Length);
        switch (name)
        {
            case "strip" or "lstrip" or "rstrip":
                return Text(Strip(text, Chars(arguments), fromStart: name != "rstrip", fromEnd: name != "lstrip"));
            case "split" or "rsplit":
                return JinjaValue.FromList(Split(text, name == "rsplit", arguments));
            case "splitlines":
                return JinjaValue.FromList(SplitLines(text, arguments.Flag(0, "keepends", fallback: false), arguments.Budget));
            case "startswith" or "endswith":
                return JinjaValue.FromBoolean(HasAffix(text.Value, arguments, atStart: name == "startswith"));
            case "replace":
                return Text(Replace(
                    text, arguments.RequireText(0, "old"), arguments.RequireText(1, "new"), arguments.Integer(2, "count", -1), arguments.Budget));
            case "upper":
                return Text(text.WithSameLength(text.Value.ToUpperInvariant()));
            case "lower":
                return Text(text.WithSameLength(text.Value.ToLowerInvariant()));
            case "title":
                return Text(Recase(text, static (c, before) => char.IsLetter(before) ? char.ToLowerInvariant(c) : char.ToUpperInvariant(c)));
            case "capitalize":
                return Text(Capitalize(text));
            case "swapcase":
                return Text(Recase(text, static (c, _) => char.IsUpper(c) ? char.ToLowerInvariant(c) : char.ToUpperInvariant(c)));
            case "join":
                return Text(Join(text, arguments.Interpreter.Items(arguments.Require(0, "iterable")), arguments.Budget));
            case "find" or "rfind" or "index" or "count":
                return Search(text.Value, name, arguments);
            case "removeprefix":
                string prefix = arguments.RequireText(0, "prefix").Value;
                bool starts = text.Value.StartsWith(prefix, StringComparison.Ordinal);
                return Text(starts ? text.Slice(prefix.Length, text.Length - prefix.Length) : text);
            case "removesuffix":
                string suffix = arguments.RequireText(0, "suffix").Value;
                return Text(text.Value.EndsWith(suffix, StringComparison.Ordinal) ? text.Slice(0, text.Length - suffix.Length) : text);
            case "partition" or "rpartition":
                return Partition(text, arguments.RequireText(0, "sep"), name == "rpartition");
            case "zfill":
                return ZeroFill(text, arguments);
            case "format":
                throw new TemplateException(TemplateFault.Type, "str.format is not part of chat templates; use ~");
            default:
                return JinjaValue.FromBoolean(IsAll(text.Value, name));
        }
    }

    public static JinjaText Strip(JinjaText text, string? chars, bool fromStart, bool fromEnd)
    {
        string value = text.Value;
        int start = 0;
        int end = value.Length;
        bool Goes(char c) => chars is null ? PythonText.IsSpace(c) : chars.Contains(c);
        while (fromStart && start < end && Goes(value[start]))
        {
            start++;
        }

        while (fromEnd && end > start && Goes(value[end - 1]))
        {
            end--;
        }

        return text.Slice(start, end - start);
    }

    public static JinjaText Capitalize(JinjaText text) =>
        text.Length == 0 ? text : text.WithSameLength(char.ToUpperInvariant(text.Value[0]) + text.Value[1..].ToLowerInvariant());

    public static JinjaText Replace(JinjaText text, JinjaText old, JinjaText replacement, int maxCount, JinjaBudget budget)
    {
        var builder = new JinjaTextBuilder(budget);
        int copied = 0;
        for (int count = 0; maxCount < 0 || count < maxCount; count++)
        {
            // An empty pattern matches before each character and at the end.
            int found = old.Length == 0
                ? (count == 0 ? 0 : copied < text.Length ? copied + CodePoints.WidthAt(text.Value, copied) : -1)
                : text.Value.IndexOf(old.Value, copied, StringComparison.Ordinal);
            if (found < 0)
            {
                break;
            }

            budget.Step();
            builder.Append(text, copied, found - copied);
            builder.Append(replacement);
            copied = found + old.Length;
        }

        builder.Append(text, copied, text.Length - copied);
        return builder.ToText();
    }

    public static JinjaText Join(JinjaText separator, IReadOnlyList<JinjaValue> items, JinjaBudget budget)
    {
        var builder = new JinjaTextBuilder(budget);
        for (int i = 0; i < items.Count; i++)
        {
            budget.Step();
            if (items[i].Kind != JinjaKind.Text)
            {
                throw new TemplateException(TemplateFault.Type, $"sequence item {i}: expected str instance, {items[i].TypeName} found");
            }

            if (i > 0)
            {
                builder.Append(separator);
            }

            builder.Append(items[i].Text);
        }

        return builder.ToText();
    }

    public static List<JinjaValue> SplitLines(JinjaText text, bool keepsEnds, JinjaBudget budget)
    {
        var lines = new List<JinjaValue>();
        string value = text.Value;
        for (int start = 0; start < value.Length;)
        {
            budget.Step();
            int end = start;
            while (end < value.Length && !IsLineEnd(value[end]))
            {
                end++;
            }

            int next = end;
            if (next < value.Length)
            {
                next += value[next] == '\r' && next + 1 < value.Length && value[next + 1] == '\n' ? 2 : 1;
            }

            lines.Add(Text(text.Slice(start, (keepsEnds ? next : end) - start)));
            start = next;
        }

        return lines;
    }

    // What Python's title and jinja2's title do, by a rule over each character and the one before it.
    public static JinjaText Recase(JinjaText text, Func<char, char, char> recase)
    {
        char[] characters = text.Value.ToCharArray();
        for (int i = 0; i < characters.Length; i++)
        {
            characters[i] = recase(text.Value[i], i == 0 ? '\0' : text.Value[i - 1]);
        }

        return text.WithSameLength(new string(characters));
    }

    private static JinjaValue Text(JinjaText text) => JinjaValue.FromText(text);

    private static bool IsLineEnd(char c) => c is '\n' or '\r' or '\v' or '\f' or (>= '\u001c' and <= '\u001e') or '\u0085' or '\u2028' or '\u2029';

    private static string? Chars(JinjaArguments arguments) =>
        arguments.Find(0, "chars") is { Kind: not JinjaKind.None } ? arguments.RequireText(0, "chars").Value : null;

    private static List<JinjaValue> Split(JinjaText text, bool fromEnd, JinjaArguments arguments)
    {
        JinjaText? separator = arguments.Find(0, "sep") is { Kind: not JinjaKind.None } ? arguments.RequireText(0, "sep") : null;
        int most = arguments.Integer(1, "maxsplit", -1);
        if (separator is { Length: 0 })
        {
            throw new TemplateException(TemplateFault.Value, "empty separator");
        }

        most = most < 0 ? int.MaxValue : most;
        var parts = new List<JinjaValue>();
        if (fromEnd)
        {
            SplitFromEnd(text, separator, most, parts, arguments.Budget);
            parts.Reverse();
        }
        else
        {
            SplitFromStart(text, separator, most, parts, arguments.Budget);
        }

        return parts;
    }

    private static void SplitFromStart(JinjaText text, JinjaText? separator, int most, List<JinjaValue> parts, JinjaBudget budget)
    {
        string value = text.Value;
        int start = 0;
        while (separator is not null)
        {
            budget.Step();
            int found = parts.Count < most ? value.IndexOf(separator.Value, start, StringComparison.Ordinal) : -1;
            if (found < 0)
            {
                parts.Add(Text(text.Slice(start, value.Length - start)));
                return;
            }

            parts.Add(Text(text.Slice(start, found - start)));
            start = found + separator.Length;
        }

        while (true)
        {
            budget.Step();
            while (start < value.Length && PythonText.IsSpace(value[start]))
            {
                start++;
            }

            if (start == value.Length)
            {
                return;
            }

            int end = start;
            while (end < value.Length && (parts.Count == most || !PythonText.IsSpace(value[end])))
            {
                end++;
            }

            parts.Add(Text(text.Slice(start, end - start)));
            start = end;
        }
    }

    private static void SplitFromEnd(JinjaText text, JinjaText? separator, int most, List<JinjaValue> parts, JinjaBudget budget)
    {
        string value = text.Value;
        int end = value.Length;
        while (separator is not null)
        {
            budget.Step();
            int found = parts.Count < most && end >= separator.Length
                ? value.AsSpan(0, end).LastIndexOf(separator.Value, StringComparison.Ordinal)
                : -1;
            if (found < 0)
            {
                parts.Add(Text(text.Slice(0, end)));
                return;
            }

            parts.Add(Text(text.Slice(found + separator.Length, end - found - separator.Length)));
            end = found;
        }

        while (true)
        {
            budget.Step();
            while (end > 0 && PythonText.IsSpace(value[end - 1]))
            {
                end--;
            }

            if (end == 0)
            {
                return;
            }

            int start = end;
            while (start > 0 && (parts.Count == most || !PythonText.IsSpace(value[start - 1])))
            {
                start--;
            }

            parts.Add(Text(text.Slice(start, end - start)));
            end = start;
        }
    }

    private static bool HasAffix(string value, JinjaArguments arguments, bool atStart)
    {
        JinjaValue affix = arguments.Require(0, "prefix");
        if (affix is { Kind: JinjaKind.List, List.Form: JinjaListForm.Tuple })
        {
            foreach (JinjaValue candidate in affix.List.Items)
            {
                arguments.Budget.Step();
                if (candidate.Kind == JinjaKind.Text && Matches(value, candidate.Text.Value, atStart))
                {
                    return true;
                }
            }

            return false;
        }

        string name = atStart ? "startswith" : "endswith";
        return affix.Kind == JinjaKind.Text
            ? Matches(value, affix.Text.Value, atStart)
            : throw (affix.IsUndefined
                ? affix.UndefinedError()
                : new TemplateException(TemplateFault.Type, $"{name} first arg must be str or a tuple of str, not {affix.TypeName}"));
    }

    private static bool Matches(string value, string affix, bool atStart) =>
        atStart ? value.StartsWith(affix, StringComparison.Ordinal) : value.EndsWith(affix, StringComparison.Ordinal);

    private static JinjaValue Search(string value, string name, JinjaArguments arguments)
    {
        string wanted = arguments.RequireText(0, "sub").Value;
        if (name == "count")
        {
            int count = 0;
            for (int at = 0; wanted.Length > 0 && (at = value.IndexOf(wanted, at, StringComparison.Ordinal)) >= 0; at += wanted.Length)
            {
                count++;
            }

            return JinjaValue.FromInteger(wanted.Length > 0 ? count : CodePoints.Count(value) + 1);
        }

        int found = name == "rfind"
            ? value.LastIndexOf(wanted, StringComparison.Ordinal)
            : value.IndexOf(wanted, StringComparison.Ordinal);
        if (found < 0 && name == "index")
        {
            throw new TemplateException(TemplateFault.Value, "substring not found");
        }

        return JinjaValue.FromInteger(found < 0 ? -1 : CodePoints.Count(value, found));
    }

    private static JinjaValue Partition(JinjaText text, JinjaText separator, bool fromEnd)
    {
        if (separator.Length == 0)
        {
            throw new TemplateException(TemplateFault.Value, "empty separator");
        }

        int found = fromEnd
            ? text.Value.LastIndexOf(separator.Value, StringComparison.Ordinal)
            : text.Value.IndexOf(separator.Value, StringComparison.Ordinal);
        JinjaText[] parts = (found < 0, fromEnd) switch
        {
            (true, false) => [text, JinjaText.Empty, JinjaText.Empty],
            (true, true) => [JinjaText.Empty, JinjaText.Empty, text],
            _ =>
            [
                text.Slice(0, found),
                text.Slice(found, separator.Length),
                text.Slice(found + separator.Length, text.Length - found - separator.Length),
            ],
        };
        return JinjaValue.FromList([Text(parts[0]), Text(parts[1]), Text(parts[2])], JinjaListForm.Tuple);
    }

    private static JinjaValue ZeroFill(JinjaText text, JinjaArguments arguments)
    {
        int missing = Math.Min(arguments.Integer(0, "width", 0), arguments.Budget.Limits.OutputCharCount) - CodePoints.Count(text.Value);
        if (missing <= 0)
        {
            return Text(text);
        }

        arguments.Budget.Chars(missing);
        int signLength = text.Length > 0 && text.Value[0] is '-' or '+' ? 1 : 0;
        var builder = new JinjaTextBuilder(arguments.Budget);
        builder.Append(text, 0, signLength);
        builder.Append(new string('0', missing), isTemplate: true);
        builder.Append(text, signLength, text.Length - signLength);
        return Text(builder.ToText());
    }

    private static bool IsAll(string value, string name)
    {
        bool hasCased = false;
        foreach (char c in value)
        {
            bool holds = name switch
            {
                "isdigit" or "isdecimal" => char.IsDigit(c),
                "isnumeric" => char.IsNumber(c),
                "isalpha" => char.IsLetter(c),
                "isalnum" => char.IsLetterOrDigit(c) || char.IsNumber(c),
                "isspace" => PythonText.IsSpace(c),
                "isupper" => !char.IsLower(c),
                _ => !char.IsUpper(c),
            };
            if (!holds)
            {
                return false;
            }

            hasCased |= char.IsUpper(c) || char.IsLower(c);
        }

        return name is "isupper" or "islower" ? hasCased : value.Length > 0;
    }
}
