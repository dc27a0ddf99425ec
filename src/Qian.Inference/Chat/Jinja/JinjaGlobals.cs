using System.Globalization;
using System.Text;

namespace Qian.Inference.Chat.Jinja;

// The functions that every template finds: jinja2's namespace, range and dict, and what transformers adds: raise_exception and
// strftime_now.
internal static class JinjaGlobals
{
    public static void AddTo(JinjaScope scope, DateTimeOffset now)
    {
        scope.Set("namespace", JinjaValue.FromFunction(Namespace));
        scope.Set("range", JinjaValue.FromFunction(Range));
        scope.Set("dict", JinjaValue.FromFunction(arguments => JinjaValue.FromMapping(Dict(arguments))));
        scope.Set("raise_exception", JinjaValue.FromFunction(Raise));
        scope.Set("strftime_now", JinjaValue.FromFunction(arguments => FormatTime(arguments, now)));
    }

    private static JinjaValue Raise(JinjaArguments arguments) => throw new TemplateException(
        TemplateFault.Raised, PythonText.Str(arguments.Require(0, "message"), arguments.Budget).Value);

    private static JinjaValue Namespace(JinjaArguments arguments)
    {
        JinjaMapping initial = Dict(arguments);
        var attributes = new Dictionary<string, JinjaValue>();
        for (int i = 0; i < initial.Count; i++)
        {
            attributes[PythonText.Str(initial.KeyAt(i), arguments.Budget).Value] = initial.ValueAt(i);
        }

        return JinjaValue.FromNamespace(attributes);
    }

    private static JinjaMapping Dict(JinjaArguments arguments)
    {
        var mapping = new JinjaMapping();
        if (arguments.Count > 0)
        {
            JinjaValue source = arguments.At(0);
            foreach (JinjaValue item in arguments.Interpreter.Items(source))
            {
                arguments.Budget.Step();
                if (source.Kind == JinjaKind.Mapping)
                {
                    source.Mapping.TryGet(item, out JinjaValue value);
                    mapping.Set(item, value);
                    continue;
                }

                IReadOnlyList<JinjaValue> pair = arguments.Interpreter.Items(item);
                if (pair.Count != 2)
                {
                    throw new TemplateException(
                        TemplateFault.Value, $"dictionary update sequence element has length {pair.Count}; 2 is required");
                }

                mapping.Set(pair[0], pair[1]);
            }
        }

        foreach ((string name, JinjaValue value) in arguments.Named)
        {
            mapping.Set(JinjaValue.FromLiteral(name), value);
        }

        return mapping;
    }

    private static JinjaValue Range(JinjaArguments arguments)
    {
        bool hasStart = arguments.Count > 1;
        long start = hasStart ? arguments.Integer(0, "start", 0) : 0;
        arguments.Require(0, "stop");
        long stop = arguments.Integer(hasStart ? 1 : 0, "stop", 0);
        long step = arguments.Integer(2, "step", 1);
        if (step == 0)
        {
            throw new TemplateException(TemplateFault.Value, "range() arg 3 must not be zero");
        }

        long distance = step > 0 ? stop - start : start - stop;
        long count = distance <= 0 ? 0 : ((distance - 1) / Math.Abs(step)) + 1;
        if (count > arguments.Budget.Limits.RangeCount)
        {
            throw new TemplateException(
                TemplateFault.Limit, $"Range too big. Templates may use ranges of at most {arguments.Budget.Limits.RangeCount} items.");
        }

        arguments.Budget.Step(count);
        var items = new JinjaValue[count];
        for (long i = 0; i < count; i++)
        {
            items[i] = JinjaValue.FromInteger(start + (i * step));
        }

        return JinjaValue.FromList(items);
    }

    private static JinjaValue FormatTime(JinjaArguments arguments, DateTimeOffset now)
    {
        string format = arguments.RequireText(0, "format").Value;
        var text = new StringBuilder();
        for (int i = 0; i < format.Length; i++)
        {
            if (format[i] != '%' || i + 1 == format.Length)
            {
                text.Append(format[i]);
                continue;
            }

            // %-d is glibc's way to leave out the leading zero.
            bool isShort = format[i + 1] == '-' && i + 2 < format.Length;
            i += isShort ? 2 : 1;
            string part = Part(format[i], now);
            text.Append(isShort && part.Length > 1 ? part.TrimStart('0') is { Length: > 0 } rest ? rest : "0" : part);
            if (text.Length > 10_000)
            {
                throw new TemplateException(TemplateFault.Limit, "strftime_now was given too long a format.");
            }
        }

        return JinjaValue.FromLiteral(text.ToString());
    }

    private static string Part(char letter, DateTimeOffset now)
    {
        CultureInfo culture = CultureInfo.InvariantCulture;
        return letter switch
        {
            'Y' => now.Year.ToString("0000", culture),
            'y' => (now.Year % 100).ToString("00", culture),
            'm' => now.Month.ToString("00", culture),
            'd' => now.Day.ToString("00", culture),
            'e' => now.Day.ToString(culture).PadLeft(2),
            'H' => now.Hour.ToString("00", culture),
            'I' => (((now.Hour + 11) % 12) + 1).ToString("00", culture),
            'M' => now.Minute.ToString("00", culture),
            'S' => now.Second.ToString("00", culture),
            'f' => (now.Ticks % TimeSpan.TicksPerSecond / 10).ToString("000000", culture),
            'p' => now.Hour < 12 ? "AM" : "PM",
            'B' => now.ToString("MMMM", culture),
            'b' or 'h' => now.ToString("MMM", culture),
            'A' => now.ToString("dddd", culture),
            'a' => now.ToString("ddd", culture),
            'j' => now.DayOfYear.ToString("000", culture),
            'w' => ((int)now.DayOfWeek).ToString(culture),
            'F' => now.ToString("yyyy-MM-dd", culture),
            'T' => now.ToString("HH:mm:ss", culture),
            'D' => now.ToString("MM/dd/yy", culture),
            'R' => now.ToString("HH:mm", culture),
            'c' => now.ToString("ddd MMM ", culture) + now.Day.ToString(culture).PadLeft(2) + now.ToString(" HH:mm:ss yyyy", culture),
            'x' => now.ToString("MM/dd/yy", culture),
            'X' => now.ToString("HH:mm:ss", culture),
            'z' or 'Z' => string.Empty,
            'n' => "\n",
            't' => "\t",
            '%' => "%",
            _ => "%" + letter,
        };
    }
}
