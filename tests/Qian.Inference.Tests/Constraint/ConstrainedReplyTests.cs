using System.Text.Json;
using Microsoft.Extensions.AI;
using Qian.Inference.Chat;

namespace Qian.Inference.Tests.Constraint;

// Replies of a real model at a temperature where every token is about as likely: whatever ends has the form that was asked for, with and without
// drafts, with and without thinking.
public sealed class ConstrainedReplyTests(NanoModel model) : IClassFixture<NanoModel>
{
    private const string Tools = """
        [{"type":"function","function":{"name":"set_light","parameters":{"type":"object","properties":{"room":{"type":"string","enum":["kitchen","hall"]},"level":{"type":"integer","minimum":0,"maximum":100},"on":{"type":"boolean"},"extra":{"type":"object","properties":{"x":{"type":"number","minimum":0,"maximum":1}},"required":["x"]}},"required":["room","level"]}}},
         {"type":"function","function":{"name":"stop_all","parameters":{"type":"object","properties":{}}}}]
        """;

    private static readonly SamplingOptions s_random = new() { Temperature = 100, TopK = 0, TopP = 1, MinP = 0, PresencePenalty = 0, MaxTokens = 300 };

    public static TheoryData<string> Schemas { get; } = new(
        """{"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer","minimum":0,"maximum":130},"tags":{"type":"array","items":{"enum":["a","b","c"]},"maxItems":3}},"required":["name","age","tags"],"additionalProperties":false}""",
        """{"type":"array","items":{"anyOf":[{"type":"null"},{"type":"string","format":"date"},{"type":"number","multipleOf":0.5}]},"minItems":2,"maxItems":4}""",
        """{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"v":{"type":"boolean"},"kids":{"type":"array","items":{"$ref":"#/$defs/tree"},"maxItems":2}},"required":["v","kids"],"additionalProperties":false}}}""");

    [Theory]
    [MemberData(nameof(Schemas))]
    public async Task RandomRepliesFulfilTheSchema(string schema)
    {
        using JsonDocument parsed = JsonDocument.Parse(schema);
        int whole = 0;
        for (ulong seed = 0; seed < 6; seed++)
        {
            using var chat = new ChatSession(model.Engine, new ChatSettings { Think = seed % 3 == 2 });
            SamplingOptions options = s_random with { Seed = seed, Constraint = OutputConstraint.JsonSchema(schema), ThinkingBudget = seed % 3 == 2 ? 4 : null };
            (string text, FinishReason? finish, _, int[] tokens) = await Reply(chat, options with { DraftTokens = 3 });
            using var plain = new ChatSession(model.Engine, chat.Settings);
            Assert.Equal((await Reply(plain, options with { DraftTokens = 0 })).Tokens, tokens);
            Assert.All(tokens, id => Assert.True(model.Engine.Tokenizer.IsDefined(id)));
            if (finish != FinishReason.Stop)
                continue;
            whole++;
            using JsonDocument value = JsonDocument.Parse(text);
            Assert.True(SchemaCheck.Fulfils(value.RootElement, parsed.RootElement, parsed.RootElement), text);
        }

        Assert.InRange(whole, 3, 6);
    }

    [Theory]
    [InlineData(null, false)]
    [InlineData(null, true)]
    [InlineData("set_light", false)]
    public async Task RequiredCallsComeAndFit(string? tool, bool think)
    {
        using JsonDocument json = JsonDocument.Parse(Tools);
        IReadOnlyList<ToolDefinition> tools = MessageJson.ReadTools(json.RootElement)!;
        int whole = 0;
        for (ulong seed = 0; seed < 5; seed++)
        {
            bool several = seed % 2 == 0;
            using var chat = new ChatSession(model.Engine, new ChatSettings { Think = think, Tools = tools, RequireToolCall = true, RequiredTool = tool, ParallelToolCalls = several });
            (string text, FinishReason? finish, List<ToolCall> calls, _) = await Reply(chat, s_random with { Seed = seed, ThinkingBudget = think ? 3 : null });
            if (finish != FinishReason.Stop)
                continue;
            whole++;
            Assert.Equal("", text);
            Assert.InRange(calls.Count, 1, several ? 100 : 1);
            foreach (ToolCall call in calls)
            {
                ToolDefinition called = tools.Single(known => known.Name == call.Name);
                Assert.True(tool is null || call.Name == tool);
                Assert.True(SchemaCheck.Fulfils(call.Arguments, called.Parameters, called.Parameters), call.Arguments.GetRawText());
            }
        }

        Assert.InRange(whole, 3, 5);
    }

    // Left to itself the reply is free; what begins as a call must become one.
    [Fact]
    public async Task CallsByChoiceAreWhole()
    {
        using JsonDocument json = JsonDocument.Parse(Tools);
        using var chat = new ChatSession(model.Engine, new ChatSettings { Think = false, Tools = MessageJson.ReadTools(json.RootElement)! });
        Assert.True(model.Engine.Tokenizer.TryGetId("<tool_call>", out int opener));
        SamplingOptions options = s_random with { LogitBias = new Dictionary<int, float> { [opener] = 5000 }, Seed = 4 };
        (_, FinishReason? finish, List<ToolCall> calls, _) = await Reply(chat, options);
        Assert.Equal(FinishReason.Stop, finish);
        Assert.NotEmpty(calls);
        Assert.All(calls, call => Assert.Contains(call.Name, (string[])["set_light", "stop_all"]));
    }

    [Fact]
    public async Task ASchemaAndToolsMakeOneOrTheOther()
    {
        using JsonDocument json = JsonDocument.Parse(Tools);
        int callCount = 0, textCount = 0;
        for (ulong seed = 0; seed < 12 && (callCount == 0 || textCount == 0); seed++)
        {
            using var chat = new ChatSession(model.Engine, new ChatSettings { Think = false, Tools = MessageJson.ReadTools(json.RootElement)! });
            SamplingOptions options = s_random with { Seed = seed, Constraint = OutputConstraint.JsonSchema("""{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}""") };
            (string text, FinishReason? finish, List<ToolCall> calls, _) = await Reply(chat, options);
            if (finish != FinishReason.Stop)
                continue;
            callCount += calls.Count > 0 ? 1 : 0;
            textCount += calls.Count > 0 ? 0 : 1;
            if (calls.Count == 0)
                Assert.Equal(JsonValueKind.Number, JsonDocument.Parse(text).RootElement.GetProperty("a").ValueKind);
            else
                Assert.Equal("", text);
        }

        Assert.True(callCount > 0 && textCount > 0, $"{callCount} calls, {textCount} texts");
    }

    [Fact]
    public async Task WithoutATokenForTheEndTheReplyEndsWhereNothingCanFollow()
    {
        using Session session = model.Engine.NewSession();
        session.Append("The answer is ");
        SamplingOptions options = s_random with { Constraint = OutputConstraint.Regex("[0-9]{3}-[0-9]{2}"), IgnoreEos = true };
        string text = "";
        FinishReason? finish = null;
        await foreach (GeneratedToken token in session.GenerateAsync(options))
        {
            text += token.Text;
            finish = token.Finish;
        }

        Assert.Matches("^[0-9]{3}-[0-9]{2}$", text);
        Assert.Equal(FinishReason.Stop, finish);
    }

    [Fact]
    public async Task TheClientInterfaceAsksForFormsAndCalls()
    {
        using var client = new QianChatClient(model.Engine);
        var options = new ChatOptions
        {
            Temperature = 100,
            TopK = 0,
            TopP = 1,
            MaxOutputTokens = 300,
            Seed = 3,
            Reasoning = new ReasoningOptions { Effort = ReasoningEffort.None },
            ResponseFormat = ChatResponseFormat.ForJsonSchema(JsonDocument.Parse("""{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}""").RootElement),
        };
        ChatResponse reply = await client.GetResponseAsync("Is it?", options);
        Assert.Contains(JsonDocument.Parse(reply.Text).RootElement.GetProperty("ok").ValueKind, (JsonValueKind[])[JsonValueKind.True, JsonValueKind.False]);

        options.ResponseFormat = null;
        options.Tools = [AIFunctionFactory.Create((bool on) => on, "switch"), AIFunctionFactory.Create((int n) => n, "count")];
        options.ToolMode = ChatToolMode.RequireSpecific("switch");
        options.AllowMultipleToolCalls = false;
        reply = await client.GetResponseAsync("Do it.", options);
        FunctionCallContent call = Assert.Single(reply.Messages.SelectMany(message => message.Contents).OfType<FunctionCallContent>());
        Assert.Equal("switch", call.Name);
        Assert.Contains(((JsonElement)call.Arguments!["on"]!).ValueKind, (JsonValueKind[])[JsonValueKind.True, JsonValueKind.False]);

        options.ToolMode = ChatToolMode.RequireSpecific("nothing");
        await Assert.ThrowsAsync<BadRequestException>(() => client.GetResponseAsync("Do it.", options));
    }

    private static async Task<(string Text, FinishReason? Finish, List<ToolCall> Calls, int[] Tokens)> Reply(ChatSession chat, SamplingOptions options)
    {
        string text = "";
        FinishReason? finish = null;
        ChatUsage? usage = null;
        var calls = new List<ToolCall>();
        await foreach (ChatDelta delta in chat.SendAsync("Say something.", options))
        {
            text += delta.Text;
            finish = delta.Finish;
            usage = delta.Usage;
            calls.AddRange(delta.ToolCalls);
        }

        return (text, finish, calls, [.. chat.Tokens.Skip(usage!.PromptTokens)]);
    }
}
