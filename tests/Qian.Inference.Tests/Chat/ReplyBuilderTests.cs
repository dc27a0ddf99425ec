using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;
using Qian.Inference.Formats;
using Qian.Inference.Text;

namespace Qian.Inference.Tests.Chat;

// Replies as a trained model writes them, token by token through tokenizer, detokenizer and parser.
public sealed class ReplyBuilderTests
{
    private static readonly Tokenizer s_tokenizer = new(SyntheticVocabulary.Create(512));

    private static readonly ToolDefinition[] s_tools = [Tool("add", "a", "b"), Tool("now")];

    private static ToolDefinition Tool(string name, params string[] numbers) => new(JsonSerializer.SerializeToElement(new
    {
        type = "function",
        function = new { name, parameters = new { type = "object", properties = numbers.ToDictionary(number => number, _ => new { type = "integer" }) } },
    }));

    private static List<GeneratedToken> Tokens(string reply)
    {
        var detokenizer = new StreamingDetokenizer(s_tokenizer, skipsControlTokens: true);
        return [.. s_tokenizer.Encode(reply, matchAddedTokens: true).Select(id => new GeneratedToken(id, detokenizer.Append(id).ToString(), null))];
    }

    private static (List<ChatDelta> Deltas, ReplyBuilder Reply) Build(IEnumerable<GeneratedToken> tokens, bool thinks, bool isCut = false)
    {
        var reply = new ReplyBuilder(new AssistantOutputParser(s_tools, thinks));
        List<ChatDelta> deltas = [.. tokens.Select(reply.Add)];
        deltas.Add(reply.End(isCut));
        return (deltas, reply);
    }

    [Fact]
    public void ThinkingThenTextThenACall()
    {
        const string thought = "They want a sum; the tool adds.", answer = "Let me see.";
        List<GeneratedToken> tokens = Tokens($"{thought}\n</think>\n\n{answer}\n\n<tool_call>\n<function=add>\n<parameter=a>\n20\n</parameter>\n<parameter=b>\n22\n</parameter>\n</function>\n</tool_call>");
        (List<ChatDelta> deltas, ReplyBuilder reply) = Build(tokens, thinks: true);
        Assert.Equal(thought, string.Concat(deltas.Select(delta => delta.Reasoning)).Trim());
        Assert.Equal(answer, string.Concat(deltas.Select(delta => delta.Text)).Trim());
        ToolCall call = Assert.Single(deltas.SelectMany(delta => delta.ToolCalls));
        Assert.Equal(("add", "{\"a\":20,\"b\":22}"), (call.Name, JsonSerializer.Serialize(call.Arguments)));
        Message message = reply.Message();
        Assert.Equal(call.Id, Assert.Single(message.ToolCalls).Id);
        Assert.Equal((thought, answer), (message.ReasoningContent!.Trim(), message.Text.Trim()));
        Assert.Equal(tokens.Count, reply.TokenCount);
        Assert.Equal(deltas.Count - 1, deltas.Sum(delta => delta.TokenCount));
        Assert.Equal(Tokens(thought + "\n").Count, reply.ReasoningTokenCount);
    }

    [Fact]
    public void ADeltaIsHandedOutWithTheTokenThatCompletesIt()
    {
        List<GeneratedToken> tokens = Tokens("<tool_call>\n<function=now>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>");
        (List<ChatDelta> deltas, ReplyBuilder reply) = Build(tokens, thinks: false);
        List<int> places = [.. deltas.Select((delta, i) => (delta, i)).Where(pair => pair.delta.ToolCalls.Count > 0).Select(pair => pair.i)];
        Assert.Equal(2, places.Count);
        Assert.True(places[0] < tokens.Count / 2 + 4, $"the first call came with token {places[0]} of {tokens.Count}");
        Assert.Equal(2, deltas.SelectMany(delta => delta.ToolCalls).Select(call => call.Id).Distinct().Count());
        Assert.Equal(deltas.SelectMany(delta => delta.ToolCalls).Select(call => call.Id), reply.Message().ToolCalls.Select(call => call.Id));
        Assert.Equal(0, reply.ReasoningTokenCount);
        Assert.True(reply.HasCalls);
    }

    [Fact]
    public void TwoCallsCanCompleteWithOneToken()
    {
        const string both = "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>";
        (List<ChatDelta> deltas, ReplyBuilder reply) = Build([new GeneratedToken(1, both, FinishReason.Stop)], thinks: false);
        Assert.Equal(["add", "now"], deltas.SelectMany(delta => delta.ToolCalls).Select(call => call.Name));
        Assert.Equal(2, deltas.SelectMany(delta => delta.ToolCalls).Select(call => call.Id).Distinct().Count());
        Assert.Equal(deltas.SelectMany(delta => delta.ToolCalls).Select(call => call.Id), reply.Message().ToolCalls.Select(call => call.Id));
        Assert.Equal("", reply.Message().Text);
        Assert.Null(reply.Message().ReasoningContent);
    }

    [Fact]
    public void ACallThatTheLimitCutIsNotHandedOut()
    {
        List<GeneratedToken> tokens = Tokens("Sure.\n<tool_call>\n<function=add>\n<parameter=a>\n2");
        (List<ChatDelta> deltas, ReplyBuilder reply) = Build(tokens, thinks: false, isCut: true);
        Assert.Empty(deltas.SelectMany(delta => delta.ToolCalls));
        Assert.Empty(reply.Message().ToolCalls);
        Assert.Equal("Sure.", reply.Message().Text.Trim());
        Assert.True(reply.HasCalls);
    }

    [Fact]
    public void ThinkingThatTheModelOpensItselfIsCounted()
    {
        (List<ChatDelta> deltas, ReplyBuilder reply) = Build(Tokens("<think>\nHm, well\n</think>\n\nYes"), thinks: false);
        Assert.Equal(("Hm, well", "Yes"), (string.Concat(deltas.Select(delta => delta.Reasoning)).Trim(), reply.Message().Text.Trim()));
        Assert.Equal(Tokens("<think>\nHm, well\n").Count, reply.ReasoningTokenCount);
    }

    [Fact]
    public void ACallRightBehindTheThinkingIsNotThinking()
    {
        (List<ChatDelta> deltas, ReplyBuilder reply) = Build(Tokens("I need the time.\n</think>\n\n<tool_call>\n<function=now>\n</function>\n</tool_call>"), thinks: true);
        Assert.Single(deltas.SelectMany(delta => delta.ToolCalls));
        Assert.Equal(Tokens("I need the time.\n").Count, reply.ReasoningTokenCount);
    }
}
