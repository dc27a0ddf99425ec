using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;

namespace Qian.Inference.Tests.Chat;

// Each rule of tolerance by an example of its own, beside the recorded cases.
public class AssistantOutputRuleTests
{
    private const string Tools = """
        [{"name": "read", "parameters": {"type": "object", "properties": {"path": {"type": "string"}, "limit": {"type": "integer"}}, "required": ["path"]}},
         {"name": "write", "parameters": {"type": "object", "properties": {"path": {"type": "string"}, "content": {"type": "string"}}, "required": ["path", "content"]}},
         {"name": "set", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}, "x": {"type": "number"}, "b": {"type": "boolean"},
            "maybe": {"type": ["integer", "null"]}, "either": {"type": ["string", "integer"]}, "list": {"type": "array"}, "any": {}, "mode": {"enum": ["a", 3]},
            "ref": {"$ref": "#/$defs/Opts"}}, "$defs": {"Opts": {"type": "object"}}, "additionalProperties": {"type": "boolean"}}}]
        """;

    private const string ReadA = "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>";
    private const string CallA = """read {"path":"a"}""";

    // Reasoning, content and calls ("name arguments", one a line); "!" behind the calls marks a repaired reply.
    [Theory]
    [InlineData(true, "<think>\nplan\n</think>\n\nHi", "plan", "Hi", "!")]
    [InlineData(false, "Hello <think> there", "", "Hello <think> there", "")]
    [InlineData(true, "a\n</think>\n\n<think>\nb\n</think>\n\nHi", "a\n\nb", "Hi", "!")]
    [InlineData(false, "<think>\nx\n</think>\n\nok", "x", "ok", "!")]
    [InlineData(true, "Close with `</think>` here.\n</think>\n\nok", "Close with `</think>` here.", "ok", "")]
    [InlineData(false, "```\n</think>\n```\nok", "", "```\n</think>\n```\nok", "")]
    public void Thinking(bool thinks, string raw, string reasoning, string content, string calls) => Check(thinks, raw, reasoning, content, calls);

    [Theory]
    [InlineData("Now:\n```\n" + ReadA + "\n" + ReadA + "\n```", "Now:", CallA + "\n" + CallA + "!")]
    [InlineData("```\n" + ReadA + "\n```\nThat was it.", "```\n" + ReadA + "\n```\nThat was it.", "")]
    [InlineData("```\nSee:\n" + ReadA + "\n```", "```\nSee:\n" + ReadA + "\n```", "")]
    [InlineData("~~~\n```\n" + ReadA + "\n```\n~~~", "~~~\n```\n" + ReadA + "\n```\n~~~", "")]
    [InlineData("Use ```ls``` now.\n" + ReadA, "Use ```ls``` now.", CallA)]
    [InlineData("```xml\n<tool_call>\n<function=write>\n<parameter=path>\na\n</parameter>\n<parameter=content>\n```\nx\n```\n</parameter>\n</function>\n</tool_call>\n```", "", """write {"path":"a","content":"```\nx\n```"}!""")]
    public void Fences(string raw, string content, string calls) => Check(false, raw, "", content, calls);

    [Theory]
    [InlineData(ReadA + "\n<tool_response>\ninvented\n</tool_response>\nSo it is.", "", CallA + "!")]
    [InlineData(ReadA + "\n</function>\n</function_invocation>\nDone.", "Done.", CallA + "!")]
    [InlineData("<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n<function=read>\n<parameter=path>\na\n</parameter>\n</function>\n</tool_call>", "", CallA + "\n" + CallA + "!")]
    [InlineData("<function_calls>\n<invoke name=\"read\">\n<parameter name=\"path\">a</parameter>\n</invoke>\n</function_calls>", "", CallA + "!")]
    [InlineData("<tool_call>\n<parameter=path>\na\n</parameter>\n<parameter=content>\nb\n</parameter>\n</tool_call>", "", """write {"path":"a","content":"b"}!""")]
    [InlineData("<tool_call>\n</tool_call>\n</tool_call>\nHi", "Hi", "!")]
    [InlineData("Say <tool_call> twice: <tool_call>.", "Say <tool_call> twice: <tool_call>.", "")]
    [InlineData("  <function=read>\n<parameter=path>\na\n</parameter>\n</function>\nbye", "bye", CallA + "!")]
    [InlineData("x\n  <function=read>\n<parameter=path>", "x\n  <function=read>\n<parameter=path>", "")]
    public void Envelopes(string raw, string content, string calls) => Check(false, raw, "", content, calls);

    [Theory]
    [InlineData("<tool_call>\n[{\"name\": \"read\", \"arguments\": {\"path\":\"a\"}}, {\"name\": \"read\", \"arguments\": {\"path\":\"a\"}}]\n</tool_call>", "", CallA + "\n" + CallA + "!")]
    [InlineData("<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\":\"a\"}}\n{\"name\": \"read\", \"arguments\": {\"path\":\"a\"}}\n</tool_call>", "", CallA + "\n" + CallA + "!")]
    [InlineData("<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\":\"a\"}\n</tool_call>\nHi", "Hi", CallA + "!")]
    [InlineData("<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\":\"a\"}}}\n</tool_call>", "", CallA + "!")]
    [InlineData("<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\":\"</tool_call>\"}}\n</tool_call>", "", "read {\"path\":\"</tool_call>\"}!")]
    [InlineData("<tool_call>\n<function=read>\n{\"path\":\"a\"}\n</function>\n</tool_call>", "", CallA + "!")]
    [InlineData("<tool_call>\n{\"path\": \"a\"}\n</tool_call>", "<tool_call>\n{\"path\": \"a\"}\n</tool_call>", "")]
    public void JsonForms(string raw, string content, string calls) => Check(false, raw, "", content, calls);

    [Theory]
    [InlineData("v\n</parameter/>\n</function>\n</tool_call>", "v", true)]
    [InlineData("v\n</parameter1>\n</function>\n</tool_call>", "v", true)]
    [InlineData("v\n</parameterfunction>\n</tool_call>", "v", true)]
    [InlineData("v\n</parameter\n</function>\n</tool_call>", "v", true)]
    [InlineData("v\n</content>\n</function>\n</tool_call>", "v", true)]
    [InlineData("v\n</function>\n</tool_call>", "v", true)]
    [InlineData("v\n</tool_call>", "v", true)]
    [InlineData("<content>\nv\n</content>\n</parameter>\n</function>\n</tool_call>", "<content>\nv\n</content>", false)]
    [InlineData("<parameters>\nv\n</parameters>\n</parameter>\n</function>\n</tool_call>", "<parameters>\nv\n</parameters>", false)]
    [InlineData("Use <parameter> here.\n</parameter>\n</function>\n</tool_call>", "Use <parameter> here.", false)]
    [InlineData("Say <tool_call> there.\n</parameter>\n</function>\n</tool_call>\n" + ReadA, "Say <tool_call> there.", false)]
    [InlineData(ReadA + "\nand on\n</parameter>\n</function>\n</tool_call>", ReadA + "\nand on", false)]
    [InlineData("a\r\nb\r\n</parameter>\n</function>\n</tool_call>", "a\r\nb\r", false)]
    [InlineData("&lt; \\n `x <tool\n\n\n</parameter>\n</function>\n</tool_call>", "&lt; \\n `x <tool\n\n", false)]
    public void ValueEnds(string rest, string value, bool isRepaired)
    {
        string second = rest.EndsWith(ReadA, StringComparison.Ordinal) && rest != ReadA ? "\n" + CallA : string.Empty;
        string raw = "<tool_call>\n<function=write>\n<parameter=path>\np\n</parameter>\n<parameter=content>\n" + rest;
        string call = $$"""write {"path":"p","content":{{ArgumentText.Quote(value)}}}""";
        Check(false, raw, "", "", call + second + (isRepaired ? "!" : string.Empty));
    }

    [Fact]
    public void PassedOverCloserIsBelievedBeforeAnotherParameter()
    {
        const string Raw = "<tool_call>\n<function=write>\n<parameter=content>\nUse <parameter> here.\n</parameter>\n<parameter=path>\np\n</parameter>\n</function>\n</tool_call>";
        Check(false, Raw, "", "", """write {"content":"Use <parameter> here.","path":"p"}""");
    }

    [Theory]
    [InlineData("n", "5.0", "5", false)]
    [InlineData("n", "1e3", "1000", false)]
    [InlineData("n", "5.5", "\"5.5\"", false)]
    [InlineData("n", "05", "\"05\"", false)]
    [InlineData("n", "-123456789012345678901234567890", "-123456789012345678901234567890", false)]
    [InlineData("x", " 0.10 ", "0.10", false)]
    [InlineData("b", "FALSE", "false", true)]
    [InlineData("b", "yes", "\"yes\"", false)]
    [InlineData("maybe", "None", "null", true)]
    [InlineData("either", "12", "12", false)]
    [InlineData("either", " x ", "\" x \"", false)]
    [InlineData("list", "(1, 'it\\'s', True,)", "[1,\"it's\",true]", true)]
    [InlineData("list", "{\"a\": 1}", "\"{\\\"a\\\": 1}\"", false)]
    [InlineData("any", "[1, 2]", "[1, 2]", false)]
    [InlineData("any", "hello", "\"hello\"", false)]
    [InlineData("mode", "3", "3", false)]
    [InlineData("mode", "a", "\"a\"", false)]
    [InlineData("ref", "{\"a\": [1]}", "{\"a\": [1]}", false)]
    [InlineData("unknown", "true", "true", false)]
    public void Coercion(string name, string text, string json, bool isRepaired)
    {
        string raw = $"<tool_call>\n<function=set>\n<parameter={name}>\n{text}\n</parameter>\n</function>\n</tool_call>";
        Check(false, raw, "", "", $"set {{\"{name}\":{json}}}" + (isRepaired ? "!" : string.Empty));
    }

    [Theory]
    [InlineData(false, ReadA + "\n<tool_call>\n<fun", "", "", CallA)]
    [InlineData(false, ReadA + "\n<tool_call>\n{\"name\": \"re", "", "", CallA)]
    [InlineData(false, "<tool_call>\n<parameter=path>\na", "", "", "")]
    [InlineData(false, "<tool_call>\n<function=read>\n<parameter=path>\na\n</parameter>\n<parameter=lim", "", "", """read {"path":"a"?""")]
    [InlineData(false, "<tool_call>\n<function=write>\n<parameter=content>\n" + ReadA + "\nhalf of i", "", "", "write {\"content\":\"<tool_call>\\n<function=read>\\n<parameter=path>\\na\\n</parameter>\\n</function>\\n</tool_call>\\nhalf of i?")]
    [InlineData(true, "x\n" + ReadA + "\n</thi", "x\n" + ReadA + "\n</thi", "", "")]
    public void CutByTheLimit(bool thinks, string raw, string reasoning, string content, string calls) =>
        Check(thinks, raw, reasoning, content, calls, isCut: true);

    [Fact]
    public void TextAndStringArgumentsFlowAsTheyCome()
    {
        var parser = new AssistantOutputParser(ReadTools(), thinks: false);
        Assert.Equal("Hel", Assert.Single(parser.Feed("Hel")).Text);
        Assert.Equal("lo", Assert.Single(parser.Feed("lo \n")).Text);
        Assert.Equal(" \nthere", Assert.Single(parser.Feed("there")).Text);
        Assert.Empty(parser.Feed("\n<tool_call>\n<function=write>\n"));
        Assert.Equal(
            [OutputEventKind.ToolCallStarted, OutputEventKind.ToolCallArguments, OutputEventKind.ToolCallArguments],
            parser.Feed("<parameter=content>\n").Select(one => one.Kind));
        Assert.Equal("one", Assert.Single(parser.Feed("one\n")).Text);
        Assert.Equal("\\ntwo", Assert.Single(parser.Feed("two</para")).Text);
        Assert.Equal("</para graph", Assert.Single(parser.Feed(" graph")).Text);
    }

    [Fact]
    public void WithoutToolsMarkupIsText()
    {
        var parser = new AssistantOutputParser(null, thinks: true);
        parser.Feed("t</think>" + ReadA);
        parser.Finish(isCut: false);
        Assert.Equal(("t", ReadA, "stop", 0), (parser.Output.Reasoning, parser.Output.Content, parser.Output.Finish, parser.Output.ToolCalls.Count));
    }

    private static IReadOnlyList<ToolDefinition> ReadTools()
    {
        using JsonDocument json = JsonDocument.Parse(Tools);
        return MessageJson.ReadTools(json.RootElement.Clone())!;
    }

    private static void Check(bool thinks, string raw, string reasoning, string content, string calls, bool isCut = false)
    {
        foreach (int step in (int[])[raw.Length, 1])
        {
            var parser = new AssistantOutputParser(ReadTools(), thinks);
            for (int at = 0; at < raw.Length; at += step)
            {
                parser.Feed(raw.AsSpan(at, Math.Min(step, raw.Length - at)));
            }

            parser.Finish(isCut);
            AssistantOutput output = parser.Output;
            string found = string.Join("\n", output.ToolCalls.Select(call => $"{call.Name} {call.ArgumentsText}{(call.IsComplete ? "" : "?")}"));
            Assert.Equal((reasoning, content, calls), (output.Reasoning, output.Content, found + (output.IsRepaired ? "!" : string.Empty)));
        }
    }
}
