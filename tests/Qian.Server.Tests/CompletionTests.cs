using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Tests;
using Qian.Inference.Text;
using Qian.Kernels;

namespace Qian.Server.Tests;

// /v1/completions on a random model: raw text, tokens, scores of the prompt.
public sealed class CompletionTests(TinyModel model) : IClassFixture<TinyModel>
{
    private const string Path = "/v1/completions";

    private Task<TestServer> Start() => TestServer.StartAsync(model.Load(new EngineOptions { ThreadCount = 1 }));

    private static async Task<List<GeneratedToken>> Cold(Engine engine, int[] prompt, SamplingOptions options)
    {
        using Session session = engine.NewSession();
        session.Append(prompt);
        var tokens = new List<GeneratedToken>();
        await foreach (GeneratedToken token in session.GenerateAsync(options))
            tokens.Add(token);
        return tokens;
    }

    [Fact]
    public async Task TextAndItsTokensAreContinuedAlike()
    {
        await using TestServer server = await Start();
        int[] ids = server.Engine.Tokenizer.Encode("The quick brown fox");
        string expected = string.Concat((await Cold(server.Engine, ids, SamplingOptions.Greedy with { MaxTokens = 16 })).Select(token => token.Text));
        foreach (object prompt in (object[])["The quick brown fox", new[] { "The quick brown fox" }, ids, new[] { ids }])
        {
            JsonElement reply = await server.Post(Path, new { prompt, temperature = 0 });
            JsonElement choice = Assert.Single(reply.GetProperty("choices").EnumerateArray());
            Assert.Equal((expected, "length", "text_completion"), (choice.GetProperty("text").GetString(), choice.GetProperty("finish_reason").GetString(), reply.GetProperty("object").GetString()));
            Assert.Equal((ids.Length, 16), (reply.GetProperty("usage").GetProperty("prompt_tokens").GetInt32(), reply.GetProperty("usage").GetProperty("completion_tokens").GetInt32()));
        }

        List<StreamEvent> events = await server.Stream(Path, new { prompt = "The quick brown fox", temperature = 0, stream = true, stream_options = new { include_usage = true } });
        Assert.Equal(expected, string.Concat(events.SkipLast(1).Select(e => e.Json.GetProperty("choices")[0].GetProperty("text").GetString())));
        Assert.Equal(16, events[^1].Json.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
    }

    [Fact]
    public async Task SeveralPromptsHaveTheirOwnChoices()
    {
        await using TestServer server = await Start();
        string[] prompts = ["One", "Another text", "A third"];
        JsonElement[] choices = [.. (await server.Post(Path, new { prompt = prompts, n = 2, temperature = 0, max_tokens = 8 })).GetProperty("choices").EnumerateArray()];
        Assert.Equal(6, choices.Length);
        for (int i = 0; i < choices.Length; i++)
        {
            string expected = string.Concat((await Cold(server.Engine, server.Engine.Tokenizer.Encode(prompts[i / 2]), SamplingOptions.Greedy with { MaxTokens = 8 })).Select(token => token.Text));
            Assert.Equal((i, expected), (choices[i].GetProperty("index").GetInt32(), choices[i].GetProperty("text").GetString()));
        }
    }

    [Fact]
    public async Task TheSeedDecidesAndChoicesDiffer()
    {
        await using TestServer server = await Start();
        async Task<string[]> Ask(long seed) => [.. (await server.Post(Path, new { prompt = "Hello", n = 3, seed, temperature = 2, top_k = 0, top_p = 1, max_tokens = 24 })).GetProperty("choices").EnumerateArray().Select(choice => choice.GetProperty("text").GetString()!)];
        string[] first = await Ask(-7), again = await Ask(-7), other = await Ask(8);
        Assert.Equal(first, again);
        Assert.Equal(3, first.Distinct().Count());
        Assert.DoesNotContain(other[0], first);
    }

    [Fact]
    public async Task AnEchoedPromptIsScoredAsDecodingWould()
    {
        // In float32, so that reading in chunks and token by token differ by rounding only.
        await using TestServer server = await TestServer.StartAsync(model.Load(new EngineOptions { ThreadCount = 1, ExactArithmetic = true, KvType = KvType.F32 }));
        Engine engine = server.Engine;
        int[] ids = engine.Tokenizer.Encode(string.Concat(Enumerable.Repeat("The quick brown fox jumps over the lazy dog. ", 12)));
        Assert.True(ids.Length > 130, "more than two chunks of the delta rule");
        JsonElement choice = (await server.Post(Path, new { prompt = ids, echo = true, logprobs = 2, max_tokens = 3, temperature = 0 })).GetProperty("choices")[0];
        JsonElement logProbs = choice.GetProperty("logprobs");
        List<GeneratedToken> generated = await Cold(engine, ids, SamplingOptions.Greedy with { MaxTokens = 3, LogProbs = 2 });
        Assert.Equal(engine.Tokenizer.Decode(ids) + string.Concat(generated.Select(token => token.Text)), choice.GetProperty("text").GetString());
        foreach (string list in (string[])["tokens", "token_logprobs", "top_logprobs", "text_offset"])
            Assert.Equal(ids.Length + 3, logProbs.GetProperty(list).GetArrayLength());
        Assert.Equal(JsonValueKind.Null, logProbs.GetProperty("token_logprobs")[0].ValueKind);

        // The reply's own scores are what generation reports, to the bit; the prompt's are what forcing it token by token gives.
        for (int i = 0; i < 3; i++)
            Assert.Equal(generated[i].LogProbability!.Value, logProbs.GetProperty("token_logprobs")[ids.Length + i].GetSingle());
        using Session session = engine.NewSession();
        session.Append(ids[0]);
        double worst = 0;
        for (int i = 1; i < ids.Length; i++)
        {
            var forced = new SamplingOptions { Temperature = 0, MaxTokens = 1, LogProbs = 2, IgnoreEos = true, LogitBias = new Dictionary<int, float> { [ids[i]] = float.PositiveInfinity } };
            await foreach (GeneratedToken token in session.GenerateAsync(forced))
                worst = Math.Max(worst, Math.Abs(token.LogProbability!.Value - logProbs.GetProperty("token_logprobs")[i].GetDouble()));
        }

        Assert.InRange(worst, 0, 1e-3);
    }

    [Fact]
    public async Task APromptCanBeScoredAlone()
    {
        await using TestServer server = await Start();
        JsonElement reply = await server.Post(Path, new { prompt = new[] { "Hello there", "Good morning" }, echo = true, logprobs = 0, max_tokens = 0 });
        JsonElement[] choices = [.. reply.GetProperty("choices").EnumerateArray()];
        Assert.Equal(["Hello there", "Good morning"], choices.Select(choice => choice.GetProperty("text").GetString()));
        Assert.All(choices, choice => Assert.All(choice.GetProperty("logprobs").GetProperty("token_logprobs").EnumerateArray().Skip(1), value => Assert.True(value.GetDouble() < 0)));
        Assert.Equal(0, reply.GetProperty("usage").GetProperty("completion_tokens").GetInt32());
        List<StreamEvent> events = await server.Stream(Path, new { prompt = "Hello there", echo = true, logprobs = 0, max_tokens = 0, stream = true });
        Assert.Equal("Hello there", string.Concat(events.Select(e => e.Json.GetProperty("choices")[0].GetProperty("text").GetString())));
    }

    [Fact]
    public async Task ScoringChangesNothing()
    {
        await using TestServer server = await Start();
        string prompt = string.Concat(Enumerable.Repeat("Some text to be read. ", 20));
        object plain = new { prompt, temperature = 0, max_tokens = 24 };
        string expected = (await server.Post(Path, plain)).GetProperty("choices")[0].GetProperty("text").GetString()!;
        string echoed = (await server.Post(Path, TestServer.With(plain, ("echo", true), ("logprobs", 1)))).GetProperty("choices")[0].GetProperty("text").GetString()!;
        Assert.Equal(server.Engine.Tokenizer.Decode(server.Engine.Tokenizer.Encode(prompt)) + expected, echoed);
    }

    [Fact]
    public async Task ASuffixIsFilledInWithTheModelsOwnMarks()
    {
        await using TestServer server = await Start();
        Tokenizer tokenizer = server.Engine.Tokenizer;
        int Id(string name) => tokenizer.TryGetId(name, out int id) ? id : -1;
        int[] ids = [Id("<|fim_prefix|>"), .. tokenizer.Encode("def f("), Id("<|fim_suffix|>"), .. tokenizer.Encode("):\n"), Id("<|fim_middle|>")];
        int[] stops = [Id("<|fim_prefix|>"), Id("<|fim_suffix|>"), Id("<|fim_middle|>"), Id("<|fim_pad|>"), Id("<|repo_name|>"), Id("<|file_sep|>")];
        List<GeneratedToken> expected = await Cold(server.Engine, ids, SamplingOptions.Greedy with { MaxTokens = 12, StopTokenIds = stops });
        JsonElement reply = await server.Post(Path, new { prompt = "def f(", suffix = "):\n", temperature = 0, max_tokens = 12 });
        Assert.Equal(string.Concat(expected.Select(token => token.Text)), reply.GetProperty("choices")[0].GetProperty("text").GetString());
        Assert.Equal(ids.Length, reply.GetProperty("usage").GetProperty("prompt_tokens").GetInt32());
    }

    [Theory]
    [InlineData("prompt", """{"prompt":7}""")]
    [InlineData("prompt", """{"prompt":[]}""")]
    [InlineData("prompt[1]", """{"prompt":[1,"a"]}""")]
    [InlineData("prompt[0]", """{"prompt":[-1]}""")]
    [InlineData("prompt[0]", """{"prompt":[100000]}""")]
    [InlineData("prompt[1][0]", """{"prompt":[[1],[1.5]]}""")]
    [InlineData("prompt[0]", """{"prompt":[{}]}""")]
    [InlineData("logprobs", """{"prompt":"a","logprobs":true}""")]
    [InlineData("best_of", """{"prompt":"a","best_of":3}""")]
    [InlineData("suffix", """{"prompt":"a","suffix":[]}""")]
    [InlineData("max_tokens", """{"prompt":"a","max_tokens":-1}""")]
    public async Task ABadRequestNamesItsParameter(string parameter, string body)
    {
        await using TestServer server = await Start();
        (int status, JsonElement json) = await server.PostAny(Path, body);
        Assert.Equal((400, parameter), (status, json.GetProperty("error").GetProperty("param").GetString()));
    }

    [Fact]
    public async Task AnEmptyPromptBeginsADocument()
    {
        await using TestServer server = await Start();
        Assert.True(server.Engine.Tokenizer.TryGetId("<|endoftext|>", out int id));
        JsonElement expected = await server.Post(Path, new { prompt = new[] { id }, temperature = 0 });
        foreach (object body in (object[])[new { temperature = 0 }, new { prompt = "", temperature = 0 }, new { prompt = new[] { "" }, temperature = 0 }])
            Assert.Equal(expected.GetProperty("choices").GetRawText(), (await server.Post(Path, body)).GetProperty("choices").GetRawText());
    }
}
