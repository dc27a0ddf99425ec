using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Server.Tests;

// /v1/chat/completions on a model that says what its script says.
public sealed class ChatCompletionTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Path = "/v1/chat/completions";

    private static readonly object s_thinking = new
    {
        model = "any",
        temperature = 0,
        // How many are tried depends on measured times.
        drafts = 0,
        messages = new[] { new { role = "user", content = "What is 20 and 22?" } },
        tools = new[] { new { type = "function", function = new { name = "add", description = "Adds", parameters = TestServer.Parse(ScriptedModel.ToolJson) } } },
    };

    private static readonly object s_plain = new { temperature = 0, drafts = 0, reasoning_effort = "none", messages = new[] { new { role = "user", content = "Hi" } } };

    private Task<TestServer> Start(ServerOptions? options = null) => TestServer.StartAsync(model.Load(), options);

    [Fact]
    public async Task AWholeReplyHasReasoningTextCallsAndUsage()
    {
        await using TestServer server = await Start();
        JsonElement reply = await server.Post(Path, s_thinking);
        Assert.StartsWith("chatcmpl-", reply.GetProperty("id").GetString(), StringComparison.Ordinal);
        Assert.Equal(("chat.completion", "tiny"), (reply.GetProperty("object").GetString(), reply.GetProperty("model").GetString()));
        JsonElement choice = Assert.Single(reply.GetProperty("choices").EnumerateArray());
        JsonElement message = choice.GetProperty("message");
        Assert.Equal(("tool_calls", 0, "assistant"), (choice.GetProperty("finish_reason").GetString(), choice.GetProperty("index").GetInt32(), message.GetProperty("role").GetString()));
        Assert.Equal(ScriptedModel.Thought, message.GetProperty("reasoning_content").GetString()!.Trim());
        Assert.Equal(ScriptedModel.Answer, message.GetProperty("content").GetString()!.Trim());
        JsonElement call = Assert.Single(message.GetProperty("tool_calls").EnumerateArray());
        Assert.StartsWith("call_", call.GetProperty("id").GetString(), StringComparison.Ordinal);
        Assert.Equal(("function", "add", ScriptedModel.Arguments), (call.GetProperty("type").GetString(), call.GetProperty("function").GetProperty("name").GetString(), call.GetProperty("function").GetProperty("arguments").GetString()));
        JsonElement usage = reply.GetProperty("usage");
        Assert.Equal(ScriptedModel.ThinkingScript.Length + 1, usage.GetProperty("completion_tokens").GetInt32());
        Assert.Equal(4, usage.GetProperty("completion_tokens_details").GetProperty("reasoning_tokens").GetInt32());
        Assert.Equal(0, usage.GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32());
        int promptCount = (await server.Post("/tokenize", s_thinking)).GetProperty("count").GetInt32();
        Assert.Equal((promptCount, promptCount + ScriptedModel.ThinkingScript.Length + 1), (usage.GetProperty("prompt_tokens").GetInt32(), usage.GetProperty("total_tokens").GetInt32()));
    }

    [Fact]
    public async Task AStreamPutTogetherIsTheWholeReply()
    {
        await using TestServer server = await Start();
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(s_thinking, ("stream", true), ("stream_options", new { include_usage = true })));
        JsonElement whole = await server.Post(Path, s_thinking);
        Assert.Single(events.Select(e => e.Json.GetProperty("id").GetString()).Distinct());
        Assert.All(events, e => Assert.Equal("chat.completion.chunk", e.Json.GetProperty("object").GetString()));
        Assert.Empty(events[^1].Json.GetProperty("choices").EnumerateArray());
        Assert.Equal(whole.GetProperty("usage").GetRawText(), events[^1].Json.GetProperty("usage").GetRawText());
        Assert.All(events.SkipLast(1), e => Assert.Equal(JsonValueKind.Null, e.Json.GetProperty("usage").ValueKind));
        JsonElement[] choices = [.. events.SkipLast(1).Select(e => e.Json.GetProperty("choices")[0])];
        Assert.Equal("assistant", choices[0].GetProperty("delta").GetProperty("role").GetString());
        Assert.Equal("tool_calls", choices[^1].GetProperty("finish_reason").GetString());
        Assert.All(choices.SkipLast(1), choice => Assert.Equal(JsonValueKind.Null, choice.GetProperty("finish_reason").ValueKind));
        JsonElement message = whole.GetProperty("choices")[0].GetProperty("message");
        Assert.Equal(message.GetProperty("reasoning_content").GetString(), Join(choices, "reasoning_content"));
        Assert.Equal(message.GetProperty("content").GetString(), Join(choices, "content"));
        JsonElement[] calls = [.. choices.Select(choice => choice.GetProperty("delta")).Where(delta => delta.TryGetProperty("tool_calls", out _)).Select(delta => delta.GetProperty("tool_calls")[0])];
        Assert.Equal("add", calls[0].GetProperty("function").GetProperty("name").GetString());
        Assert.True(calls[0].TryGetProperty("id", out _));
        Assert.All(calls.Skip(1), call => Assert.False(call.TryGetProperty("id", out _)));
        Assert.True(calls.Length > 3, "arguments flow as they come");
        Assert.Equal(ScriptedModel.Arguments, string.Concat(calls.Select(call => call.GetProperty("function").GetProperty("arguments").GetString())));
    }

    [Fact]
    public async Task ThinkingIsSwitchedInEveryDialectInUse()
    {
        await using TestServer server = await Start();
        object ask = new { temperature = 0, max_tokens = 3, messages = new[] { new { role = "user", content = "Hi" } } };
        foreach ((string name, object? value, bool thinks) in ((string, object?, bool)[])
            [("user", "x", true), ("reasoning_effort", "none", false), ("reasoning_effort", "minimal", false), ("reasoning_effort", "high", true), ("chat_template_kwargs", new { enable_thinking = false }, false), ("enable_thinking", false, false), ("reasoning_effort", null, true)])
        {
            JsonElement message = (await server.Post(Path, TestServer.With(ask, (name, value)))).GetProperty("choices")[0].GetProperty("message");
            Assert.Equal(thinks, message.TryGetProperty("reasoning_content", out _));
            Assert.Equal(thinks ? "" : string.Concat(ScriptedModel.PlainScript[..3]), message.GetProperty("content").GetString());
        }
    }

    [Fact]
    public async Task LimitsAndStopsEndAReply()
    {
        await using TestServer server = await Start();
        JsonElement cut = (await server.Post(Path, TestServer.With(s_plain, ("max_completion_tokens", 2)))).GetProperty("choices")[0];
        Assert.Equal(("length", "Hello, dear"), (cut.GetProperty("finish_reason").GetString(), cut.GetProperty("message").GetProperty("content").GetString()));
        foreach (object stop in (object[])["wörld", new[] { "never", "wör" }])
        {
            JsonElement stopped = (await server.Post(Path, TestServer.With(s_plain, ("stop", stop)))).GetProperty("choices")[0];
            Assert.Equal(("stop", "Hello, dear"), (stopped.GetProperty("finish_reason").GetString(), stopped.GetProperty("message").GetProperty("content").GetString()));
        }
    }

    [Fact]
    public async Task ACallThatIsCutHasTheArgumentsSoFar()
    {
        await using TestServer server = await Start();
        JsonElement choice = (await server.Post(Path, TestServer.With(s_thinking, ("max_tokens", 11)))).GetProperty("choices")[0];
        Assert.Equal("length", choice.GetProperty("finish_reason").GetString());
        string arguments = choice.GetProperty("message").GetProperty("tool_calls")[0].GetProperty("function").GetProperty("arguments").GetString()!;
        Assert.StartsWith("""{"a":20,"note":"say \"hi""", arguments, StringComparison.Ordinal);
        Assert.StartsWith(arguments, ScriptedModel.Arguments, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ToolsThatMayNotBeCalledAreNotShown()
    {
        await using TestServer server = await Start();
        JsonElement reply = await server.Post(Path, TestServer.With(s_thinking, ("tool_choice", "none")));
        JsonElement message = reply.GetProperty("choices")[0].GetProperty("message");
        Assert.False(message.TryGetProperty("tool_calls", out _));
        JsonElement without = await server.Post(Path, TestServer.With(s_thinking, ("tools", null)));
        Assert.Equal(without.GetProperty("usage").GetRawText(), reply.GetProperty("usage").GetRawText());
        JsonElement with = await server.Post(Path, s_thinking);
        Assert.True(with.GetProperty("usage").GetProperty("prompt_tokens").GetInt32() > reply.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
    }

    [Fact]
    public async Task OneCallEndsAReplyThatMayHaveNoMore()
    {
        await using TestServer server = await Start();
        JsonElement reply = await server.Post(Path, TestServer.With(s_thinking, ("parallel_tool_calls", false)));
        Assert.Equal("tool_calls", reply.GetProperty("choices")[0].GetProperty("finish_reason").GetString());
        // The call is whole with its </function>: what the script has after it was never generated.
        Assert.Equal(ScriptedModel.ThinkingScript.Length - 1, reply.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
    }

    [Fact]
    public async Task SeveralChoicesComeTogether()
    {
        await using TestServer server = await Start(new ServerOptions { ParallelCount = 2 });
        JsonElement reply = await server.Post(Path, TestServer.With(s_plain, ("n", 5)));
        JsonElement[] choices = [.. reply.GetProperty("choices").EnumerateArray()];
        Assert.Equal([0, 1, 2, 3, 4], choices.Select(choice => choice.GetProperty("index").GetInt32()));
        Assert.All(choices, choice => Assert.Equal(ScriptedModel.PlainAnswer, choice.GetProperty("message").GetProperty("content").GetString()));
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(s_plain, ("n", 3), ("stream", true)));
        foreach (int index in (int[])[0, 1, 2])
        {
            JsonElement[] own = [.. events.Select(e => e.Json.GetProperty("choices")[0]).Where(choice => choice.GetProperty("index").GetInt32() == index)];
            Assert.Equal(ScriptedModel.PlainAnswer, Join(own, "content"));
            Assert.Single(own, choice => choice.GetProperty("finish_reason").ValueKind == JsonValueKind.String);
        }
    }

    [Fact]
    public async Task LogProbabilitiesAreThoseOfTheAnswer()
    {
        await using TestServer server = await Start();
        JsonElement choice = (await server.Post(Path, TestServer.With(s_plain, ("logprobs", true), ("top_logprobs", 3)))).GetProperty("choices")[0];
        JsonElement[] tokens = [.. choice.GetProperty("logprobs").GetProperty("content").EnumerateArray()];
        Assert.Equal(ScriptedModel.PlainScript, tokens.Select(token => token.GetProperty("token").GetString()));
        Assert.All(tokens, token => Assert.Equal(3, token.GetProperty("top_logprobs").GetArrayLength()));
        Assert.All(tokens, token => Assert.Equal(token.GetProperty("token").GetString(), token.GetProperty("top_logprobs")[0].GetProperty("token").GetString()));
        Assert.All(tokens, token => Assert.InRange(token.GetProperty("logprob").GetDouble(), -0.01, 0));
        Assert.Equal("Hello"u8.ToArray(), tokens[0].GetProperty("bytes").EnumerateArray().Select(value => value.GetByte()));
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(s_plain, ("logprobs", true), ("top_logprobs", 3), ("stream", true)));
        JsonElement[] streamed = [.. events.Select(e => e.Json.GetProperty("choices")[0].GetProperty("logprobs")).Where(part => part.ValueKind == JsonValueKind.Object).SelectMany(part => part.GetProperty("content").EnumerateArray())];
        Assert.Equal(tokens.Select(token => token.GetRawText()), streamed.Select(token => token.GetRawText()));
        JsonElement thinking = (await server.Post(Path, TestServer.With(s_thinking, ("logprobs", true)))).GetProperty("choices")[0];
        Assert.Equal("Let me ", thinking.GetProperty("logprobs").GetProperty("content")[0].GetProperty("token").GetString());
    }

    [Fact]
    public async Task ABiasDecidesTheNextToken()
    {
        await using TestServer server = await Start();
        int bye = (await server.Post("/tokenize", new { content = " Bye", parse_special = true })).GetProperty("tokens")[0].GetInt32();
        JsonElement reply = await server.Post(Path, TestServer.With(s_plain, ("max_tokens", 2), ("logit_bias", new JsonObject { [$"{bye}"] = 100 })));
        // The script's own logit is near 128 and wins; with it banned, the biased one does.
        Assert.Equal("Hello, dear", reply.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString());
        int hello = (await server.Post("/tokenize", new { content = "Hello", parse_special = true })).GetProperty("tokens")[0].GetInt32();
        reply = await server.Post(Path, TestServer.With(s_plain, ("max_tokens", 1), ("logit_bias", new JsonObject { [$"{bye}"] = 100, [$"{hello}"] = -100 })));
        Assert.Equal("Bye", reply.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString());
    }

    [Fact]
    public async Task AHistoryOfCallsAndResultsIsRead()
    {
        await using TestServer server = await Start();
        object body = new
        {
            temperature = 0,
            messages = new object[]
            {
                new { role = "developer", content = "Be brief." },
                new { role = "user", content = new object[] { new { type = "text", text = "What is " }, new { type = "text", text = "20 and 22?" } } },
                new { role = "assistant", content = (string?)null, reasoning_content = "Add.", tool_calls = new[] { new { id = "call_1", type = "function", function = new { name = "add", arguments = """{"a":20}""" } } } },
                new { role = "tool", tool_call_id = "call_1", content = "42" },
            },
        };
        Assert.Equal(200, (await server.PostAny(Path, body)).Status);
        string prompt = (await server.Post("/apply-template", body)).GetProperty("prompt").GetString()!;
        foreach (string part in (string[])["Be brief.", "What is 20 and 22?", "<function=add>\n<parameter=a>\n20\n", "<tool_response>\n42\n</tool_response>"])
            Assert.Contains(part, prompt, StringComparison.Ordinal);
        Assert.EndsWith("<think>\n", prompt, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("messages", """{"model":"m"}""")]
    [InlineData("messages", """{"messages":[]}""")]
    [InlineData("messages", """{"messages":"hi"}""")]
    [InlineData("messages[0]", """{"messages":["hi"]}""")]
    [InlineData("messages[0].role", """{"messages":[{"content":"hi"}]}""")]
    [InlineData("messages[1].role", """{"messages":[{"role":"user","content":"hi"},{"role":"robot","content":"hi"}]}""")]
    [InlineData("messages[0].content", """{"messages":[{"role":"user"}]}""")]
    [InlineData("messages[0].content", """{"messages":[{"role":"user","content":7}]}""")]
    [InlineData("messages[0].content", """{"messages":[{"role":"user","content":[{"type":"riddle"}]}]}""")]
    [InlineData("messages[0].content[1]", """{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:,"}}]}]}""")]
    [InlineData("messages[0].tool_calls", """{"messages":[{"role":"assistant","tool_calls":{}}]}""")]
    [InlineData("messages", """{"messages":[{"role":"assistant","content":"nobody asked"}]}""")]
    [InlineData("temperature", """{"messages":[{"role":"user","content":"hi"}],"temperature":"hot"}""")]
    [InlineData("temperature", """{"messages":[{"role":"user","content":"hi"}],"temperature":2.5}""")]
    [InlineData("top_p", """{"messages":[{"role":"user","content":"hi"}],"top_p":-0.1}""")]
    [InlineData("max_tokens", """{"messages":[{"role":"user","content":"hi"}],"max_tokens":0}""")]
    [InlineData("max_tokens", """{"messages":[{"role":"user","content":"hi"}],"max_tokens":1.5}""")]
    [InlineData("n", """{"messages":[{"role":"user","content":"hi"}],"n":129}""")]
    [InlineData("seed", """{"messages":[{"role":"user","content":"hi"}],"seed":1.5}""")]
    [InlineData("stop[1]", """{"messages":[{"role":"user","content":"hi"}],"stop":["a",1]}""")]
    [InlineData("stream", """{"messages":[{"role":"user","content":"hi"}],"stream":"yes"}""")]
    [InlineData("stream_options.include_usage", """{"messages":[{"role":"user","content":"hi"}],"stream_options":{"include_usage":1}}""")]
    [InlineData("logit_bias", """{"messages":[{"role":"user","content":"hi"}],"logit_bias":{"the":1}}""")]
    [InlineData("logit_bias", """{"messages":[{"role":"user","content":"hi"}],"logit_bias":{"99999":1}}""")]
    [InlineData("logit_bias.5", """{"messages":[{"role":"user","content":"hi"}],"logit_bias":{"5":101}}""")]
    [InlineData("top_logprobs", """{"messages":[{"role":"user","content":"hi"}],"top_logprobs":2}""")]
    [InlineData("top_logprobs", """{"messages":[{"role":"user","content":"hi"}],"logprobs":true,"top_logprobs":21}""")]
    [InlineData("tools[0]", """{"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function"}]}""")]
    [InlineData("tools[0].type", """{"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"custom","custom":{"name":"x"}}]}""")]
    [InlineData("tool_choice", """{"messages":[{"role":"user","content":"hi"}],"tool_choice":"required"}""")]
    [InlineData("tool_choice", """{"messages":[{"role":"user","content":"hi"}],"tool_choice":{"type":"function","function":{"name":"x"}}}""")]
    [InlineData("tool_choice", """{"messages":[{"role":"user","content":"hi"}],"tool_choice":"perhaps"}""")]
    [InlineData("response_format.type", """{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"yaml"}}""")]
    [InlineData("response_format.json_schema.schema", """{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object","properties":{"a":{"not":{}}}}}}}""")]
    [InlineData("response_format.json_schema", """{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema"}}""")]
    [InlineData("guided_regex", """{"messages":[{"role":"user","content":"hi"}],"guided_regex":"(a"}""")]
    [InlineData("grammar", """{"messages":[{"role":"user","content":"hi"}],"grammar":"root ::= x"}""")]
    [InlineData("guided_regex", """{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_object"},"guided_regex":"a"}""")]
    [InlineData("guided_regex", """{"messages":[{"role":"user","content":"hi"}],"guided_regex":"(a{1000}){1000}"}""")]
    [InlineData("tool_choice", """{"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"y"}}],"tool_choice":{"type":"function","function":{"name":"x"}}}""")]
    [InlineData("reasoning_effort", """{"messages":[{"role":"user","content":"hi"}],"reasoning_effort":"heroic"}""")]
    [InlineData("chat_template_kwargs.enable_thinking", """{"messages":[{"role":"user","content":"hi"}],"chat_template_kwargs":{"enable_thinking":"no"}}""")]
    [InlineData("functions", """{"messages":[{"role":"user","content":"hi"}],"functions":[]}""")]
    [InlineData(null, """{"messages":[{"role":"user","content":"hi\ud800"}]}""")]
    [InlineData(null, """[1]""")]
    [InlineData(null, """{"messages":""")]
    public async Task ABadRequestNamesItsParameter(string? parameter, string body)
    {
        await using TestServer server = await Start();
        (int status, JsonElement json) = await server.PostAny(Path, body);
        JsonElement error = json.GetProperty("error");
        Assert.Equal((400, "invalid_request_error"), (status, error.GetProperty("type").GetString()));
        Assert.Equal(parameter, error.GetProperty("param").GetString());
        Assert.NotEmpty(error.GetProperty("message").GetString()!);
        Assert.True(error.TryGetProperty("code", out _));
    }

    [Fact]
    public async Task APromptThatIsTooLongSaysSo()
    {
        await using TestServer server = await Start();
        (int status, JsonElement json) = await server.PostAny(Path, new { messages = new[] { new { role = "user", content = new string('x', 5000) } } });
        JsonElement error = json.GetProperty("error");
        Assert.Equal((400, "context_length_exceeded", "messages"), (status, error.GetProperty("code").GetString(), error.GetProperty("param").GetString()));
    }

    [Fact]
    public async Task CountsAreLimited()
    {
        await using TestServer server = await Start(new ServerOptions { MaxMessageCount = 2, MaxToolCount = 1, MaxBodyBytes = 2048 });
        object message = new { role = "user", content = "hi" };
        Assert.Equal(200, (await server.PostAny(Path, new { messages = new[] { message, message } })).Status);
        (int status, JsonElement json) = await server.PostAny(Path, new { messages = new[] { message, message, message } });
        Assert.Equal((400, "messages"), (status, json.GetProperty("error").GetProperty("param").GetString()));
        object tool = new { type = "function", function = new { name = "x" } };
        (status, json) = await server.PostAny(Path, new { messages = new[] { message }, tools = new[] { tool, tool } });
        Assert.Equal((400, "tools"), (status, json.GetProperty("error").GetProperty("param").GetString()));
        (status, json) = await server.PostAny(Path, new { messages = new[] { message }, user = new string('x', 3000) });
        Assert.Equal((413, "request_too_large"), (status, json.GetProperty("error").GetProperty("code").GetString()));
        string deep = """{"messages":""" + new string('[', 100) + new string(']', 100) + "}";
        Assert.Equal(400, (await server.PostAny(Path, deep)).Status);
    }

    private static string Join(IEnumerable<JsonElement> choices, string field) =>
        string.Concat(choices.Select(choice => choice.GetProperty("delta")).Where(delta => delta.TryGetProperty(field, out _)).Select(delta => delta.GetProperty(field).GetString()));
}
