using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference;

namespace Qian.Server.Tests;

// Conversations whose whole history comes with every request: what was read or written once is not read again, in either
// dialect, with thinking and tools, through a restart.
public sealed class PrefixTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Chat = "/v1/chat/completions";

    private static readonly EngineOptions s_options = new() { PrefixCacheBytes = 64 << 20 };
    private static readonly JsonNode s_schema = JsonNode.Parse(ScriptedModel.ToolJson)!;

    private static int Count(JsonElement usage, string name) => usage.GetProperty(name).GetInt32();

    private static JsonObject ChatBody(JsonArray messages, bool withTools) => new()
    {
        ["messages"] = messages.DeepClone(),
        ["temperature"] = 0,
        ["tools"] = withTools ? new JsonArray(new JsonObject { ["type"] = "function", ["function"] = new JsonObject { ["name"] = "add", ["parameters"] = s_schema.DeepClone() } }) : null,
        ["chat_template_kwargs"] = new JsonObject { ["enable_thinking"] = withTools, ["preserve_thinking"] = true },
    };

    // A turn of OpenAI's dialect; the reply joins the messages as a client would send it back. Returns the usage.
    private static async Task<(int Prompt, int Cached, int Output)> Turn(TestServer server, JsonArray messages, bool withTools)
    {
        JsonElement reply = await server.Post(Chat, ChatBody(messages, withTools));
        JsonElement message = reply.GetProperty("choices")[0].GetProperty("message"), usage = reply.GetProperty("usage");
        string content = (message.GetProperty("content").GetString() ?? "").Trim();
        var echo = new JsonObject { ["role"] = "assistant", ["content"] = content };
        if (withTools)
        {
            Assert.Equal(ScriptedModel.Answer, content);
            JsonElement call = message.GetProperty("tool_calls")[0];
            // Another order and other blanks than the model's; the thinking is lost.
            echo["tool_calls"] = new JsonArray(new JsonObject
            {
                ["id"] = call.GetProperty("id").GetString(),
                ["type"] = "function",
                ["function"] = new JsonObject { ["name"] = "add", ["arguments"] = "{ \"note\": \"say \\u0022hi\\u0022 <b>\",\n \"a\": 20.0 }" },
            });
        }

        messages.Add(echo);
        return (Count(usage, "prompt_tokens"), Count(usage.GetProperty("prompt_tokens_details"), "cached_tokens"), Count(usage, "completion_tokens"));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AChatReadsOnlyWhatIsNew(bool withTools)
    {
        await using TestServer server = await TestServer.StartAsync(model.Load(s_options));
        var messages = new JsonArray(new JsonObject { ["role"] = "system", ["content"] = string.Concat(Enumerable.Repeat("Be careful. ", 40)) }, new JsonObject { ["role"] = "user", ["content"] = "What is 20 and 22?" });
        int known = 0;
        for (int turn = 0; turn < 5; turn++)
        {
            (int prompt, int cached, int output) = await Turn(server, messages, withTools);
            Assert.Equal(known, cached);
            known = prompt + output - 1;
            messages.Add(withTools ? new JsonObject { ["role"] = "tool", ["tool_call_id"] = "call", ["content"] = $"{turn}" } : new JsonObject { ["role"] = "user", ["content"] = $"And {turn}?" });
        }

        string metrics = await server.Client.GetStringAsync("/metrics");
        Assert.Contains("qian_prefix_uses_total{reason=\"none\"} 4\n", metrics, StringComparison.Ordinal);
        Assert.Contains("qian_prefix_uses_total{reason=\"unknown\"} 1\n", metrics, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task MessagesReadOnlyWhatIsNew(bool streams)
    {
        await using TestServer server = await TestServer.StartAsync(model.Load(s_options));
        var messages = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = string.Concat(Enumerable.Repeat("A long question. ", 40)) });
        int known = 0;
        for (int turn = 0; turn < 4; turn++)
        {
            var body = new JsonObject
            {
                ["max_tokens"] = 100,
                ["temperature"] = 0,
                ["stream"] = streams && turn % 2 == 1,
                ["thinking"] = new JsonObject { ["type"] = "enabled", ["budget_tokens"] = 50 },
                ["system"] = "Be brief.",
                ["messages"] = messages.DeepClone(),
                ["tools"] = new JsonArray(new JsonObject { ["name"] = "add", ["input_schema"] = s_schema.DeepClone() }),
            };
            JsonElement usage;
            int output;
            if (streams && turn % 2 == 1)
            {
                List<StreamEvent> events = await server.Stream("/v1/messages", body);
                usage = events[0].Json.GetProperty("message").GetProperty("usage");
                output = Count(events[^2].Json.GetProperty("usage"), "output_tokens");
            }
            else
            {
                usage = (await server.Post("/v1/messages", body)).GetProperty("usage");
                output = Count(usage, "output_tokens");
            }

            int cached = Count(usage, "cache_read_input_tokens");
            Assert.Equal(known, cached);
            known = cached + Count(usage, "input_tokens") + output - 1;
            // Every other time the thinking comes back.
            var blocks = new JsonArray();
            if (turn % 2 == 0)
                blocks.Add(new JsonObject { ["type"] = "thinking", ["thinking"] = ScriptedModel.Thought, ["signature"] = "x" });
            blocks.Add(new JsonObject { ["type"] = "text", ["text"] = ScriptedModel.Answer });
            blocks.Add(new JsonObject { ["type"] = "tool_use", ["id"] = "t", ["name"] = "add", ["input"] = JsonNode.Parse(ScriptedModel.Arguments) });
            messages.Add(new JsonObject { ["role"] = "assistant", ["content"] = blocks });
            messages.Add(new JsonObject { ["role"] = "user", ["content"] = new JsonArray(new JsonObject { ["type"] = "tool_result", ["tool_use_id"] = "t", ["content"] = $"{turn}" }) });
        }
    }

    [Fact]
    public async Task ARestartedServerKnowsTheConversation()
    {
        string folder = Directory.CreateTempSubdirectory("qian-prefix-").FullName;
        try
        {
            var messages = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = string.Concat(Enumerable.Repeat("What is 20 and 22? ", 30)) });
            int known = 0;
            for (int turn = 0; turn < 3; turn++)
            {
                await using TestServer server = await TestServer.StartAsync(model.Load(s_options with { PrefixDirectory = folder }));
                (int prompt, int cached, int output) = await Turn(server, messages, withTools: true);
                Assert.Equal(known, cached);
                known = prompt + output - 1;
                messages.Add(new JsonObject { ["role"] = "tool", ["tool_call_id"] = "call", ["content"] = $"{turn}" });
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    // Templates take what stands before the quote for thinking, unless they are told that there was none.
    [Fact]
    public async Task AnAnswerThatQuotesTheEndOfThinkingIsKnownAgain()
    {
        using var quoting = new ScriptedModel(["unused"], ["Thoughts end", " with `</thi", "nk>` and", " answers begin."]);
        await using TestServer server = await TestServer.StartAsync(quoting.Load(s_options));
        var messages = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = string.Concat(Enumerable.Repeat("How? ", 30)) });
        int known = 0;
        for (int turn = 0; turn < 3; turn++)
        {
            (int prompt, int cached, int output) = await Turn(server, messages, withTools: false);
            Assert.Equal("Thoughts end with `</think>` and answers begin.", (string?)messages[^1]!["content"]);
            Assert.Equal(known, cached);
            known = prompt + output - 1;
            messages.Add(new JsonObject { ["role"] = "user", ["content"] = $"And {turn}?" });
        }
    }

    [Fact]
    public async Task AHeaderThatChangesIsNamedInTheLog()
    {
        using var text = new StringWriter();
        using TextWriter log = TextWriter.Synchronized(text);
        await using TestServer server = await TestServer.StartAsync(model.Load(s_options), new ServerOptions { PrefixLog = log });
        foreach (string build in (string[])["a1b", "c2d"])
        {
            var messages = new JsonArray(new JsonObject { ["role"] = "system", ["content"] = $"x-anthropic-billing-header: cch={build}; \nA secret. " + string.Concat(Enumerable.Repeat("Be careful. ", 40)) }, new JsonObject { ["role"] = "user", ["content"] = "Hi" });
            JsonElement usage = (await server.Post(Chat, ChatBody(messages, withTools: false))).GetProperty("usage");
            JsonElement miss = usage.GetProperty("cache_miss_details");
            Assert.Equal(build == "a1b" ? ("unknown", null) : ("diverged", "x-anthropic-billing-header"), (miss.GetProperty("reason").GetString(), miss.TryGetProperty("volatile_line", out JsonElement changing) ? changing.GetString() : null));
            Assert.Equal(build != "a1b", miss.GetProperty("token_index").GetInt32() > 0);
            Assert.DoesNotContain("secret", usage.GetRawText(), StringComparison.Ordinal);
        }

        // A session is closed before its reply ends.
        string line = Assert.Single(text.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains("differs from what is known at token ", line, StringComparison.Ordinal);
        Assert.Contains("'x-anthropic-billing-header'", line, StringComparison.Ordinal);
        Assert.DoesNotContain("secret", line, StringComparison.Ordinal);
    }
}
