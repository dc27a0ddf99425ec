using System.Text.Json;
using System.Text.RegularExpressions;

namespace Qian.Nano;

// Whether a reply is one tool call exactly in the form that the template asks for: a known tool, its parameters, all closed.
internal static partial class CallForm
{
    public static bool IsWellFormed(string raw, ToolBox tools)
    {
        int answer = raw.LastIndexOf("</think>", StringComparison.Ordinal);
        string text = (answer < 0 ? raw : raw[(answer + "</think>".Length)..]).Replace("<|im_end|>", "", StringComparison.Ordinal).Trim();
        Match match = Form().Match(text);
        if (!match.Success || text.IndexOf("<tool_call>", StringComparison.Ordinal) != match.Index)
            return false;
        string[]? wanted = Parameters(tools, match.Groups["name"].Value);
        return wanted is not null && match.Groups["parameter"].Captures.Select(capture => capture.Value).Order().SequenceEqual(wanted.Order());
    }

    private static string[]? Parameters(ToolBox tools, string name)
    {
        using JsonDocument document = JsonDocument.Parse(tools.Json);
        foreach (JsonElement tool in document.RootElement.EnumerateArray())
        {
            JsonElement function = tool.GetProperty("function");
            if (function.GetProperty("name").GetString() == name)
                return [.. function.GetProperty("parameters").GetProperty("required").EnumerateArray().Select(parameter => parameter.GetString()!)];
        }

        return null;
    }

    // Words may stand before the call, nothing behind it.
    [GeneratedRegex(@"<tool_call>\n<function=(?<name>[\w]+)>\n(<parameter=(?<parameter>\w+)>\n((?!</?(parameter|function|tool_call)).)*\n</parameter>\n)*</function>\n</tool_call>$", RegexOptions.Singleline)]
    private static partial Regex Form();
}
