using Microsoft.Extensions.AI;
using static Qian.Agent.Tests.ScriptedClient;

namespace Qian.Agent.Tests;

// A history that becomes too long: when it gives way to a summary, what is left of it, and what happens where there is no summary.
public sealed class CompactionTests
{
    private static UsageContent Used(long prompt, long reply) => new(new UsageDetails { InputTokenCount = prompt, OutputTokenCount = reply });

    [Fact]
    public async Task NearTheLimitTheOlderPartGivesWayToTheModelsSummary()
    {
        using var bench = new Bench();
        bench.Put("a.txt", "one\n");
        var client = new ScriptedClient(
            [Call("list_files"), Used(100, 10)],
            [Call("read_file", ("path", "a.txt")), Used(900, 50)],
            [Think("What was it?"), Say(" The user wants a change; a.txt is the only file. ")],
            [Call("edit_file", ("path", "a.txt"), ("old", "one"), ("new", "two")), Used(300, 20)],
            [Say("Done."), Used(330, 5)]);
        CodingAgent agent = bench.Agent(client, compactAt: 900);
        var events = new List<AgentEvent>();
        agent.Happened += events.Add;
        Assert.Equal(new AgentOutcome(true, "Done."), await agent.RunAsync("Change it."));
        Assert.Equal("two\n", File.ReadAllText(bench.At("a.txt")));
        // The wish for a summary comes after all that is summarised, and leaves no trace.
        Assert.Equal(["user", "assistant", "tool", "user"], client.Requests[2].Select(message => message.Role.Value));
        Assert.Equal(client.Requests[1][..3], client.Requests[2][..3]);
        // The task stays in the user's words, the last step as it was.
        Assert.Equal("Change it.\n\n(What was said and done before, in short:)\nThe user wants a change; a.txt is the only file.", client.Requests[3][0].Text);
        Assert.Equal(["user", "assistant", "tool"], client.Requests[3].Select(message => message.Role.Value));
        Assert.Equal("one", Assert.Single(client.Requests[3][2].Contents.OfType<FunctionResultContent>()).Result);
        // From there it grows as before.
        Assert.Equal(client.Requests[3], client.Requests[4][..3]);
        Assert.Equal(["user", "assistant", "tool", "assistant", "tool", "assistant"], agent.History.Select(message => message.Role.Value));
        HistoryCompacted compacted = Assert.Single(events.OfType<HistoryCompacted>());
        Assert.Equal((3, "The user wants a change; a.txt is the only file."), (compacted.MessageCount, compacted.Summary));
        // Its words are no answer to the user.
        Assert.Equal(["Done."], events.OfType<TextDelta>().Select(delta => delta.Text));
        Assert.Empty(events.OfType<ReasoningDelta>());
    }

    [Fact]
    public async Task WithoutALimitNothingIsReplaced()
    {
        using var bench = new Bench();
        var client = new ScriptedClient([Call("list_files"), Used(1_000_000, 10)], [Call("list_files"), Used(2_000_000, 10)], [Say("Done."), Used(3_000_000, 10)]);
        CodingAgent agent = bench.Agent(client);
        Assert.True((await agent.RunAsync("Go.")).IsDone);
        Assert.Equal([1, 3, 5], client.Requests.Select(request => request.Length));
    }

    // What tools gave since the model last counted counts too.
    [Fact]
    public async Task ALongResultBringsTheLimitNear()
    {
        using var bench = new Bench();
        bench.Put("long.txt", new string('x', 3000));
        var client = new ScriptedClient([Call("list_files"), Used(10, 1)], [Call("read_file", ("path", "long.txt")), Used(20, 1)], [Say("In short.")], [Say("Done.")]);
        CodingAgent agent = bench.Agent(client, compactAt: 900);
        Assert.True((await agent.RunAsync("Go.")).IsDone);
        Assert.Equal("Go.\n\n(What was said and done before, in short:)\nIn short.", agent.History[0].Text);
    }

    [Fact]
    public async Task ATaskThatWasNotBegunIsNotSummarised()
    {
        using var bench = new Bench();
        var client = new ScriptedClient([Call("list_files"), Used(10, 1)], [Say("One is done."), Used(950, 10)], [Say("One was done.")], [Say("Two is done."), Used(100, 1)]);
        CodingAgent agent = bench.Agent(client, compactAt: 900);
        await agent.RunAsync("One.");
        await agent.RunAsync("Two.");
        Assert.Equal(["(What was said and done before, in short:)\nOne was done.", "Two.", "Two is done."], agent.History.Select(message => message.Text));
    }

    // Asked once, not before every step; the context's own limit then ends the task.
    [Theory]
    [InlineData("")]
    [InlineData("  ")]
    public async Task AModelThatGivesNoSummaryIsNotAskedAgain(string words)
    {
        using var bench = new Bench();
        var client = new ScriptedClient([Call("list_files"), Used(1000, 1)], [Call("list_files"), Used(1000, 1)], [Say(words), Call("list_files")], [Call("list_files"), Used(1000, 1)], [Say("Done.")]);
        CodingAgent agent = bench.Agent(client, compactAt: 900);
        Assert.True((await agent.RunAsync("Go.")).IsDone);
        Assert.Equal([1, 3, 4, 5, 7], client.Requests.Select(request => request.Length));
        Assert.Equal(8, agent.History.Count);
    }

    [Fact]
    public async Task ItCanBeAskedForAtAnyTime()
    {
        using var bench = new Bench();
        var client = new ScriptedClient([Call("list_files")], [Say("Done.")], [Say("All is done.")], [Say("Yes.")]);
        CodingAgent agent = bench.Agent(client);
        Assert.False(await agent.CompactAsync());
        await agent.RunAsync("Go.");
        Assert.True(await agent.CompactAsync());
        Assert.Equal(["Go.\n\n(What was said and done before, in short:)\nAll is done.", "Done."], agent.History.Select(message => message.Text));
        Assert.False(await agent.CompactAsync());
        Assert.True((await agent.RunAsync("Is it?")).IsDone);
    }
}
