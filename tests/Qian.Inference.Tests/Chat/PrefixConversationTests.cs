using Qian.Inference.Chat;
using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Chat;

// A conversation that is sent whole with every turn, as clients of a server do: each turn reads only what is new, and says what
// a fresh engine says.
[Trait("Tier", "All")]
public sealed class PrefixConversationTests(TinyModel model) : IClassFixture<TinyModel>
{
    private const int Turns = 6;

    private static SamplingOptions Ending(Engine engine, int turn) => new()
    {
        Temperature = 1,
        TopK = 0,
        TopP = 1,
        Seed = (ulong)turn,
        MaxTokens = 60,
        ThinkingBudget = 8,
        LogitBias = new Dictionary<int, float> { [Id(engine, "<|im_end|>")] = 4, [Id(engine, "<|endoftext|>")] = -100 },
    };

    private static int Id(Engine engine, string name) => engine.Tokenizer.TryGetId(name, out int id) ? id : throw new ArgumentException(name);

    [Theory]
    [InlineData(true, true)]
    [InlineData(false, true)]
    [InlineData(true, false)]
    public async Task ATurnReadsOnlyWhatIsNew(bool thinks, bool preserves)
    {
        using Engine warm = model.Load(new EngineOptions { PrefixCacheBytes = 256 << 20, ThreadCount = 1 }), cold = model.Load(new EngineOptions { ThreadCount = 1 });
        var settings = new ChatSettings { System = string.Concat(Enumerable.Repeat("You are careful. ", 30)), Think = thinks, PreserveThinking = preserves };
        var messages = new List<Message>();
        int known = 0;
        for (int turn = 0; turn < Turns; turn++)
        {
            messages.Add(new Message(MessageRole.User, $"Question {turn}: what follows?"));
            using var chat = new ChatSession(warm, settings);
            (Message reply, ChatUsage usage, int[] tokens) = await Send(chat, messages, Ending(warm, turn));
            if (preserves)
                Assert.Equal(known, usage.CachedTokens);
            else if (turn > 0)
                Assert.InRange(usage.PromptTokens - usage.CachedTokens, 1, 260);
            if (preserves && turn > 0)
                Assert.Equal(PrefixMissReason.None, usage.Prefix!.Reason);
            // What the cold engine does with the same tokens.
            using Session fresh = cold.NewSession();
            fresh.Append(tokens.AsSpan(0, usage.PromptTokens));
            var ids = new List<int>();
            await foreach (GeneratedToken token in fresh.GenerateAsync(Ending(cold, turn), thinks ? SamplingMode.Thinking : SamplingMode.NonThinking, thinks, CancellationToken.None))
                ids.Add(token.Id);
            Assert.Equal(tokens.Skip(usage.PromptTokens), ids);
            known = usage.PromptTokens + usage.OutputTokens - 1;
            // The client keeps no thinking, and trims.
            messages.Add(new Message(MessageRole.Assistant, reply.Text.Trim()));
        }
    }

    [Fact]
    public async Task ARestartedEngineKnowsTheConversation()
    {
        using var folder = new TempFolder();
        var options = new EngineOptions { PrefixCacheBytes = 256 << 20, PrefixDirectory = folder.File("prefixes"), ThreadCount = 1 };
        var messages = new List<Message>();
        int known = 0;
        for (int turn = 0; turn < 3; turn++)
        {
            using Engine engine = model.Load(options);
            using var chat = new ChatSession(engine);
            messages.Add(new Message(MessageRole.User, $"Question {turn}"));
            (Message reply, ChatUsage usage, int[] _) = await Send(chat, messages, Ending(engine, turn));
            Assert.Equal(known, usage.CachedTokens);
            known = usage.PromptTokens + usage.OutputTokens - 1;
            messages.Add(new Message(MessageRole.Assistant, reply.Text));
        }
    }

    [Fact]
    public async Task AChangedLineAtTheBeginningIsNamed()
    {
        using Engine engine = model.Load(new EngineOptions { PrefixCacheBytes = 256 << 20, ThreadCount = 1 });
        ChatUsage? usage = null;
        foreach (string day in (string[])["21", "22"])
        {
            using var chat = new ChatSession(engine, new ChatSettings { System = $"Be brief.\nToday's date: 2026-11-{day}\nAnswer in verse.", Think = false });
            (Message _, usage, int[] _) = await Send(chat, [new Message(MessageRole.User, "Hello")], SamplingOptions.Greedy with { MaxTokens = 4, IgnoreEos = true });
        }

        Assert.Equal((PrefixMissReason.Diverged, "Today's date"), (usage!.Prefix!.Reason, usage.Prefix.VolatileLine));
        Assert.Equal(usage.CachedTokens, usage.Prefix.CachedCount);
        Assert.InRange(usage.Prefix.TokenIndex, 5, usage.PromptTokens);
    }

    private static async Task<(Message Reply, ChatUsage Usage, int[] Tokens)> Send(ChatSession chat, IReadOnlyList<Message> messages, SamplingOptions options)
    {
        ChatUsage? usage = null;
        await foreach (ChatDelta delta in chat.ReplyAsync(messages, options))
            usage = delta.Usage;
        return (chat.Messages[^1], usage!, [.. chat.Tokens]);
    }
}
