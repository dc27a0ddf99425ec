using Microsoft.Extensions.AI;
using static Qian.Agent.Tests.ScriptedClient;

namespace Qian.Agent.Tests;

// The loop over a client that says what it was told; the tools, the folder and the commands are real.
public sealed class CodingAgentTests
{
    [Fact]
    public async Task AStepIsQueryAndExecuteAndTheHistoryIsLinear()
    {
        using var bench = new Bench();
        bench.Put("a.txt", "one\ntwo\n");
        var client = new ScriptedClient(
            [Think("I look"), Think(" first."), Call("list_files"), Call("read_file", ("path", "a.txt"))],
            [Say("Now "), Say("I edit."), Call("edit_file", ("path", "a.txt"), ("old", "two"), ("new", "three"))],
            [Say("Done.")]);
        CodingAgent agent = bench.Agent(client);
        var events = new List<AgentEvent>();
        agent.Happened += events.Add;
        AgentOutcome outcome = await agent.RunAsync("Change it.");
        Assert.Equal(new AgentOutcome(true, "Done."), outcome);
        Assert.Equal("one\nthree\n", File.ReadAllText(bench.At("a.txt")));
        Assert.Equal(["user", "assistant", "tool", "assistant", "tool", "assistant"], agent.History.Select(message => message.Role.Value));
        Assert.Equal(["a.txt", "one\ntwo"], agent.History[2].Contents.OfType<FunctionResultContent>().Select(result => result.Result));
        Assert.Equal("edited a.txt", Assert.Single(agent.History[4].Contents.OfType<FunctionResultContent>()).Result);
        // Each request is the one before and what came since.
        Assert.Equal([1, 3, 5], client.Requests.Select(request => request.Length));
        for (int i = 1; i < client.Requests.Count; i++)
            Assert.Equal(client.Requests[i - 1], client.Requests[i].Take(client.Requests[i - 1].Length));
        Assert.Equal(
            ["ReasoningDelta", "ReasoningDelta", "ToolCalled", "ToolAnswered", "ToolCalled", "ToolAnswered", "StepEnded", "TextDelta", "TextDelta", "ToolCalled", "ToolAnswered", "StepEnded", "TextDelta", "StepEnded", "Finished"],
            events.Select(happened => happened.GetType().Name));
        Assert.Equal(" one\n-two\n+three", events.OfType<ToolAnswered>().Last().Result.Diff);
        Assert.Equal(3, agent.StepCount);
    }

    [Fact]
    public async Task TheNextTaskContinuesTheConversation()
    {
        using var bench = new Bench();
        var client = new ScriptedClient([Say("Yes.")]);
        CodingAgent agent = bench.Agent(client);
        await agent.RunAsync("One.");
        await agent.RunAsync("Two.");
        Assert.Equal(["One.", "Yes.", "Two.", "Yes."], agent.History.Select(message => message.Text));
    }

    // Whatever is called, with whatever arguments: an answer, and the loop goes on.
    [Fact]
    public async Task HostileCallsAreAnsweredAndTheLoopGoesOn()
    {
        using var bench = new Bench();
        AIContent[] calls =
        [
            Call("format_disk"), Call(new string('x', 10_000)), Call(""), Call("read_file"), Call("read_file", ("path", null)), Call("read_file", ("path", 7)), Call("read_file", ("path", new Dictionary<string, object?> { ["a"] = 1 })),
            Call("read_file", ("path", System.Text.Json.JsonDocument.Parse("\"\\ud800\"").RootElement)), Call("read_file", ("path", "a\0b")), Call("read_file", ("path", "../project-2/secret.txt")), Call("read_file", ("path", ".")),
            Call("write_file", ("path", "a.txt"), ("content", "\ud800")), Call("edit_file", ("path", "none"), ("old", "a"), ("new", "b")), Call("search_files", ("pattern", "(")), Call("search_files", ("pattern", "(a)\\1")), Call("run_command", ("command", " ")), Call("run_command", ("command", "exit 3")),
            new FunctionCallContent("call_0", "read_file", null),
        ];
        var client = new ScriptedClient(calls, [Say("Well.")]);
        CodingAgent agent = bench.Agent(client);
        Assert.True((await agent.RunAsync("Go.")).IsDone);
        string[] answers = [.. agent.History[2].Contents.OfType<FunctionResultContent>().Select(result => (string)result.Result!)];
        Assert.Equal(calls.Length, answers.Length);
        Assert.All(answers, answer => Assert.True(answer.StartsWith("error: ", StringComparison.Ordinal) || answer == "(exit code 3)", answer));
        Assert.All(answers, answer => Assert.InRange(answer.Length, 1, 400));
        Assert.DoesNotContain(answers, answer => answer.Contains("secret\n", StringComparison.Ordinal));
        Assert.Contains("list_files, read_file", answers[0], StringComparison.Ordinal);
        Assert.Contains("needs path", answers[3], StringComparison.Ordinal);
        Assert.Empty(Directory.GetFileSystemEntries(bench.Folder));
    }

    [Fact]
    public async Task SomeToolsMayBePicked()
    {
        using var bench = new Bench(tools: ["read_file", "list_files"]);
        Assert.Equal(["list_files", "read_file"], bench.Tools.Declarations.Select(tool => tool.Name));
        Assert.Contains("no tool write_file", (await bench.Use("write_file", ("path", "a.txt"), ("content", "b"))).Text, StringComparison.Ordinal);
        Assert.Contains("no tool fly", Assert.Throws<Inference.BadRequestException>(() => new ToolBox(new Workspace(bench.Folder), new Permissions(), TimeSpan.FromSeconds(1), ["fly"])).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ItGivesUpAtTheLimitOfSteps()
    {
        using var bench = new Bench();
        CodingAgent agent = bench.Agent(new ScriptedClient([Call("list_files")]), mostSteps: 4);
        AgentOutcome outcome = await agent.RunAsync("Go.");
        Assert.Equal((false, 4), (outcome.IsDone, agent.StepCount));
        Assert.Contains("4 steps", outcome.Text, StringComparison.Ordinal);
        Assert.Equal("tool", agent.History[^1].Role.Value);
    }

    [Fact]
    public async Task AReplyThatIsEmptyOrCutIsNoEnd()
    {
        using var bench = new Bench();
        Assert.False((await bench.Agent(new ScriptedClient([Think("Hm."), Say(" ")])).RunAsync("Go.")).IsDone);
        Assert.False((await bench.Agent(new ScriptedClient([Say("The answer is")]) { Finish = ChatFinishReason.Length }).RunAsync("Go.")).IsDone);
    }

    [Fact]
    public async Task ARefusedRequestIsAnOutcome()
    {
        using var bench = new Bench();
        var client = new ScriptedClient([Say("x")]) { Sending = _ => throw new Inference.BadRequestException("The context is full.") };
        Assert.Equal(new AgentOutcome(false, "The context is full."), await bench.Agent(client).RunAsync("Go."));
    }

    [Fact]
    public async Task InterruptedInAReplyTheHistoryCanGoOn()
    {
        using var bench = new Bench();
        using var stop = new CancellationTokenSource();
        FunctionCallContent call = Call("list_files");
        var client = new ScriptedClient([Say("I begin"), call, Say(" never said")], [Say("Done.")])
        {
            Sending = content =>
            {
                if (content is TextContent { Text: " never said" })
                    stop.Cancel();
            },
        };
        CodingAgent agent = bench.Agent(client);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => agent.RunAsync("Go.", stop.Token));
        Assert.Equal(["user", "assistant", "tool"], agent.History.Select(message => message.Role.Value));
        Assert.Equal("I begin", agent.History[1].Text);
        FunctionResultContent result = Assert.Single(agent.History[2].Contents.OfType<FunctionResultContent>());
        Assert.Equal((call.CallId, "error: interrupted by the user"), (result.CallId, (string)result.Result!));
        Assert.True((await agent.RunAsync("Go on.")).IsDone);
    }

    [Fact]
    public async Task InterruptedInACommandEveryCallHasItsAnswer()
    {
        using var bench = new Bench();
        using var stop = new CancellationTokenSource();
        var client = new ScriptedClient([Call("list_files"), Call("run_command", ("command", "echo begun > begun; sleep 300")), Call("list_files")], [Say("Done.")]);
        CodingAgent agent = bench.Agent(client);
        Task<AgentOutcome> running = agent.RunAsync("Go.", stop.Token);
        await Until(() => File.Exists(bench.At("begun")));
        stop.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        Assert.Equal(["", "error: interrupted by the user", "error: interrupted by the user"], agent.History[^1].Contents.OfType<FunctionResultContent>().Select(result => (string)result.Result!));
        Assert.True((await agent.RunAsync("Go on.")).IsDone);
    }

    private static async Task Until(Func<bool> holds)
    {
        using var patience = new CancellationTokenSource(TimeSpan.FromMinutes(3));
        while (!holds())
            await Task.Delay(10, patience.Token);
    }
}
