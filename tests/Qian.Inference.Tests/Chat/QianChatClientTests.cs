using System.Text.Json;
using Microsoft.Extensions.AI;
using Qian.Inference.Chat;

namespace Qian.Inference.Tests.Chat;

// The engine behind Microsoft.Extensions.AI's interface, on a tiny random model.
[Trait("Tier", "All")]
public sealed class QianChatClientTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static readonly ChatMessage[] s_hello = [new ChatMessage(ChatRole.User, "Hello")];

    private static ChatOptions Greedy(int tokens = 16, bool think = false) => new()
    {
        Temperature = 0,
        MaxOutputTokens = tokens,
        AdditionalProperties = new AdditionalPropertiesDictionary { ["enable_thinking"] = think },
    };

    private static async Task<List<ChatResponseUpdate>> Collect(IAsyncEnumerable<ChatResponseUpdate> updates)
    {
        var list = new List<ChatResponseUpdate>();
        await foreach (ChatResponseUpdate update in updates)
            list.Add(update);
        return list;
    }

    private static string Text(IEnumerable<ChatResponseUpdate> updates) => string.Concat(updates.Select(update => update.Text));

    [Fact]
    public async Task AResponseIsItsStreamPutTogether()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine);
        ChatResponse response = await client.GetResponseAsync(s_hello, Greedy());
        List<ChatResponseUpdate> updates = await Collect(client.GetStreamingResponseAsync(s_hello, Greedy()));
        Assert.NotEqual("", response.Text);
        Assert.Equal(response.Text, Text(updates));
        Assert.True(updates.Count > 4);
        Assert.All(updates, update => Assert.Equal((ChatRole.Assistant, engine.Config.Name), (update.Role, update.ModelId)));
        Assert.Single(updates.Select(update => update.ResponseId).Distinct());
        Assert.NotEqual(response.ResponseId, updates[0].ResponseId);
        Assert.Single(response.Messages);
        Assert.Null(response.ConversationId);
    }

    [Fact]
    public async Task UsageAndFinishReasonComeLast()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine);
        List<ChatResponseUpdate> updates = await Collect(client.GetStreamingResponseAsync(s_hello, Greedy(tokens: 7)));
        UsageDetails usage = Assert.Single(updates[^1].Contents.OfType<UsageContent>()).Details;
        Assert.All(updates.SkipLast(1), update => Assert.Empty(update.Contents.OfType<UsageContent>()));
        Assert.Equal(ChatFinishReason.Length, updates[^1].FinishReason);
        Assert.All(updates.SkipLast(1), update => Assert.Null(update.FinishReason));
        using var chat = new ChatSession(engine, new ChatSettings { Think = false });
        int promptCount = engine.Tokenizer.Encode(chat.Render([new Message(MessageRole.User, "Hello")]), matchAddedTokens: true).Length;
        Assert.Equal((promptCount, 7L, promptCount + 7L, 0L, 0L), (usage.InputTokenCount, usage.OutputTokenCount, usage.TotalTokenCount, usage.CachedInputTokenCount, usage.ReasoningTokenCount));
    }

    [Fact]
    public async Task AModelThatEndsItsTurnStops()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine);
        ChatResponse whole = await client.GetResponseAsync(s_hello, Greedy());
        ChatOptions options = Greedy();
        options.StopSequences = [whole.Text.Substring(2, 3)];
        ChatResponse stopped = await client.GetResponseAsync(s_hello, options);
        Assert.Equal(ChatFinishReason.Stop, stopped.FinishReason);
        Assert.Equal(whole.Text[..whole.Text.IndexOf(options.StopSequences[0], StringComparison.Ordinal)], stopped.Text);
    }

    [Fact]
    public void OptionsReachTheSampler()
    {
        var options = new ChatOptions
        {
            Temperature = 0.5f,
            TopP = 0.9f,
            TopK = 7,
            FrequencyPenalty = 0.25f,
            PresencePenalty = 0.75f,
            MaxOutputTokens = 11,
            Seed = -1,
            StopSequences = ["a", "b"],
        };
        SamplingOptions sampling = ExtensionsMessages.Sampling(options);
        Assert.Equal((0.5f, 0.9f, 7, 0.25f, 0.75f, 11, ulong.MaxValue), (sampling.Temperature, sampling.TopP, sampling.TopK, sampling.FrequencyPenalty, sampling.PresencePenalty, sampling.MaxTokens, sampling.Seed));
        Assert.Equal(["a", "b"], sampling.StopStrings);
        Assert.Equal(new SamplingOptions(), ExtensionsMessages.Sampling(null));
        Assert.Equal(new SamplingOptions(), ExtensionsMessages.Sampling(new ChatOptions()));
    }

    [Fact]
    public async Task TheSeedDecides()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine);
        var texts = new List<string>();
        foreach (long seed in (long[])[5, 5, 6])
        {
            ChatOptions options = Greedy(tokens: 24);
            options.Temperature = 2;
            options.TopK = 400;
            options.Seed = seed;
            texts.Add((await client.GetResponseAsync(s_hello, options)).Text);
        }

        Assert.Equal(texts[0], texts[1]);
        Assert.NotEqual(texts[0], texts[2]);
    }

    [Fact]
    public async Task BadRequestsAreRefusedAndTheClientGoesOn()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine);
        ChatOptions hot = Greedy();
        hot.Temperature = -1;
        await Assert.ThrowsAsync<BadRequestException>(() => client.GetResponseAsync(s_hello, hot));
        await Assert.ThrowsAsync<BadRequestException>(() => client.GetResponseAsync([], Greedy()));
        await Assert.ThrowsAsync<BadRequestException>(() => client.GetResponseAsync([new ChatMessage(ChatRole.User, [new DataContent(new byte[] { 1 }, "image/png")])], Greedy()));
        await Assert.ThrowsAsync<BadRequestException>(() => client.GetResponseAsync([new ChatMessage(ChatRole.User, [new DataContent(new byte[] { 1 }, "audio/wav")])], Greedy()));
        var wrong = new ChatOptions { AdditionalProperties = new AdditionalPropertiesDictionary { ["enable_thinking"] = "yes" } };
        Assert.Contains("enable_thinking", (await Assert.ThrowsAsync<BadRequestException>(() => client.GetResponseAsync(s_hello, wrong))).Message, StringComparison.Ordinal);
        await Assert.ThrowsAsync<ArgumentNullException>(() => client.GetResponseAsync((IEnumerable<ChatMessage>)null!));
        Assert.NotEqual("", (await client.GetResponseAsync(s_hello, Greedy())).Text);
    }

    [Fact]
    public async Task ThinkingComesAsReasoning()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine);
        ChatResponse response = await client.GetResponseAsync(s_hello, Greedy(think: true));
        Assert.Equal("", response.Text);
        Assert.NotEqual("", Assert.Single(response.Messages[0].Contents.OfType<TextReasoningContent>()).Text);
        Assert.Equal(16, response.Usage!.ReasoningTokenCount);
        var none = new ChatOptions { Reasoning = new ReasoningOptions { Effort = ReasoningEffort.None }, Temperature = 0, MaxOutputTokens = 16 };
        response = await client.GetResponseAsync(s_hello, none);
        Assert.Empty(response.Messages[0].Contents.OfType<TextReasoningContent>());
        Assert.NotEqual("", response.Text);
    }

    [Fact]
    public void ToolsCallsAndResultsAreWhatTheTemplateShows()
    {
        var function = new WeatherFunction();
        var options = new ChatOptions { Instructions = "Be brief.", Tools = [function], AdditionalProperties = new AdditionalPropertiesDictionary { ["enable_thinking"] = false } };
        ChatMessage[] messages =
        [
            new ChatMessage(ChatRole.User, "Weather in Paris?"),
            new ChatMessage(ChatRole.Assistant, [new TextReasoningContent("A tool knows."), new FunctionCallContent("call_1", "weather", new Dictionary<string, object?> { ["city"] = "Paris", ["days"] = 2 })]),
            new ChatMessage(ChatRole.Tool, [new FunctionResultContent("call_1", "sunny"), new FunctionResultContent("call_2", new { degrees = 21 })]),
        ];
        using Engine engine = model.Load();
        using var chat = new ChatSession(engine, ExtensionsMessages.Settings(options));
        IReadOnlyList<Message> read = ExtensionsMessages.Read(messages, options);
        Assert.Equal(["system", "user", "assistant", "tool", "tool"], read.Select(message => message.Role));
        string prompt = chat.Render(read);
        Assert.Contains("\n\nBe brief.<|im_end|>", prompt, StringComparison.Ordinal);
        Assert.Contains("\"name\": \"weather\", \"description\": \"Tells the weather\"", prompt, StringComparison.Ordinal);
        Assert.Contains("<think>\nA tool knows.\n</think>\n\n<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call><|im_end|>", prompt, StringComparison.Ordinal);
        Assert.Contains("<|im_start|>user\n<tool_response>\nsunny\n</tool_response>\n<tool_response>\n{\"degrees\":21}\n</tool_response><|im_end|>", prompt, StringComparison.Ordinal);
        options.ToolMode = ChatToolMode.None;
        Assert.Null(ExtensionsMessages.Settings(options).Tools);
    }

    [Fact]
    public void AFinishedReplyWithCallsFinishesForThem()
    {
        Assert.Equal(ChatFinishReason.ToolCalls, ExtensionsMessages.Finish(FinishReason.Stop, calledTools: true));
        Assert.Equal(ChatFinishReason.Stop, ExtensionsMessages.Finish(FinishReason.Stop, calledTools: false));
        Assert.Equal(ChatFinishReason.Length, ExtensionsMessages.Finish(FinishReason.ContextFull, calledTools: true));
        using JsonDocument arguments = JsonDocument.Parse("""{"city": "Paris", "days": [1, 2]}""");
        var call = Assert.IsType<FunctionCallContent>(Assert.Single(ExtensionsMessages.Contents(new ChatDelta("", "", [new ToolCall("call_9", "weather", arguments.RootElement)], 1))));
        Assert.Equal(("call_9", "weather", "Paris"), (call.CallId, call.Name, call.Arguments!["city"]!.ToString()));
    }

    [Fact]
    public async Task AnEmptyReplyKeepsItsTurn()
    {
        IReadOnlyList<Message> read = ExtensionsMessages.Read([.. s_hello, new ChatMessage(ChatRole.Assistant, [new UsageContent(new UsageDetails())]), .. s_hello], null);
        Assert.Equal(["user", "assistant", "user"], read.Select(message => message.Role));
        read = ExtensionsMessages.Read([new ChatMessage(ChatRole.Tool, [new FunctionResultContent("call_1", "ok")])], null);
        Assert.Equal("tool", Assert.Single(read).Role);
        await Task.CompletedTask;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task AConversationThatGoesOnIsNotReadAgain(bool think)
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine);
        List<ChatMessage> conversation = [new ChatMessage(ChatRole.System, "Be brief."), .. s_hello];
        ChatResponse first = await client.GetResponseAsync(conversation, Greedy(think: think));
        // Something else in between: the first conversation keeps its state.
        await client.GetResponseAsync([new ChatMessage(ChatRole.User, "A title, please")], Greedy());
        conversation.AddRange(first.Messages);
        conversation.Add(new ChatMessage(ChatRole.User, "Go on"));
        ChatResponse second = await client.GetResponseAsync(conversation, Greedy(think: think));
        Assert.Equal(first.Usage!.TotalTokenCount - 1, second.Usage!.CachedInputTokenCount);
        Assert.InRange(second.Usage.InputTokenCount!.Value - second.Usage.CachedInputTokenCount!.Value, 1, 40);
    }

    [Fact]
    public async Task OldConversationsMakeRoom()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine, keptSessions: 1);
        ChatResponse first = await client.GetResponseAsync(s_hello, Greedy());
        await client.GetResponseAsync([new ChatMessage(ChatRole.User, "Something else")], Greedy());
        ChatResponse again = await client.GetResponseAsync([.. s_hello, .. first.Messages, new ChatMessage(ChatRole.User, "Go on")], Greedy());
        Assert.Equal(0, again.Usage!.CachedInputTokenCount);
    }

    [Fact]
    public async Task RequestsSideBySideGiveWhatEachGivesAlone()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine, keptSessions: 1);
        ChatMessage[] other = [new ChatMessage(ChatRole.User, string.Concat(Enumerable.Repeat("a longer question ", 20)))];
        string[] alone = [(await client.GetResponseAsync(s_hello, Greedy())).Text, (await client.GetResponseAsync(other, Greedy())).Text];
        ChatResponse[] together = await Task.WhenAll(client.GetResponseAsync(s_hello, Greedy()), client.GetResponseAsync(other, Greedy()));
        Assert.Equal(alone, together.Select(response => response.Text));
    }

    [Fact]
    public async Task CancellationEndsTheStreamAndTheClientGoesOn()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine);
        using var cancel = new CancellationTokenSource();
        ChatOptions options = Greedy(tokens: 100_000);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (ChatResponseUpdate _ in client.GetStreamingResponseAsync(s_hello, options, cancel.Token))
                cancel.Cancel();
        });
        Assert.NotEqual("", (await client.GetResponseAsync(s_hello, Greedy())).Text);
    }

    [Fact]
    public async Task DisposingFreesTheConversationsAndLeavesTheEngine()
    {
        using Engine engine = model.Load();
        var client = new QianChatClient(engine);
        await foreach (ChatResponseUpdate _ in client.GetStreamingResponseAsync(s_hello, Greedy()))
            client.Dispose();
        Assert.Equal(0, engine.Model.Pool.UsedCount);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => client.GetResponseAsync(s_hello));
        using Session session = engine.NewSession();
        session.Append("still here");
        await session.PrefillAsync();
        Assert.Equal(session.TokenCount, session.ComputedCount);
    }

    [Fact]
    public void ServicesAreFoundByType()
    {
        using Engine engine = model.Load();
        using var client = new QianChatClient(engine);
        Assert.Equal(("qian", engine.Config.Name), (client.GetService<ChatClientMetadata>()!.ProviderName, client.GetService<ChatClientMetadata>()!.DefaultModelId));
        Assert.Same(engine, client.GetService<Engine>());
        Assert.Same(client, client.GetService<IChatClient>());
        Assert.Null(client.GetService(typeof(string)));
        Assert.Null(client.GetService(typeof(Engine), "key"));
        Assert.Throws<ArgumentOutOfRangeException>(() => new QianChatClient(engine, 0));
    }

    // A tool is a name, a description and a schema.
    private sealed class WeatherFunction : AIFunction
    {
        public override string Name => "weather";

        public override string Description => "Tells the weather";

        public override JsonElement JsonSchema { get; } = JsonSerializer.SerializeToElement(new { type = "object", properties = new { city = new { type = "string" }, days = new { type = "integer" } } });

        protected override ValueTask<object?> InvokeCoreAsync(AIFunctionArguments arguments, CancellationToken cancellationToken) => new("sunny");
    }
}
