using Microsoft.Extensions.AI;
using Qian.Inference.Formats;

namespace Qian.Inference.Tests;

// Adapters at the public waist: loaded, chosen by a session, a conversation or a request, unloaded.
[Trait("Tier", "All")]
public sealed class AdapterSessionTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static readonly SamplingOptions s_greedy = new() { Temperature = 0, MaxTokens = 12, IgnoreEos = true };

    private static async Task<int[]> Ids(Session session)
    {
        var ids = new List<int>();
        await foreach (GeneratedToken token in session.GenerateAsync(s_greedy))
            ids.Add(token.Id);
        return [.. ids];
    }

    private static async Task<int[]> Answer(Engine engine, Adapter? adapter, int seed = 1)
    {
        using Session session = engine.NewSession(adapter);
        session.Append(AdaptedModel.Prompt(70, seed));
        return await Ids(session);
    }

    // A folder and a file of two different adapters for the model of `engine`.
    private static (string Peft, string Gguf) Write(TempFolder folder, Engine engine)
    {
        PeftWriter.Write(AdapterSamples.Random(engine.Config, 1, alpha: 32), engine.Config, folder.File("first"));
        GgufAdapterWriter.Write(AdapterSamples.Random(engine.Config, 2, rank: 6, alpha: 48), engine.Config, folder.File("second.gguf"));
        return (folder.File("first"), folder.File("second.gguf"));
    }

    [Fact]
    public async Task EachSessionHasItsOwn()
    {
        using var folder = new TempFolder();
        using Engine engine = model.Load();
        int[] plain = await Answer(engine, null);
        (string peft, string gguf) = Write(folder, engine);
        Adapter first = engine.LoadAdapter(peft), second = engine.LoadAdapter(gguf, "other");
        Assert.Equal([first, second], engine.Adapters);
        Assert.Equal(("first", "other", 4, 6, true), (first.Name, second.Name, first.Rank, second.Rank, first.IsLoaded));
        Assert.Equal(63, first.TargetCount);
        Assert.True(first.Bytes > 4 * 4 * 63 * 200);
        int[][] alone = [await Answer(engine, first), await Answer(engine, second), await Answer(engine, null)];
        Assert.Equal(plain, alone[2]);
        Assert.NotEqual(plain, alone[0]);
        Assert.NotEqual(plain, alone[1]);
        Assert.NotEqual(alone[0], alone[1]);
        int[][] together = await Task.WhenAll(((Adapter?[])[first, second, null]).Select(adapter => Task.Run(() => Answer(engine, adapter))));
        Assert.Equal(alone, together);
    }

    [Fact]
    public async Task AForkHasItsParents()
    {
        using var folder = new TempFolder();
        using Engine engine = model.Load();
        Adapter adapter = engine.LoadAdapter(Write(folder, engine).Peft);
        using Session session = engine.NewSession(adapter);
        session.Append(AdaptedModel.Prompt(40));
        await session.PrefillAsync();
        using Session fork = session.Fork();
        Assert.Same(adapter, fork.Adapter);
        Assert.Equal(await Ids(session), await Ids(fork));
    }

    [Fact]
    public async Task AnUnloadedAdapterServesNobodyAnew()
    {
        using var folder = new TempFolder();
        using Engine engine = model.Load(), other = model.Load();
        string path = Write(folder, engine).Peft;
        Adapter adapter = engine.LoadAdapter(path);
        Assert.Contains("another engine", Assert.Throws<BadRequestException>(() => other.NewSession(adapter)).Message, StringComparison.Ordinal);
        Session session = engine.NewSession(adapter);
        session.Append(1, 2, 3);
        IAsyncEnumerator<GeneratedToken> running = session.GenerateAsync(s_greedy).GetAsyncEnumerator();
        Assert.True(await running.MoveNextAsync());
        adapter.Dispose();
        adapter.Dispose();
        Assert.False(adapter.IsLoaded);
        Assert.Empty(engine.Adapters);
        // What runs is finished.
        int count = 1;
        while (await running.MoveNextAsync())
            count++;
        Assert.Equal(12, count);
        await running.DisposeAsync();
        foreach (Func<Task> use in (Func<Task>[])[() => Ids(session), () => Task.FromResult(session.Fork()), () => Task.FromResult(engine.NewSession(adapter))])
            Assert.Contains("was unloaded", (await Assert.ThrowsAsync<BadRequestException>(use)).Message, StringComparison.Ordinal);
        Assert.True(adapter.Values.TryHold(), "the session still holds its memory");
        adapter.Values.Release();
        session.Dispose();
        Assert.False(adapter.Values.TryHold());
        Assert.Equal("first", engine.LoadAdapter(path).Name);
    }

    [Fact]
    public void NamesAreUniqueAndNotEmpty()
    {
        using var folder = new TempFolder();
        using Engine engine = model.Load();
        (string peft, string gguf) = Write(folder, engine);
        engine.LoadAdapter(peft);
        Assert.Contains("loaded already", Assert.Throws<BadRequestException>(() => engine.LoadAdapter(gguf, "first")).Message, StringComparison.Ordinal);
        Assert.Throws<BadRequestException>(() => engine.LoadAdapter(gguf, " "));
        Assert.Throws<BadModelFileException>(() => engine.LoadAdapter(folder.File("none")));
        Assert.Single(engine.Adapters);
    }

    [Fact]
    public void TheEngineTakesItsAdaptersAlong()
    {
        using var folder = new TempFolder();
        Engine engine = model.Load();
        Adapter adapter = engine.LoadAdapter(Write(folder, engine).Peft);
        Session session = engine.NewSession(adapter);
        engine.Dispose();
        Assert.False(adapter.IsLoaded);
        Assert.Throws<ObjectDisposedException>(() => adapter.Values.TryFind(0, TensorRole.LinearQkv, out _));
        session.Dispose();
        adapter.Dispose();
    }

    [Fact]
    public async Task AConversationMayChangeIt()
    {
        using var folder = new TempFolder();
        using Engine engine = model.Load();
        Adapter adapter = engine.LoadAdapter(Write(folder, engine).Peft);
        using var chat = new ChatSession(engine, new ChatSettings { Think = false });
        (string plain, ChatUsage _) = await Send(chat, "Hello");
        chat.Settings = chat.Settings with { Adapter = adapter };
        (string _, ChatUsage changed) = await Send(chat, "And now?");
        Assert.Equal(0, changed.CachedTokens);
        (string _, ChatUsage kept) = await Send(chat, "And again?");
        Assert.True(kept.CachedTokens > changed.PromptTokens);
        using var adapted = new ChatSession(engine, new ChatSettings { Think = false, Adapter = adapter });
        Assert.NotEqual(plain, (await Send(adapted, "Hello")).Text);
        adapter.Dispose();
        await Assert.ThrowsAsync<BadRequestException>(() => Send(chat, "Still there?"));
        chat.Settings = chat.Settings with { Adapter = null };
        Assert.Equal(0, (await Send(chat, "And without?")).Usage.CachedTokens);
    }

    [Fact]
    public async Task ARequestNamesIt()
    {
        using var folder = new TempFolder();
        using Engine engine = model.Load();
        engine.LoadAdapter(Write(folder, engine).Peft);
        using var client = new QianChatClient(engine, keptSessions: 3);
        ChatResponse plain = await Ask(new ChatOptions()), unknownModel = await Ask(new ChatOptions { ModelId = "gpt-4o" });
        ChatResponse byModel = await Ask(new ChatOptions { ModelId = "first" }), byProperty = await Ask(new ChatOptions { AdditionalProperties = new() { ["adapter"] = "first" } });
        Assert.Equal([plain.Text, byModel.Text], [unknownModel.Text, byProperty.Text]);
        Assert.NotEqual(plain.Text, byModel.Text);
        Assert.Equal((engine.Config.Name, "first"), (plain.ModelId, byModel.ModelId));
        // The state of one adapter is never continued by another, though the text is the same.
        ChatMessage[] continued = [new(ChatRole.User, "Hello"), .. byModel.Messages, new(ChatRole.User, "Go on")];
        Assert.Equal(0, (await Ask(new ChatOptions(), continued)).Usage!.CachedInputTokenCount);
        Assert.True((await Ask(new ChatOptions { ModelId = "first" }, continued)).Usage!.CachedInputTokenCount > 0);
        var error = await Assert.ThrowsAsync<BadRequestException>(() => Ask(new ChatOptions { AdditionalProperties = new() { ["adapter"] = "frist" } }));
        Assert.Contains("'frist'", error.Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<BadRequestException>(() => Ask(new ChatOptions { AdditionalProperties = new() { ["adapter"] = 1 } }));

        Task<ChatResponse> Ask(ChatOptions options, params ChatMessage[] messages)
        {
            options.Temperature = 0;
            options.MaxOutputTokens = 12;
            options.Reasoning = new ReasoningOptions { Effort = ReasoningEffort.None };
            return client.GetResponseAsync(messages.Length > 0 ? messages : [new ChatMessage(ChatRole.User, "Hello")], options);
        }
    }

    private static async Task<(string Text, ChatUsage Usage)> Send(ChatSession chat, string text)
    {
        string reply = "";
        ChatUsage? usage = null;
        await foreach (ChatDelta delta in chat.SendAsync(text, new SamplingOptions { Temperature = 0, MaxTokens = 12 }))
        {
            reply += delta.Text;
            usage = delta.Usage ?? usage;
        }

        return (reply, usage!);
    }
}
