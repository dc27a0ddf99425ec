using System.Buffers;
using System.Globalization;
using System.Numerics;
using System.Text.Json;

namespace Qian.Inference.Chat.Jinja;

// The spelling options of Python's json.dumps. Indent < 0 writes one line.
internal sealed record JinjaJsonForm(
    int Indent = -1, string ItemSeparator = ", ", string KeySeparator = ": ", bool SortKeys = false, bool AsciiOnly = false)
{
    public static JinjaJsonForm OneLine { get; } = new();
}

// Between JSON and template values, both ways. Reading keeps key order and tells 1 from 1.0. Writing is Python's
// json.dumps(ensure_ascii=False), which is what the templates' tojson stands for: ", " and ": ", nothing escaped for HTML.
internal static class JinjaJson
{
    // Python refuses to read longer integers; so do we, since the conversion is quadratic.
    private const int MaxDigitCount = 4300;

    private static readonly SearchValues<char> s_escaped = SearchValues.Create(
        "\"\\\u0000\u0001\u0002\u0003\u0004\u0005\u0006\u0007\b\t\n\u000b\f\r\u000e\u000f"
        + "\u0010\u0011\u0012\u0013\u0014\u0015\u0016\u0017\u0018\u0019\u001a\u001b\u001c\u001d\u001e\u001f");

    public static JinjaValue Read(JsonElement element, int depth = 0)
    {
        if (depth > 200)
        {
            throw new TemplateException(TemplateFault.Limit, "JSON in the request nests deeper than 200 levels.");
        }

        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                var mapping = new JinjaMapping();
                foreach (JsonProperty property in element.EnumerateObject())
                {
                    mapping.Set(JinjaValue.FromInput(NameOf(property)), Read(property.Value, depth + 1));
                }

                return JinjaValue.FromMapping(mapping);
            case JsonValueKind.Array:
                var items = new JinjaValue[element.GetArrayLength()];
                int index = 0;
                foreach (JsonElement item in element.EnumerateArray())
                {
                    items[index++] = Read(item, depth + 1);
                }

                return JinjaValue.FromList(items);
            case JsonValueKind.String:
                return JinjaValue.FromInput(TextOf(element));
            case JsonValueKind.Number:
                return Number(element.GetRawText());
            case JsonValueKind.True:
                return JinjaValue.True;
            case JsonValueKind.False:
                return JinjaValue.False;
            default:
                return JinjaValue.None;
        }
    }

    // An escaped half of a surrogate pair is valid JSON, yet no text.
    private static string TextOf(JsonElement element)
    {
        try
        {
            return element.GetString()!;
        }
        catch (InvalidOperationException)
        {
            throw new TemplateException(TemplateFault.Value, "A string in the request holds half a surrogate pair.");
        }
    }

    private static string NameOf(JsonProperty property)
    {
        try
        {
            return property.Name;
        }
        catch (InvalidOperationException)
        {
            throw new TemplateException(TemplateFault.Value, "A key in the request holds half a surrogate pair.");
        }
    }

    private static JinjaValue Number(string text)
    {
        if (text.AsSpan().IndexOfAny('.', 'e', 'E') >= 0)
        {
            return JinjaValue.FromFloat(double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture));
        }

        if (text.Length > MaxDigitCount)
        {
            throw new TemplateException(TemplateFault.Value, $"An integer in the request has more than {MaxDigitCount} digits.");
        }

        return JinjaValue.FromInteger(BigInteger.Parse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture));
    }

    public static JinjaText Write(JinjaValue value, JinjaBudget budget, JinjaJsonForm form)
    {
        var output = new JinjaTextBuilder(budget);
        Write(value, output, budget, form, 0);
        return output.ToText();
    }

    private static void Write(JinjaValue value, JinjaTextBuilder output, JinjaBudget budget, JinjaJsonForm form, int level)
    {
        budget.Step();
        budget.Enter();
        switch (value.Kind)
        {
            case JinjaKind.None:
                output.Append("null", isTemplate: false);
                break;
            case JinjaKind.Boolean:
                output.Append(value.IsTrue ? "true" : "false", isTemplate: false);
                break;
            case JinjaKind.Integer:
                output.Append(PythonText.Integer(value.Integer), isTemplate: false);
                break;
            case JinjaKind.Float:
                output.Append(Float(value.Float), isTemplate: false);
                break;
            case JinjaKind.Text:
                WriteText(value.Text, output, form);
                break;
            case JinjaKind.List when value.List.Form != JinjaListForm.Iterator:
                WriteList(value.List.Items, output, budget, form, level);
                break;
            case JinjaKind.Mapping:
                WriteMapping(value.Mapping, output, budget, form, level);
                break;
            default:
                throw new TemplateException(TemplateFault.Type, $"Object of type {value.TypeName} is not JSON serializable");
        }

        budget.Leave();
    }

    private static void WriteList(
        IReadOnlyList<JinjaValue> items, JinjaTextBuilder output, JinjaBudget budget, JinjaJsonForm form, int level)
    {
        output.Append("[", isTemplate: false);
        for (int i = 0; i < items.Count; i++)
        {
            Separate(output, i, form, level + 1);
            Write(items[i], output, budget, form, level + 1);
        }

        Close(output, items.Count, form, level, "]");
    }

    private static void WriteMapping(
        JinjaMapping mapping, JinjaTextBuilder output, JinjaBudget budget, JinjaJsonForm form, int level)
    {
        var keys = new JinjaValue[mapping.Count];
        for (int i = 0; i < keys.Length; i++)
        {
            keys[i] = mapping.KeyAt(i);
        }

        int[]? order = form.SortKeys ? JinjaSort.Order(keys, isReversed: false, budget) : null;
        output.Append("{", isTemplate: false);
        for (int i = 0; i < keys.Length; i++)
        {
            Separate(output, i, form, level + 1);
            int index = order?[i] ?? i;
            JinjaValue key = keys[index];
            JinjaText name = key.Kind switch
            {
                JinjaKind.Text => key.Text,
                JinjaKind.None => new JinjaText("null", isTemplate: false),
                JinjaKind.Boolean => new JinjaText(key.IsTrue ? "true" : "false", isTemplate: false),
                JinjaKind.Float => new JinjaText(Float(key.Float), isTemplate: false),
                _ => new JinjaText(PythonText.Integer(key.Integer), isTemplate: false),
            };
            WriteText(name, output, form);
            output.Append(form.KeySeparator, isTemplate: false);
            Write(mapping.ValueAt(index), output, budget, form, level + 1);
        }

        Close(output, keys.Length, form, level, "}");
    }

    private static void Separate(JinjaTextBuilder output, int index, JinjaJsonForm form, int level)
    {
        if (index > 0)
        {
            output.Append(form.ItemSeparator, isTemplate: false);
        }

        Break(output, form, level);
    }

    private static void Close(JinjaTextBuilder output, int count, JinjaJsonForm form, int level, string bracket)
    {
        if (count > 0)
        {
            Break(output, form, level);
        }

        output.Append(bracket, isTemplate: false);
    }

    private static void Break(JinjaTextBuilder output, JinjaJsonForm form, int level)
    {
        if (form.Indent >= 0)
        {
            output.Append("\n", isTemplate: false);
            for (int i = 0; i < level; i++)
            {
                output.Append(new string(' ', form.Indent), isTemplate: false);
            }
        }
    }

    private static string Float(double value) =>
        double.IsNaN(value) ? "NaN" : double.IsInfinity(value) ? value > 0 ? "Infinity" : "-Infinity" : PythonText.Float(value);

    private static void WriteText(JinjaText text, JinjaTextBuilder output, JinjaJsonForm form)
    {
        // Punctuation counts as input: no control token holds a quote or a bracket, and a tool stays one run.
        output.Append("\"", isTemplate: false);
        int copied = 0;
        while (true)
        {
            ReadOnlySpan<char> rest = text.Value.AsSpan(copied);
            int found = rest.IndexOfAny(s_escaped);
            if (form.AsciiOnly)
            {
                int foreign = rest[..(found < 0 ? rest.Length : found)].IndexOfAnyExceptInRange('\0', '\x7f');
                found = foreign >= 0 ? foreign : found;
            }

            if (found < 0)
            {
                break;
            }

            output.Append(text, copied, found);
            char c = text.Value[copied + found];
            output.Append(
                c switch
                {
                    '"' => "\\\"",
                    '\\' => "\\\\",
                    '\n' => "\\n",
                    '\r' => "\\r",
                    '\t' => "\\t",
                    '\b' => "\\b",
                    '\f' => "\\f",
                    _ => $"\\u{(int)c:x4}",
                },
                isTemplate: false);
            copied += found + 1;
        }

        output.Append(text, copied, text.Length - copied);
        output.Append("\"", isTemplate: false);
    }
}
