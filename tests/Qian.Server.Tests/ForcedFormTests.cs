using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Server.Tests;

// Calls that must be made and forms that answers must have, in every dialect, whole and streamed, with thinking and without. The
// model would say something else each time, so what it says shows that it was held to the form.
public sealed class ForcedFormTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Chat = "/v1/chat/completions", Responses = "/v1/responses", Messages = "/v1/messages";

    // Little enough room for what a model without sense puts into it.
    private const string Schema = """{"type":"object","properties":{"ok":{"type":"boolean"},"size":{"enum":["small","large"]}},"required":["ok","size"],"additionalProperties":false}""";

    private static readonly JsonNode s_parameters = JsonNode.Parse("""{"type":"object","properties":{"on":{"type":"boolean"}},"required":["on"],"additionalProperties":false}""")!;

    private Task<TestServer> Start() => TestServer.StartAsync(model.Load());

    // The same question in each dialect, with two tools.
    private static JsonObject Body(string path, bool thinks)
    {
        string effort = thinks ? "high" : "none";
        return path switch
        {
            Chat => Json(new { messages = new[] { new { role = "user", content = "Hi" } }, reasoning_effort = effort, temperature = 0, max_tokens = 200, tools = new[] { new { type = "function", function = Tool("light") }, new { type = "function", function = Tool("heat") } } }),
            Responses => Json(new { input = "Hi", reasoning = new { effort }, temperature = 0, max_output_tokens = 200, tools = new[] { Flat("light"), Flat("heat") } }),
            _ => Json(new { messages = new[] { new { role = "user", content = "Hi" } }, thinking = thinks ? (object)new { type = "enabled", budget_tokens = 150 } : new { type = "disabled" }, temperature = 0, max_tokens = 200, tools = new[] { new { name = "light", input_schema = s_parameters }, new { name = "heat", input_schema = s_parameters } } }),
        };
    }

    private static object Tool(string name) => new { name, parameters = s_parameters };

    private static object Flat(string name) => new { type = "function", name, parameters = s_parameters };

    private static JsonObject Json(object body) => JsonSerializer.SerializeToNode(body)!.AsObject();

    // Thinking, text and calls of a reply.
    private static (string Thinking, string Text, (string Name, string Arguments)[] Calls) Read(string path, JsonElement reply)
    {
        switch (path)
        {
            case Chat:
                JsonElement message = reply.GetProperty("choices")[0].GetProperty("message");
                JsonElement[] calls = message.TryGetProperty("tool_calls", out JsonElement made) ? [.. made.EnumerateArray()] : [];
                return (message.TryGetProperty("reasoning_content", out JsonElement thought) ? thought.GetString()! : "", message.GetProperty("content").GetString() ?? "",
                    [.. calls.Select(call => (call.GetProperty("function").GetProperty("name").GetString()!, call.GetProperty("function").GetProperty("arguments").GetString()!))]);
            case Responses:
                JsonElement[] items = [.. reply.GetProperty("output").EnumerateArray()];
                return (TextOf(items, "reasoning"), TextOf(items, "message"), [.. Of(items, "function_call").Select(item => (item.GetProperty("name").GetString()!, item.GetProperty("arguments").GetString()!))]);
            default:
                JsonElement[] blocks = [.. reply.GetProperty("content").EnumerateArray()];
                return (string.Concat(Of(blocks, "thinking").Select(block => block.GetProperty("thinking").GetString())), string.Concat(Of(blocks, "text").Select(block => block.GetProperty("text").GetString())),
                    [.. Of(blocks, "tool_use").Select(block => (block.GetProperty("name").GetString()!, block.GetProperty("input").GetRawText()))]);
        }
    }

    private static IEnumerable<JsonElement> Of(JsonElement[] items, string type) => items.Where(item => item.GetProperty("type").GetString() == type);

    private static string TextOf(JsonElement[] items, string type) => string.Concat(Of(items, type).SelectMany(item => item.GetProperty("content").EnumerateArray()).Select(part => part.GetProperty("text").GetString()));

    // Text and arguments as the events bring them.
    private static string Streamed(string path, List<StreamEvent> events)
    {
        IEnumerable<JsonElement> all = events.Select(step => step.Json);
        return path switch
        {
            Chat => string.Concat(all.SelectMany(chunk => chunk.GetProperty("choices").EnumerateArray()).Select(choice => choice.GetProperty("delta")).Select(delta =>
                delta.TryGetProperty("tool_calls", out JsonElement calls) ? calls[0].GetProperty("function").GetProperty("arguments").GetString() : delta.TryGetProperty("content", out JsonElement text) ? text.GetString() : "")),
            Responses => string.Concat(events.Where(step => step.Name is "response.output_text.delta" or "response.function_call_arguments.delta").Select(step => step.Json.GetProperty("delta").GetString())),
            _ => string.Concat(events.Where(step => step.Name == "content_block_delta").Select(step => step.Json.GetProperty("delta")).Select(delta =>
                delta.TryGetProperty("partial_json", out JsonElement part) ? part.GetString() : delta.TryGetProperty("text", out JsonElement text) ? text.GetString() : "")),
        };
    }

    private static JsonNode Force(string path, string? name) => JsonNode.Parse((path, name) switch
    {
        (Messages, null) => """{"type":"any","disable_parallel_tool_use":true}""",
        (Messages, _) => $$"""{"type":"tool","name":"{{name}}","disable_parallel_tool_use":true}""",
        (_, null) => "\"required\"",
        (Chat, _) => $$$"""{"type":"function","function":{"name":"{{{name}}}"}}""",
        _ => $$"""{"type":"function","name":"{{name}}"}""",
    })!;

    [Theory]
    [InlineData(Chat, false, null)]
    [InlineData(Chat, true, "heat")]
    [InlineData(Responses, false, null)]
    [InlineData(Responses, false, "heat")]
    [InlineData(Responses, true, null)]
    [InlineData(Responses, true, "light")]
    [InlineData(Messages, false, "light")]
    [InlineData(Messages, false, null)]
    [InlineData(Messages, true, "heat")]
    public async Task ACallThatMustBeMadeIsMade(string path, bool thinks, string? name)
    {
        await using TestServer server = await Start();
        JsonObject body = TestServer.With(Body(path, thinks), ("tool_choice", Force(path, name)), ("parallel_tool_calls", false));
        (string thinking, string text, (string Name, string Arguments)[] calls) = Read(path, await server.Post(path, body));
        Assert.Equal(thinks ? ScriptedModel.Thought : "", thinking.Trim());
        Assert.Equal("", text.Trim());
        (string called, string arguments) = Assert.Single(calls);
        Assert.Contains(called, name is null ? (string[])["light", "heat"] : (string[])[name]);
        Assert.Contains(arguments, (string[])["""{"on":true}""", """{"on":false}"""]);
        Assert.Equal(arguments, Streamed(path, await server.Stream(path, TestServer.With(body, ("stream", true)))).Trim());
    }

    private static (string, object?)[] Format(string path, string schema)
    {
        JsonNode parsed = JsonNode.Parse(schema)!;
        return path switch
        {
            Chat => [("response_format", new { type = "json_schema", json_schema = new { name = "x", schema = parsed } })],
            Responses => [("text", new { format = new { type = "json_schema", name = "x", strict = true, schema = parsed }, verbosity = "low" })],
            _ => [("output_config", new { format = new { type = "json_schema", schema = parsed } })],
        };
    }

    [Theory]
    [InlineData(Chat, false)]
    [InlineData(Responses, false)]
    [InlineData(Responses, true)]
    [InlineData(Messages, false)]
    [InlineData(Messages, true)]
    public async Task AnAnswerKeepsToItsSchema(string path, bool thinks)
    {
        await using TestServer server = await Start();
        JsonObject body = TestServer.With(Body(path, thinks), [("tools", null), .. Format(path, Schema)]);
        JsonElement reply = await server.Post(path, body);
        (string thinking, string text, _) = Read(path, reply);
        Assert.Equal(thinks ? ScriptedModel.Thought : "", thinking.Trim());
        JsonElement answer = TestServer.Parse(text);
        Assert.Equal(["ok", "size"], answer.EnumerateObject().Select(property => property.Name));
        Assert.Contains(answer.GetProperty("size").GetString(), (string[])["small", "large"]);
        Assert.Equal(text, Streamed(path, await server.Stream(path, TestServer.With(body, ("stream", true)))));
        if (path == Responses)
        {
            JsonElement asked = reply.GetProperty("text");
            Assert.Equal(("json_schema", "x", "low"), (asked.GetProperty("format").GetProperty("type").GetString(), asked.GetProperty("format").GetProperty("name").GetString(), asked.GetProperty("verbosity").GetString()));
        }
    }

    [Fact]
    public async Task TheEarlierSpellingOfAFormatIsRead()
    {
        await using TestServer server = await Start();
        JsonObject body = TestServer.With(Body(Messages, thinks: false), ("tools", null), ("output_format", new { type = "json_schema", schema = JsonNode.Parse(Schema) }));
        Assert.Equal(JsonValueKind.Object, TestServer.Parse(Read(Messages, await server.Post(Messages, body)).Text).ValueKind);
    }

    [Fact]
    public async Task AnyObjectWillDo()
    {
        await using TestServer server = await Start();
        JsonObject body = TestServer.With(Body(Responses, thinks: false), ("tools", null), ("text", new { format = new { type = "json_object" } }));
        // A model without sense may go on for ever, so it is cut; what came is the beginning of an object.
        Assert.StartsWith("{", Read(Responses, await server.Post(Responses, body)).Text, StringComparison.Ordinal);
    }

    // The prompt shows both tools, so that it stays the same while the allowed ones change.
    [Theory]
    [InlineData(Chat, """{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"heat"}}]}}""")]
    [InlineData(Responses, """{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"heat"}]}""")]
    public async Task OnlyAllowedToolsAreCalled(string path, string choice)
    {
        await using TestServer server = await Start();
        JsonObject free = Body(path, thinks: false);
        JsonElement reply = await server.Post(path, TestServer.With(free, ("tool_choice", JsonNode.Parse(choice)), ("parallel_tool_calls", false)));
        Assert.Equal("heat", Assert.Single(Read(path, reply).Calls).Name);
        string count = path == Chat ? "prompt_tokens" : "input_tokens";
        Assert.Equal((await server.Post(path, free)).GetProperty("usage").GetProperty(count).GetInt32(), reply.GetProperty("usage").GetProperty(count).GetInt32());
        // May, but need not.
        Assert.Equal(ScriptedModel.PlainAnswer, Read(path, await server.Post(path, TestServer.With(free, ("tool_choice", JsonNode.Parse(choice.Replace("required", "auto", StringComparison.Ordinal)))))).Text);
    }

    [Theory]
    [InlineData(Chat, "tool_choice", """{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"door"}}]}}""")]
    [InlineData(Responses, "tool_choice", """{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"door"}]}""")]
    [InlineData(Responses, "tool_choice.tools", """{"type":"allowed_tools","mode":"auto","tools":[]}""")]
    [InlineData(Responses, "tool_choice.mode", """{"type":"allowed_tools","mode":"often","tools":[{"type":"function","name":"heat"}]}""")]
    [InlineData(Responses, "tool_choice", """{"type":"function","name":"door"}""")]
    [InlineData(Responses, "tool_choice", """{"type":"file_search"}""")]
    public async Task AToolThatIsNotThereIsRefused(string path, string parameter, string choice)
    {
        await using TestServer server = await Start();
        (int status, JsonElement json) = await server.PostAny(path, TestServer.With(Body(path, thinks: false), ("tool_choice", JsonNode.Parse(choice))));
        Assert.Equal((400, parameter), (status, json.GetProperty("error").GetProperty("param").GetString()));
    }

    [Theory]
    [InlineData(Responses, "text.format.type", """{"input":"Hi","text":{"format":{"type":"yaml"}}}""")]
    [InlineData(Responses, "text.format.schema", """{"input":"Hi","text":{"format":{"type":"json_schema","name":"x"}}}""")]
    [InlineData(Responses, "text.format.schema", """{"input":"Hi","text":{"format":{"type":"json_schema","name":"x","schema":{"type":"object","properties":{"a":{"not":{}}}}}}}""")]
    [InlineData(Responses, "response_format", """{"input":"Hi","response_format":{"type":"json_object"}}""")]
    [InlineData(Responses, "text.format", """{"input":"Hi","text":{"format":{"type":"regex","pattern":"(a{1000}){1000}"}}}""")]
    [InlineData(Messages, "output_format.type", """{"max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"output_format":{"type":"json_object"}}""")]
    [InlineData(Messages, "output_config.format.schema", """{"max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"output_config":{"format":{"type":"json_schema"}}}""")]
    [InlineData(Messages, "output_config.format.schema", """{"max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"output_config":{"format":{"type":"json_schema","schema":{"properties":{"a":{"not":{}}}}}}}""")]
    [InlineData(Messages, "output_format", """{"max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"output_format":{"type":"json_schema","schema":{}},"output_config":{"format":{"type":"json_schema","schema":{}}}}""")]
    public async Task AFormThatCannotBeKeptIsRefused(string path, string parameter, string body)
    {
        await using TestServer server = await Start();
        (int status, JsonElement json) = await server.PostAny(path, body);
        JsonElement error = json.GetProperty("error");
        Assert.Equal(400, status);
        if (path == Messages)
            Assert.StartsWith(parameter + ": ", error.GetProperty("message").GetString(), StringComparison.Ordinal);
        else
            Assert.Equal(parameter, error.GetProperty("param").GetString());
    }
}
