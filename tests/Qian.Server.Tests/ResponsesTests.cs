using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Server.Tests;

// /v1/responses over real sockets, against a model whose words are known.
public sealed class ResponsesTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Path = "/v1/responses";

    private static readonly object s_tool = new { type = "function", name = "add", description = "Adds", parameters = JsonNode.Parse(ScriptedModel.ToolJson) };

    private static readonly object s_plain = new { input = "Hi", reasoning = new { effort = "none" }, temperature = 0, drafts = 0 };

    private static readonly object s_calling = new { input = "What is 20 and 22?", tools = new[] { s_tool }, temperature = 0, drafts = 0 };

    private Task<TestServer> Start(ServerOptions? options = null) => TestServer.StartAsync(model.Load(), options);

    [Fact]
    public async Task AWholeReplyHasTheOfficialShape()
    {
        await using TestServer server = await Start();
        JsonElement reply = await server.Post(Path, TestServer.With(s_plain, ("instructions", "Be brief."), ("metadata", new { a = "b" }), ("max_output_tokens", 50)));
        Assert.StartsWith("resp_", reply.GetProperty("id").GetString(), StringComparison.Ordinal);
        Assert.Equal(("response", "completed", "tiny"), (Text(reply, "object"), Text(reply, "status"), Text(reply, "model")));
        JsonElement item = Assert.Single(reply.GetProperty("output").EnumerateArray());
        Assert.Equal(("message", "assistant", "completed"), (Text(item, "type"), Text(item, "role"), Text(item, "status")));
        JsonElement part = Assert.Single(item.GetProperty("content").EnumerateArray());
        Assert.Equal(("output_text", ScriptedModel.PlainAnswer), (Text(part, "type"), Text(part, "text")));
        JsonElement usage = reply.GetProperty("usage");
        Assert.Equal(ScriptedModel.PlainScript.Length + 1, usage.GetProperty("output_tokens").GetInt32());
        Assert.Equal(usage.GetProperty("input_tokens").GetInt32() + usage.GetProperty("output_tokens").GetInt32(), usage.GetProperty("total_tokens").GetInt32());
        Assert.Equal((0, 0), (usage.GetProperty("input_tokens_details").GetProperty("cached_tokens").GetInt32(), usage.GetProperty("output_tokens_details").GetProperty("reasoning_tokens").GetInt32()));
        Assert.Equal(("Be brief.", "b", 50), (Text(reply, "instructions"), Text(reply.GetProperty("metadata"), "a"), reply.GetProperty("max_output_tokens").GetInt32()));
        foreach (string name in (string[])["error", "incomplete_details", "previous_response_id", "user"])
            Assert.Equal(JsonValueKind.Null, reply.GetProperty(name).ValueKind);
    }

    [Fact]
    public async Task ReasoningAnswerAndCallAreItemsOfTheirOwn()
    {
        await using TestServer server = await Start();
        JsonElement[] items = [.. (await server.Post(Path, s_calling)).GetProperty("output").EnumerateArray()];
        Assert.Equal(["reasoning", "message", "function_call"], items.Select(item => Text(item, "type")));
        Assert.Equal(ScriptedModel.Thought, Text(items[0].GetProperty("content")[0], "text")!.Trim());
        Assert.Equal(ScriptedModel.Answer, Text(items[1].GetProperty("content")[0], "text")!.Trim());
        Assert.Equal(("add", ScriptedModel.Arguments), (Text(items[2], "name"), Text(items[2], "arguments")));
        Assert.StartsWith("call_", Text(items[2], "call_id"), StringComparison.Ordinal);
    }

    [Fact]
    public async Task AStreamHasTheOfficialSequence()
    {
        await using TestServer server = await Start();
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(s_calling, ("stream", true)));
        Assert.All(events, (step, i) => Assert.Equal((step.Name, i), (Text(step.Json, "type"), step.Json.GetProperty("sequence_number").GetInt32())));
        string[] kinds = [.. events.Select(step => step.Name!["response.".Length..])];
        string[] order = [.. kinds.Where((kind, i) => i == 0 || kinds[i - 1] != kind)];
        Assert.Equal(
        [
            "created", "in_progress",
            "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done",
            "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
            "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
            "completed",
        ], order);
        Assert.Equal(ScriptedModel.Arguments, Joined(events, "response.function_call_arguments.delta"));
        Assert.Equal(ScriptedModel.Answer, Joined(events, "response.output_text.delta").Trim());
        // The items that were announced are those of the whole response at the end.
        JsonElement last = events[^1].Json.GetProperty("response");
        string[] done = [.. events.Where(step => step.Name == "response.output_item.done").Select(step => step.Json.GetProperty("item").GetRawText())];
        Assert.Equal(last.GetProperty("output").EnumerateArray().Select(item => item.GetRawText()), done);
        Assert.Equal(Text(events[0].Json.GetProperty("response"), "id"), Text(last, "id"));
        Assert.Equal(ScriptedModel.ThinkingScript.Length + 1, last.GetProperty("usage").GetProperty("output_tokens").GetInt32());
    }

    [Fact]
    public async Task AStreamPutTogetherIsTheWholeReply()
    {
        await using TestServer server = await Start();
        JsonElement whole = await server.Post(Path, s_calling);
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(s_calling, ("stream", true)));
        Assert.Equal(WithoutIds(whole), WithoutIds(events[^1].Json.GetProperty("response")));
    }

    [Theory]
    [InlineData(3)]
    [InlineData(11)]
    public async Task ACutReplyIsIncomplete(int maxTokens)
    {
        await using TestServer server = await Start();
        JsonObject body = TestServer.With(s_calling, ("max_output_tokens", maxTokens));
        JsonElement reply = await server.Post(Path, body);
        Assert.Equal(("incomplete", "max_output_tokens"), (Text(reply, "status"), Text(reply.GetProperty("incomplete_details"), "reason")));
        Assert.Equal("incomplete", Text(reply.GetProperty("output").EnumerateArray().Last(), "status"));
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(body, ("stream", true)));
        Assert.Equal("response.incomplete", events[^1].Name);
        Assert.Equal(WithoutIds(reply), WithoutIds(events[^1].Json.GetProperty("response")));
    }

    [Fact]
    public async Task LogProbabilitiesComeWithTheTextThatTheyAreOf()
    {
        await using TestServer server = await Start();
        JsonObject body = TestServer.With(s_plain, ("include", new[] { "message.output_text.logprobs" }), ("top_logprobs", 2));
        JsonElement part = (await server.Post(Path, body)).GetProperty("output")[0].GetProperty("content")[0];
        Assert.Equal(ScriptedModel.PlainScript, part.GetProperty("logprobs").EnumerateArray().Select(token => Text(token, "token")));
        Assert.All(part.GetProperty("logprobs").EnumerateArray(), token => Assert.Equal(2, token.GetProperty("top_logprobs").GetArrayLength()));
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(body, ("stream", true)));
        Assert.Equal(ScriptedModel.PlainScript, events.Where(step => step.Name == "response.output_text.delta").SelectMany(step => step.Json.GetProperty("logprobs").EnumerateArray()).Select(token => Text(token, "token")));
    }

    // The prompt is the same however a client spells a conversation: that is what continuing one means.
    [Fact]
    public async Task EveryWayToContinueGivesTheSamePrompt()
    {
        await using TestServer server = await Start();
        JsonElement first = await server.Post(Path, s_calling);
        string id = Text(first, "id")!;
        JsonElement[] output = [.. first.GetProperty("output").EnumerateArray()];
        object result = new { type = "function_call_output", call_id = Text(output[2], "call_id"), output = "42" };
        object question = new { role = "user", content = "What is 20 and 22?" };
        int chat = (await server.Post("/v1/chat/completions", new
        {
            tools = new[] { new { type = "function", function = new { name = "add", description = "Adds", parameters = JsonNode.Parse(ScriptedModel.ToolJson) } } },
            temperature = 0,
            messages = new object[]
            {
                question,
                new { role = "assistant", content = Text(output[1].GetProperty("content")[0], "text"), reasoning_content = Text(output[0].GetProperty("content")[0], "text"), tool_calls = new[] { new { id = "c", type = "function", function = new { name = "add", arguments = ScriptedModel.Arguments } } } },
                new { role = "tool", tool_call_id = "c", content = "42" },
            },
        })).GetProperty("usage").GetProperty("prompt_tokens").GetInt32();
        object[][] inputs =
        [
            [question, .. output.Select(item => (object)item), result],
            [question, .. output.Select(item => new { type = "item_reference", id = Text(item, "id") }), result],
        ];
        foreach (object[] input in inputs)
            Assert.Equal(chat, InputTokens(await server.Post(Path, TestServer.With(s_calling, ("input", input)))));
        JsonObject continued = TestServer.With(s_calling, ("input", new[] { result }), ("previous_response_id", id));
        Assert.Equal(chat, InputTokens(await server.Post(Path, continued)));
        List<StreamEvent> events = await server.Stream(Path, TestServer.With(continued, ("stream", true)));
        JsonElement response = events[^1].Json.GetProperty("response");
        Assert.Equal((chat, id), (InputTokens(response), Text(response, "previous_response_id")));
    }

    [Fact]
    public async Task InstructionsHoldForOneResponse()
    {
        await using TestServer server = await Start();
        JsonElement first = await server.Post(Path, TestServer.With(s_plain, ("instructions", "A long instruction that takes many tokens.")));
        JsonObject next = TestServer.With(s_plain, ("input", "And?"), ("previous_response_id", Text(first, "id")));
        int without = InputTokens(await server.Post(Path, next));
        Assert.True(InputTokens(await server.Post(Path, TestServer.With(next, ("instructions", "A long instruction that takes many tokens.")))) > without);
        JsonElement bare = await server.Post(Path, s_plain);
        Assert.Equal(without, InputTokens(await server.Post(Path, TestServer.With(next, ("previous_response_id", Text(bare, "id"))))));
    }

    [Fact]
    public async Task ResponsesAreKeptUntilTheyAreDeletedOrOlderThanTheLatest()
    {
        await using TestServer server = await Start(new ServerOptions { StoredResponseCount = 2, ModelName = "tiny" });
        JsonElement reply = await server.Post(Path, s_plain);
        string id = Text(reply, "id")!;
        Assert.Equal(reply.GetRawText(), await server.Client.GetStringAsync($"{Path}/{id}"));
        JsonElement unstored = await server.Post(Path, TestServer.With(s_plain, ("store", false)));
        Assert.False(unstored.GetProperty("store").GetBoolean());
        Assert.Equal(404, (int)(await server.Client.GetAsync($"{Path}/{Text(unstored, "id")}")).StatusCode);
        using (HttpResponseMessage deleted = await server.Client.DeleteAsync($"{Path}/{id}"))
            Assert.True(TestServer.Parse(await deleted.Content.ReadAsStringAsync()).GetProperty("deleted").GetBoolean());
        Assert.Equal(404, (int)(await server.Client.DeleteAsync($"{Path}/{id}")).StatusCode);
        var ids = new List<string>();
        for (int i = 0; i < 3; i++)
            ids.Add(Text(await server.Post(Path, s_plain), "id")!);
        int[] statuses = await Task.WhenAll(ids.Select(async kept => (int)(await server.Client.GetAsync($"{Path}/{kept}")).StatusCode));
        Assert.Equal([404, 200, 200], statuses);
        (int status, JsonElement fault) = await server.PostAny(Path, TestServer.With(s_plain, ("previous_response_id", ids[0])));
        Assert.Equal((400, "previous_response_not_found", "previous_response_id"), (status, Text(fault.GetProperty("error"), "code"), Text(fault.GetProperty("error"), "param")));
    }

    [Theory]
    [InlineData("""{}""", "input")]
    [InlineData("""{"input":7}""", "input")]
    [InlineData("""{"input":[{"role":"tool","content":"x"}]}""", "input[0].role")]
    [InlineData("""{"input":[{"role":"user"}]}""", "input[0].content")]
    [InlineData("""{"input":[{"role":"user","content":[{"type":"input_image","image_url":"file:///etc/passwd"}]}]}""", "input[0].content[0].type")]
    [InlineData("""{"input":[{"type":"web_search_call","id":"w"}]}""", "input[0].type")]
    [InlineData("""{"input":[{"type":"function_call","name":"f","arguments":"{}"}]}""", "input[0].call_id")]
    [InlineData("""{"input":[{"type":"item_reference","id":"msg_x"}]}""", "input[0].id")]
    [InlineData("""{"input":"x","tools":[{"type":"web_search"}]}""", "tools[0].type")]
    [InlineData("""{"input":"x","tools":[{"type":"function"}]}""", "tools[0].name")]
    [InlineData("""{"input":"x","temperature":3}""", "temperature")]
    [InlineData("""{"input":"x","max_output_tokens":0}""", "max_output_tokens")]
    [InlineData("""{"input":"x","background":true}""", "background")]
    [InlineData("""{"input":"x","conversation":"conv_1"}""", "conversation")]
    [InlineData("""{"input":"x","truncation":"some"}""", "truncation")]
    public async Task WhatIsWrongIsNamed(string body, string parameter)
    {
        await using TestServer server = await Start();
        (int status, JsonElement reply) = await server.PostAny(Path, body);
        JsonElement error = reply.GetProperty("error");
        Assert.Equal((400, "invalid_request_error", parameter), (status, Text(error, "type"), Text(error, "param")));
    }

    private static string? Text(JsonElement json, string name) => json.GetProperty(name).GetString();

    private static int InputTokens(JsonElement reply) => reply.GetProperty("usage").GetProperty("input_tokens").GetInt32();

    private static string Joined(List<StreamEvent> events, string name) => string.Concat(events.Where(step => step.Name == name).Select(step => Text(step.Json, "delta")));

    private static string WithoutIds(JsonElement response)
    {
        JsonObject json = JsonNode.Parse(response.GetRawText())!.AsObject();
        json.Remove("id");
        json.Remove("created_at");
        foreach (JsonNode? item in json["output"]!.AsArray())
        {
            item!.AsObject().Remove("id");
            item.AsObject().Remove("call_id");
        }

        return json.ToJsonString();
    }
}
