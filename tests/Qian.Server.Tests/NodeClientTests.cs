using System.Text.Json;
using Qian.Inference.Tests;

namespace Qian.Server.Tests;

// The clients that people run on Node, against the real server: each with tools, whole and streamed.
public sealed class NodeClientTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Key = "sk-test-12345678";

    private static readonly int s_outputCount = ScriptedModel.ThinkingScript.Length + 1;

    private Task<TestServer> Start() => TestServer.StartAsync(model.Load(), new ServerOptions { Keys = [Key], ModelName = "scripted" });

    private static async Task<JsonElement> Run(TestServer server, string program, string path)
    {
        (int exitCode, string output, string error) = await NodeClient.RunOurs(program, new Uri(server.Server.Address, path).ToString().TrimEnd('/'), Key, ScriptedModel.ToolJson);
        Assert.True(exitCode == 0, error + output);
        return TestServer.Parse(output);
    }

    private static string? Text(JsonElement json, string name) => json.GetProperty(name).GetString();

    [NodeFact]
    public async Task OpenAi()
    {
        await using TestServer server = await Start();
        JsonElement seen = await Run(server, "openai.mjs", "/v1");
        JsonElement chat = seen.GetProperty("chat"), stream = seen.GetProperty("stream");
        Assert.Equal(("tool_calls", ScriptedModel.Answer, "add", ScriptedModel.Arguments), (Text(chat, "finish"), Text(chat, "text"), Text(chat, "name"), Text(chat, "arguments")));
        Assert.True(seen.GetProperty("grew").GetBoolean());
        Assert.Equal(("tool_calls", ScriptedModel.Answer, ScriptedModel.Arguments, s_outputCount), (Text(stream, "finish"), Text(stream, "text"), Text(stream, "arguments"), stream.GetProperty("output").GetInt32()));
        Assert.Equal(20, seen.GetProperty("ran").GetProperty("a").GetInt32());
        JsonElement response = seen.GetProperty("response");
        Assert.Equal(("completed", ScriptedModel.Answer, ScriptedModel.Arguments), (Text(response, "status"), Text(response, "text"), Text(response, "arguments")));
        Assert.Equal(["reasoning", "message", "function_call"], response.GetProperty("types").EnumerateArray().Select(type => type.GetString()));
        Assert.Equal((ScriptedModel.PlainAnswer, ScriptedModel.PlainAnswer), (Text(seen.GetProperty("responseStream"), "final"), Text(seen.GetProperty("responseStream"), "deltas")));
        Assert.Equal((400, "BadRequestError", "temperature"), (seen.GetProperty("error").GetProperty("status").GetInt32(), Text(seen.GetProperty("error"), "type"), Text(seen.GetProperty("error"), "param")));
    }

    [NodeFact]
    public async Task Anthropic()
    {
        await using TestServer server = await Start();
        JsonElement seen = await Run(server, "anthropic.mjs", "/");
        foreach (string form in (string[])["whole", "stream"])
        {
            JsonElement message = seen.GetProperty(form);
            Assert.Equal(["thinking", "text", "tool_use"], message.GetProperty("types").EnumerateArray().Select(type => type.GetString()));
            Assert.Equal((ScriptedModel.Thought, ScriptedModel.Answer, "tool_use", s_outputCount), (Text(message, "thinking"), Text(message, "text"), Text(message, "stop"), message.GetProperty("output").GetInt32()));
            Assert.True(JsonElement.DeepEquals(TestServer.Parse(ScriptedModel.Arguments), message.GetProperty("input")));
        }

        Assert.True(seen.GetProperty("grew").GetBoolean() && seen.GetProperty("counted").GetBoolean());
        Assert.Equal((400, "invalid_request_error"), (seen.GetProperty("error").GetProperty("status").GetInt32(), Text(seen.GetProperty("error"), "type")));
    }

    [NodeFact]
    public async Task AiSdk()
    {
        await using TestServer server = await Start();
        JsonElement seen = await Run(server, "ai-sdk.mjs", "/v1");
        foreach (string form in (string[])["whole", "stream"])
        {
            JsonElement reply = seen.GetProperty(form);
            Assert.Equal((2, ScriptedModel.Answer, ScriptedModel.Thought, s_outputCount), (reply.GetProperty("steps").GetInt32(), Text(reply, "text"), Text(reply, "reasoning"), reply.GetProperty("output").GetInt32()));
        }

        Assert.Equal("tool-calls", Text(seen.GetProperty("whole"), "finish"));
        Assert.True(seen.GetProperty("stream").GetProperty("both").GetBoolean() && seen.GetProperty("stream").GetProperty("kinds").GetBoolean());
        Assert.Equal(4, seen.GetProperty("ran").GetArrayLength());
        Assert.All(seen.GetProperty("ran").EnumerateArray(), input => Assert.True(JsonElement.DeepEquals(TestServer.Parse(ScriptedModel.Arguments), input)));
    }

    // Qwen's own coding agent, headless, with a system prompt of a line and one tool: it has a file written. The model says
    // the same in every turn, so the agent is told to stop after the turn that follows the result.
    [NodeFact]
    public async Task QwenCodeWritesAFile()
    {
        using var folder = new TempFolder();
        string home = folder.File("home"), work = folder.File("work"), audit = folder.File("audit.jsonl"), written = Path.Combine(work, "Largest.cs");
        const string code = "return items.Max();";
        using var scripted = new ScriptedModel(["A file ", "is wanted.\n</", "think>\n\n", "<tool_call>\n<function=write", "_file>\n<parameter=file", $"_path>\n{written}\n</parameter>\n", $"<parameter=content>\n{code}\n</parameter>\n", "</function>\n</tool_call>"], ["Done", "."]);
        Directory.CreateDirectory(Path.Combine(home, ".qwen"));
        Directory.CreateDirectory(work);
        File.WriteAllText(Path.Combine(home, ".qwen", "settings.json"), """{"tools":{"core":["write_file"]},"privacy":{"usageStatisticsEnabled":false},"telemetry":{"enabled":false},"general":{"enableAutoUpdate":false,"disableAutoUpdate":true}}""");
        File.WriteAllText(folder.File("system.md"), "You are a coding agent. Use the tools to do what the user asks.");
        int exitCode;
        string output, error;
        await using (TestServer server = await TestServer.StartAsync(scripted.Load(16384), new ServerOptions { Keys = [Key], ModelName = "scripted", AuditPath = audit, AuditContents = true }))
        {
            (exitCode, output, error) = await NodeClient.Run("node", work,
            [
                ("HOME", home), ("USERPROFILE", home), ("QWEN_SYSTEM_MD", folder.File("system.md")), ("OPENAI_API_KEY", Key), ("OPENAI_BASE_URL", new Uri(server.Server.Address, "/v1").ToString()), ("OPENAI_MODEL", "scripted"),
            ], [NodeClient.Package("@qwen-code/qwen-code/cli.js"), "--auth-type", "openai", "--yolo", "--max-session-turns", "2", "-p", "Write Largest.cs."]);
        }

        Assert.True(File.Exists(written), $"exit {exitCode}: {error}{output}");
        Assert.Equal(code, File.ReadAllText(written).Trim());
        JsonElement[] asked = [.. File.ReadAllLines(audit).Select(TestServer.Parse).Where(line => line.GetProperty("status").GetInt32() == 200)];
        Assert.True(asked.Length >= 2, error + output);
        string second = asked[1].GetProperty("prompts")[0].GetString()!;
        Assert.Contains("<tool_response>", second, StringComparison.Ordinal);
        Assert.Contains(code, second, StringComparison.Ordinal);
    }
}
