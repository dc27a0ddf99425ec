using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Server.Tests;

// /v1/messages and its count on a model that says what its script says.
public sealed class MessagesTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Path = "/v1/messages";

    private static readonly object s_thinking = new
    {
        model = "any",
        max_tokens = 100,
        temperature = 0,
        thinking = new { type = "enabled", budget_tokens = 50 },
        system = new object[] { new { type = "text", text = "Be brief.", cache_control = new { type = "ephemeral" } } },
        messages = new[] { new { role = "user", content = "What is 20 and 22?" } },
        tools = new[] { new { name = "add", description = "Adds", input_schema = TestServer.Parse(ScriptedModel.ToolJson) } },
    };

    private static readonly object s_plain = new { max_tokens = 100, temperature = 0, messages = new[] { new { role = "user", content = "Hi" } } };

    private Task<TestServer> Start(ServerOptions? options = null) => TestServer.StartAsync(model.Load(), options);

    [Fact]
    public async Task AWholeReplyIsBlocksInTheirOrder()
    {
        await using TestServer server = await Start();
        JsonElement reply = await server.Post(Path, s_thinking);
        Assert.StartsWith("msg_", reply.GetProperty("id").GetString(), StringComparison.Ordinal);
        Assert.Equal(("message", "assistant", "tiny", "tool_use"), (reply.GetProperty("type").GetString(), reply.GetProperty("role").GetString(), reply.GetProperty("model").GetString(), reply.GetProperty("stop_reason").GetString()));
        JsonElement[] blocks = [.. reply.GetProperty("content").EnumerateArray()];
        Assert.Equal(["thinking", "text", "tool_use"], blocks.Select(block => block.GetProperty("type").GetString()));
        Assert.Equal(ScriptedModel.Thought, blocks[0].GetProperty("thinking").GetString()!.Trim());
        Assert.NotEmpty(blocks[0].GetProperty("signature").GetString()!);
        Assert.Equal(ScriptedModel.Answer, blocks[1].GetProperty("text").GetString()!.Trim());
        Assert.StartsWith("toolu_", blocks[2].GetProperty("id").GetString(), StringComparison.Ordinal);
        Assert.Equal(("add", ScriptedModel.Arguments), (blocks[2].GetProperty("name").GetString(), blocks[2].GetProperty("input").GetRawText()));
        int promptCount = (await server.Post(Path + "/count_tokens", s_thinking)).GetProperty("input_tokens").GetInt32();
        JsonElement usage = reply.GetProperty("usage");
        Assert.Equal((promptCount, 0, ScriptedModel.ThinkingScript.Length + 1), (usage.GetProperty("input_tokens").GetInt32(), usage.GetProperty("cache_read_input_tokens").GetInt32(), usage.GetProperty("output_tokens").GetInt32()));
    }

    [Fact]
    public async Task AStreamOpensContinuesAndClosesEachBlock()
    {
        await using TestServer server = await Start();
        JsonElement whole = await server.Post(Path, s_thinking);
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(s_thinking, ("stream", true)));
        Assert.All(events, e => Assert.Equal(e.Name, e.Json.GetProperty("type").GetString()));
        Assert.Equal(("message_start", "message_delta", "message_stop"), (events[0].Name, events[^2].Name, events[^1].Name));
        Assert.Equal(whole.GetProperty("usage").GetProperty("input_tokens").GetInt32(), events[0].Json.GetProperty("message").GetProperty("usage").GetProperty("input_tokens").GetInt32());
        Assert.Equal(0, events[0].Json.GetProperty("message").GetProperty("content").GetArrayLength());
        Assert.Equal("tool_use", events[^2].Json.GetProperty("delta").GetProperty("stop_reason").GetString());
        Assert.Equal(whole.GetProperty("usage").GetProperty("output_tokens").GetInt32(), events[^2].Json.GetProperty("usage").GetProperty("output_tokens").GetInt32());
        List<JsonObject> blocks = PutTogether(events);
        JsonElement[] expected = [.. whole.GetProperty("content").EnumerateArray()];
        Assert.Equal(expected.Length, blocks.Count);
        for (int i = 0; i < blocks.Count; i++)
        {
            foreach (string name in (string[])["type", "thinking", "text", "name", "input"])
                Assert.Equal(expected[i].TryGetProperty(name, out JsonElement field) ? field.GetRawText() : null, blocks[i][name]?.ToJsonString(s_relaxed));
            Assert.Equal(i == 0, blocks[i].ContainsKey("signature") && blocks[i]["signature"]!.GetValue<string>().Length > 0);
        }
    }

    private static readonly JsonSerializerOptions s_relaxed = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    [Fact]
    public async Task WithoutThinkingNothingIsThought()
    {
        await using TestServer server = await Start();
        foreach (object body in (object[])[s_plain, TestServer.With(s_plain, ("thinking", new { type = "disabled" }))])
        {
            JsonElement reply = await server.Post(Path, body);
            JsonElement block = Assert.Single(reply.GetProperty("content").EnumerateArray());
            Assert.Equal(("text", ScriptedModel.PlainAnswer, "end_turn"), (block.GetProperty("type").GetString(), block.GetProperty("text").GetString(), reply.GetProperty("stop_reason").GetString()));
            Assert.Equal(JsonValueKind.Null, reply.GetProperty("stop_sequence").ValueKind);
        }
    }

    [Fact]
    public async Task ABudgetClosesTheThinking()
    {
        await using TestServer server = await Start();
        JsonElement reply = await server.Post(Path, TestServer.With(s_thinking, ("thinking", new { type = "enabled", budget_tokens = 2 }), ("max_tokens", 400)));
        string thought = reply.GetProperty("content")[0].GetProperty("thinking").GetString()!;
        Assert.StartsWith("They want a sum; ", thought, StringComparison.Ordinal);
        Assert.DoesNotContain("the tool adds.", thought, StringComparison.Ordinal);
        Assert.Contains("I will answer now", thought, StringComparison.Ordinal);
    }

    [Fact]
    public async Task EachEndHasItsReason()
    {
        await using TestServer server = await Start();
        JsonElement cut = await server.Post(Path, TestServer.With(s_plain, ("max_tokens", 2)));
        Assert.Equal(("max_tokens", "Hello, dear"), (cut.GetProperty("stop_reason").GetString(), cut.GetProperty("content")[0].GetProperty("text").GetString()));
        JsonElement stopped = await server.Post(Path, TestServer.With(s_plain, ("stop_sequences", new[] { "never", "wör" })));
        Assert.Equal(("stop_sequence", "wör", "Hello, dear"), (stopped.GetProperty("stop_reason").GetString(), stopped.GetProperty("stop_sequence").GetString(), stopped.GetProperty("content")[0].GetProperty("text").GetString()));
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(s_plain, ("stop_sequences", new[] { "wör" }), ("stream", true)));
        Assert.Equal("wör", events[^2].Json.GetProperty("delta").GetProperty("stop_sequence").GetString());
        JsonElement call = await server.Post(Path, TestServer.With(s_thinking, ("max_tokens", 11), ("thinking", new { type = "adaptive" })));
        Assert.Equal("max_tokens", call.GetProperty("stop_reason").GetString());
        Assert.Equal("""{"a":20,"note":"say \"hi\""}""", call.GetProperty("content")[2].GetProperty("input").GetRawText());
    }

    [Fact]
    public async Task BlocksBecomeThePromptTheTemplateMakes()
    {
        await using TestServer server = await Start();
        object anthropic = new
        {
            max_tokens = 1,
            temperature = 0,
            thinking = new { type = "adaptive" },
            system = "Be brief.",
            messages = new object[]
            {
                new { role = "user", content = new object[] { new { type = "text", text = "What is " }, new { type = "text", text = "it?" } } },
                new { role = "assistant", content = new object[] { new { type = "thinking", thinking = "Add.", signature = "s" }, new { type = "text", text = "Well." }, new { type = "tool_use", id = "t1", name = "add", input = new { a = 20 } } } },
                new { role = "user", content = new object[] { new { type = "tool_result", tool_use_id = "t1", content = new[] { new { type = "text", text = "42" } } }, new { type = "text", text = "So?" } } },
            },
        };
        object openAi = new
        {
            messages = new object[]
            {
                new { role = "system", content = "Be brief." },
                new { role = "user", content = "What is it?" },
                new { role = "assistant", content = "Well.", reasoning_content = "Add.", tool_calls = new[] { new { id = "t1", type = "function", function = new { name = "add", arguments = """{"a":20}""" } } } },
                new { role = "tool", tool_call_id = "t1", content = "42" },
                new { role = "user", content = "So?" },
            },
        };
        int expected = (await server.Post("/tokenize", openAi)).GetProperty("count").GetInt32();
        Assert.Equal(expected, (await server.Post(Path + "/count_tokens", anthropic)).GetProperty("input_tokens").GetInt32());
        Assert.Equal(expected, (await server.Post(Path, anthropic)).GetProperty("usage").GetProperty("input_tokens").GetInt32());
    }

    [Theory]
    [InlineData("max_tokens", """{"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("max_tokens", """{"max_tokens":"5","messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("max_tokens", """{"max_tokens":5,"thinking":{"type":"enabled","budget_tokens":5},"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("thinking.budget_tokens", """{"max_tokens":5,"thinking":{"type":"enabled"},"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("thinking.type", """{"max_tokens":5,"thinking":{"type":"hard"},"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("messages", """{"max_tokens":5}""")]
    [InlineData("messages", """{"max_tokens":5,"messages":[]}""")]
    [InlineData("messages", """{"max_tokens":5,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"The answer is"}]}""")]
    [InlineData("messages.0.role", """{"max_tokens":5,"messages":[{"role":"tool","content":"hi"}]}""")]
    [InlineData("messages.0.content", """{"max_tokens":5,"messages":[{"role":"user"}]}""")]
    [InlineData("messages.0.content.0.type", """{"max_tokens":5,"messages":[{"role":"user","content":[{"text":"hi"}]}]}""")]
    [InlineData("messages.0.content.0.type", """{"max_tokens":5,"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":""}}]}]}""")]
    [InlineData("messages.0.content.0.tool_use_id", """{"max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_result"}]}]}""")]
    [InlineData("messages.1.content.0.input", """{"max_tokens":5,"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"b"}]}]}""")]
    [InlineData("system.0.text", """{"max_tokens":5,"system":[{"type":"text"}],"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("tools.0.input_schema", """{"max_tokens":5,"tools":[{"name":"a"}],"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("tools.0.type", """{"max_tokens":5,"tools":[{"type":"web_search_20250305","name":"a"}],"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("tool_choice", """{"max_tokens":5,"tool_choice":{"type":"any"},"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("tool_choice.name", """{"max_tokens":5,"tool_choice":{"type":"tool"},"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("tool_choice.type", """{"max_tokens":5,"tool_choice":{"type":"perhaps"},"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("stop_sequences.0", """{"max_tokens":5,"stop_sequences":[""],"messages":[{"role":"user","content":"hi"}]}""")]
    [InlineData("top_k", """{"max_tokens":5,"top_k":-1,"messages":[{"role":"user","content":"hi"}]}""")]
    public async Task ABadRequestNamesItsParameter(string parameter, string body)
    {
        await using TestServer server = await Start();
        (int status, JsonElement json) = await server.PostAny(Path, body);
        Assert.Equal((400, "error"), (status, json.GetProperty("type").GetString()));
        JsonElement error = json.GetProperty("error");
        Assert.Equal("invalid_request_error", error.GetProperty("type").GetString());
        Assert.StartsWith(parameter + ": ", error.GetProperty("message").GetString(), StringComparison.Ordinal);
    }

    // Blocks as a client collects them, with the order of events checked on the way.
    private static List<JsonObject> PutTogether(List<StreamEvent> events)
    {
        var blocks = new List<JsonObject>();
        bool isOpen = false;
        string input = "";
        foreach (JsonElement json in events.Select(e => e.Json))
        {
            switch (json.GetProperty("type").GetString())
            {
                case "content_block_start":
                    Assert.False(isOpen);
                    isOpen = true;
                    input = "";
                    Assert.Equal(blocks.Count, json.GetProperty("index").GetInt32());
                    blocks.Add(JsonObject.Create(json.GetProperty("content_block"))!);
                    break;
                case "content_block_delta":
                    Assert.True(isOpen);
                    Assert.Equal(blocks.Count - 1, json.GetProperty("index").GetInt32());
                    JsonElement delta = json.GetProperty("delta");
                    string type = delta.GetProperty("type").GetString()!;
                    string field = type switch { "thinking_delta" => "thinking", "text_delta" => "text", "signature_delta" => "signature", _ => "partial_json" };
                    string text = delta.GetProperty(field).GetString()!;
                    if (field == "partial_json")
                        input += text;
                    else
                        blocks[^1][field] = blocks[^1][field]!.GetValue<string>() + text;
                    break;
                case "content_block_stop":
                    Assert.True(isOpen);
                    isOpen = false;
                    if (input.Length > 0)
                        blocks[^1]["input"] = JsonNode.Parse(input);
                    break;
            }
        }

        Assert.False(isOpen);
        return blocks;
    }
}
