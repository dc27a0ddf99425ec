using System.Text.Json;
using Qian.Inference.Constraint;

namespace Qian.Inference.Tests.Constraint;

public sealed class ToolCallGrammarTests
{
    private const string Parameters = """
        {"type":"object","properties":{"path":{"type":"string"},"text":{"type":"string"},"limit":{"type":"integer"},"deep":{"type":["array","null"],"items":{"type":"string"}}},"required":["path"]}
        """;

    private static readonly Constrained s_auto = Of(mustCall: false, severalCalls: true);
    private static readonly Constrained s_required = Of(mustCall: true, severalCalls: false);

    [Theory]
    [InlineData("<tool_call>\n<function=read>\n<parameter=path>\na/b.txt\n</parameter>\n</function>\n</tool_call>", true)]
    [InlineData("<tool_call>\n<function=read>\n<parameter=limit>\n12\n</parameter>\n<parameter=path>\nx\n</parameter>\n</function>\n</tool_call>", true)]
    [InlineData("<tool_call>\n<function=read>\n<parameter=path>\nx\n</parameter>\n<parameter=deep>\n[\"a\", \"b\"]\n</parameter>\n</function>\n</tool_call>", true)]
    [InlineData("<tool_call>\n<function=none>\n</function>\n</tool_call>", true)]
    [InlineData("<tool_call>\n<function=read>\n<parameter=path>\n\n</parameter>\n</function>\n</tool_call>", true)]
    [InlineData("<tool_call>\n<function=read>\n</function>\n</tool_call>", false)]
    [InlineData("<tool_call>\n<function=read>\n<parameter=path>\nx\n</parameter>\n<parameter=path>\ny\n</parameter>\n</function>\n</tool_call>", false)]
    [InlineData("<tool_call>\n<function=read>\n<parameter=path>\nx\n</parameter>\n<parameter=limit>\nmany\n</parameter>\n</function>\n</tool_call>", false)]
    [InlineData("<tool_call>\n<function=write>\n</function>\n</tool_call>", false)]
    [InlineData("<tool_call>\n{\"name\": \"read\"}\n</tool_call>", false)]
    [InlineData("I would rather not.", false)]
    public void RequiredCallsKeepToTheForm(string text, bool matches) => Assert.Equal(matches, s_required.Matches(text));

    [Theory]
    [InlineData("Nothing to do: `<tool_call>` is how one would call.", true)]
    [InlineData("Like so:\n```\n<tool_call>\nwhatever\n```\nand on.", true)]
    [InlineData("", true)]
    [InlineData("Let me see.\n\n<tool_call>\n<function=none>\n</function>\n</tool_call>", true)]
    [InlineData("<tool_call>\n<function=none>\n</function>\n</tool_call>\n<tool_call>\n<function=none>\n</function>\n</tool_call>", true)]
    [InlineData("<tool_call>\n<function=none>\n</function>\n</tool_call>\nDone.", false)]
    [InlineData("The tag <tool_call> opens a call", false)]
    [InlineData("Let me see. <tool_call>", false)]
    public void RepliesMayCallAndMayNot(string text, bool matches) => Assert.Equal(matches, s_auto.Matches(text));

    // A file may hold calls as text: their closers are not the value's only end.
    [Fact]
    public void ValuesMayQuoteCalls()
    {
        const string quoted = "before\n<tool_call>\n<function=x>\n<parameter=y>\nz\n</parameter>\n</function>\n</tool_call>\nafter";
        string call = $"<tool_call>\n<function=read>\n<parameter=path>\nx\n</parameter>\n<parameter=text>\n{quoted}\n</parameter>\n</function>\n</tool_call>";
        Assert.True(s_required.Matches(call));
        Assert.True(s_required.Matches(call.Replace(quoted, "a </parameter> b\n", StringComparison.Ordinal)));
    }

    [Fact]
    public void MasksAreExactAroundCalls()
    {
        s_auto.CheckMasks("A `<`\n<tool_call>\n<function=read>\n<parameter=path>\nab\n</parameter>\n<par");
    }

    [Fact]
    public void ManyToolsStaySmall()
    {
        CallableTool[] tools = [.. Enumerable.Range(0, 60).Select(i => new CallableTool($"tool_{i}", JsonDocument.Parse(Parameters).RootElement))];
        var automaton = Automaton.Compile(OutputConstraint.ForCalls(tools, mustCall: false, severalCalls: true, null).ToGrammar());
        Assert.InRange(automaton.StateCount, 1000, 40_000);
    }

    private static Constrained Of(bool mustCall, bool severalCalls) => new(OutputConstraint.ForCalls(
        [new CallableTool("read", JsonDocument.Parse(Parameters).RootElement), new CallableTool("none", JsonDocument.Parse("""{"type":"object","properties":{}}""").RootElement)],
        mustCall, severalCalls, null));
}
