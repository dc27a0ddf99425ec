using System.Text;
using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;
using Qian.Inference.Tests.Fuzzing;

namespace Qian.Inference.Tests.Chat;

// Seeded: replies glued together from tags, fragments of the recorded cases and noise. Whatever comes, nothing throws, the deltas add
// up, and every way of splitting the text gives the same.
public class AssistantOutputFuzzTests
{
    private static readonly string[] s_fragments =
    [
        "<tool_call>", "</tool_call>", "<function=read_file>", "<function=write_file>", "<function=nope>", "</function>", "<parameter=path>",
        "<parameter=content>", "<parameter=limit>", "<parameter=zzz>", "</parameter>", "<parameter>", "<think>", "</think>", "```", "```xml\n", "`", "\n",
        "\n\n", " ", "a", "text", "<", ">", "</", "<invoke name=\"read_file\">", "</invoke>", "<function_calls>", "</function_calls>",
        "<function name=\"read_file\">", "<parameter name=\"path\">", "{\"name\": \"read_file\", \"arguments\": {\"path\": \"a\"}}", "{", "}", "\"", "12",
        "True", "</path>", "</parameter1>", "</parameter", "<tool_response>", "<function>read_file</function>", "\ud83d\ude00", "\ud83d", "é", "\r\n",
        "<tool_call>\n<function=read_file>\n<parameter=path>\nx\n</parameter>\n</function>\n</tool_call>", "\n</parameter>\n</function>\n</tool_call>",
        "<tool_call>\n<parameter=path>\n", "[1, 'b',]", "~~~\n",
    ];

    private static readonly string s_tools = """
        [{"type": "function", "function": {"name": "read_file", "parameters": {"type": "object", "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}}, "required": ["path"]}}},
         {"type": "function", "function": {"name": "write_file", "parameters": {"type": "object", "properties": {"path": {"type": "string"}, "content": {"type": "string"}, "opts": {"type": ["object", "null"]}}, "required": ["path", "content"]}}}]
        """;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void NothingThrowsAndSplitsAgree(int seed)
    {
        using JsonDocument toolJson = JsonDocument.Parse(s_tools);
        IReadOnlyList<ToolDefinition> tools = MessageJson.ReadTools(toolJson.RootElement)!;
        using JsonDocument cases = JsonDocument.Parse(File.ReadAllText(ChatData.PathOf("tool-calls/tool-call-cases.json")));
        string[] raws = [.. cases.RootElement.EnumerateArray().Select(one => one.GetProperty("raw").GetString()!)];
        var random = new Random(seed + Mutator.First);
        int callCount = 0, count = Mutator.Count(4500) / 3;
        for (int i = 0; i < count; i++)
        {
            string raw = (i & 1) == 0 ? Glue(random) : Mutate(raws[random.Next(raws.Length)], random);
            bool thinks = random.Next(2) == 0;
            bool isCut = random.Next(3) == 0;
            IReadOnlyList<ToolDefinition> given = random.Next(20) == 0 ? [] : tools;
            string whole = Run(raw, given, thinks, isCut, _ => raw.Length);
            callCount += whole.Contains("call 0", StringComparison.Ordinal) ? 1 : 0;
            Assert.True(whole == Run(raw, given, thinks, isCut, _ => 1), Explain(raw, given, thinks, isCut, whole, _ => 1));
            int chunk = random.Next(2, 12);
            Assert.True(whole == Run(raw, given, thinks, isCut, _ => chunk), Explain(raw, given, thinks, isCut, whole, _ => chunk));
        }

        // The fuzz is no use unless it gets into calls often.
        Assert.InRange(callCount, count / 8, count);
    }

    private static string Explain(
        string raw, IReadOnlyList<ToolDefinition> tools, bool thinks, bool isCut, string whole, Func<int, int> chunk) =>
        $"raw {JsonSerializer.Serialize(raw)} thinks {thinks} cut {isCut}\nwhole: {whole}\nsplit: {Run(raw, tools, thinks, isCut, chunk)}";

    private static string Glue(Random random)
    {
        var text = new StringBuilder();
        for (int i = random.Next(1, 25); i > 0; i--)
        {
            text.Append(s_fragments[random.Next(s_fragments.Length)]);
            if (random.Next(3) == 0)
            {
                text.Append('\n');
            }
        }

        return text.ToString();
    }

    private static string Mutate(string raw, Random random)
    {
        for (int i = random.Next(1, 4); i > 0; i--)
        {
            int at = random.Next(raw.Length + 1);
            int length = Math.Min(random.Next(1, 20), raw.Length - at);
            raw = random.Next(3) switch
            {
                0 => raw.Remove(at, length),
                1 => raw.Insert(at, s_fragments[random.Next(s_fragments.Length)]),
                _ => raw.Insert(at, raw.Substring(at, length)),
            };
        }

        return raw;
    }

    private static string Run(string raw, IReadOnlyList<ToolDefinition> tools, bool thinks, bool isCut, Func<int, int> chunk)
    {
        var parser = new AssistantOutputParser(tools, thinks);
        var reasoning = new StringBuilder();
        var content = new StringBuilder();
        var calls = new List<StringBuilder>();
        for (int at = 0; at < raw.Length;)
        {
            int length = Math.Min(chunk(at), raw.Length - at);
            Collect(parser.Feed(raw.AsSpan(at, length)));
            at += length;
        }

        Collect(parser.Finish(isCut));
        AssistantOutput output = parser.Output;
        Assert.Equal(output.Reasoning, reasoning.ToString());
        Assert.Equal(output.Content, content.ToString());
        Assert.Equal(output.Content.Trim(), output.Content);
        Assert.Equal(output.ToolCalls.Count, calls.Count);
        var summary = new StringBuilder($"{output.Finish} {output.IsRepaired}\nreasoning {reasoning}\ncontent {content}");
        for (int i = 0; i < calls.Count; i++)
        {
            Assert.Equal(output.ToolCalls[i].ArgumentsText, calls[i].ToString());
            Assert.True(output.ToolCalls[i].IsComplete || (isCut && i == calls.Count - 1));
            Assert.Equal(JsonValueKind.Object, output.ToolCalls[i].Arguments.ValueKind);
            summary.Append($"\ncall {i} {output.ToolCalls[i].Name} {output.ToolCalls[i].IsComplete} {calls[i]}");
        }

        return summary.ToString();

        void Collect(IReadOnlyList<OutputEvent> events)
        {
            foreach (OutputEvent one in events)
            {
                switch (one.Kind)
                {
                    case OutputEventKind.Reasoning:
                        reasoning.Append(one.Text);
                        break;
                    case OutputEventKind.Content:
                        content.Append(one.Text);
                        break;
                    case OutputEventKind.ToolCallStarted:
                        calls.Add(new StringBuilder());
                        break;
                    case OutputEventKind.ToolCallArguments:
                        calls[one.CallIndex].Append(one.Text);
                        break;
                }
            }
        }
    }
}
