using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Qian.Inference;
using Qian.Inference.Measurement;

namespace Qian.Cli.Serving;

// What streams get of a server in this process, one token per pass (no drafts): the cost of HTTP per token, the gaps while somebody's
// long prompt is read, the tokens of many streams together. Lengths follow from the model's own rates, so that a small model and a
// large one take about the same time. Prompts are seeded ids, never the same twice; replies are one word again and again, made so by
// a bias, so that every token is an event that can be counted.
internal sealed class StreamMeasures(Engine engine, ServeClient client, bool quick, IProgress<string>? progress, CancellationToken cancellation)
{
    private const int RoundCount = 7;
    private const int PromptTokens = 64;
    private const int GapStreams = 4;
    private const int BatchStreams = 8;

    // What a window cuts off at its ends should not count for much.
    private const int WindowTokens = 24;

    private readonly int _word = WordOf(engine);
    private int _nextSeed = 20260402;

    private double WindowSeconds => quick ? 1 : 10;

    // Both sides decode the same tokens after the same prompt, whose state both find in the store.
    public async Task<OverheadReport> MeasureOverheadAsync()
    {
        int[] prompt = NewPrompt(PromptTokens);
        double pace = await ByEngineAsync(prompt, 8);
        int count = (int)Math.Clamp(WindowSeconds / 2 / pace, 12, 512);
        await ByHttpAsync(prompt, count);
        await ByEngineAsync(prompt, count);
        ForeignLoad load = ForeignLoad.Start();
        var byEngine = new double[RoundCount];
        var byHttp = new double[RoundCount];
        for (int i = 0; i < RoundCount; i++)
        {
            progress?.Report($"overhead, round {i + 1}/{RoundCount}");
            byEngine[i] = 1000 * await ByEngineAsync(prompt, count);
            byHttp[i] = 1000 * await ByHttpAsync(prompt, count);
        }

        return new OverheadReport(count, RoundCount, Statistics.Median([.. byEngine]), Statistics.Median([.. byHttp]), byEngine.Min(), byHttp.Min(), load.Share());
    }

    public async Task<GapReport> MeasureGapsAsync()
    {
        progress?.Report("gaps");
        // A prompt of a few seconds when nothing else runs.
        double rate = await ReadAsync(NewPrompt(256));
        int length = (int)Math.Clamp(rate * WindowSeconds, 256, engine.ContextLength - 64);
        double alone = await ReadAsync(NewPrompt(length));
        ForeignLoad load = ForeignLoad.Start();
        await using var streams = new RunningStreams(client, [.. Enumerable.Range(0, GapStreams).Select(_ => Endless())], cancellation);
        long before = await WindowAsync(streams);
        long begun = Stopwatch.GetTimestamp();
        progress?.Report($"gaps beside a prompt of {length} tokens");
        double beside = await ReadAsync(NewPrompt(length));
        long ended = Stopwatch.GetTimestamp();
        await streams.NextAsync();
        return new GapReport(GapStreams, length, Figures(streams.Gaps(before, begun)), Figures(streams.Gaps(begun, ended)), alone, beside, load.Share());
    }

    public async Task<BatchReport> MeasureBatchAsync()
    {
        ForeignLoad load = ForeignLoad.Start();
        double before = await RateAsync(1), total = await RateAsync(BatchStreams), after = await RateAsync(1);
        return new BatchReport(BatchStreams, before, after, total, load.Share());
    }

    // The token of every reply.
    public static int WordOf(Engine engine) => engine.Tokenizer.Encode(" the")[0];

    // Seeded ids that are whole tokens of any vocabulary.
    public static int[] Prompt(Engine engine, int length, int seed)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, length).Select(_ => random.Next(Math.Min(engine.Config.VocabularySize, engine.Tokenizer.VocabularySize) / 2))];
    }

    public static JsonObject Body(int[] prompt, int mostTokens, int word) => new()
    {
        ["model"] = "bench",
        ["prompt"] = new JsonArray([.. prompt.Select(id => (JsonNode)id)]),
        ["max_tokens"] = mostTokens,
        ["temperature"] = 0,
        ["ignore_eos"] = true,
        // A token per pass: the repeated word would be guessed, and several come at once.
        ["drafts"] = 0,
        // One word again and again is what a loop guard is there to end.
        ["loop_guard"] = false,
        ["logit_bias"] = new JsonObject { [word.ToString(CultureInfo.InvariantCulture)] = 100 },
        ["stream"] = true,
        ["stream_options"] = new JsonObject { ["include_usage"] = true },
    };

    private async Task<double> RateAsync(int streamCount)
    {
        progress?.Report($"{streamCount} streams");
        await using var streams = new RunningStreams(client, [.. Enumerable.Range(0, streamCount).Select(_ => Endless())], cancellation);
        return streams.RateSince(await WindowAsync(streams));
    }

    // Lets streams run for a window once all of them do; returns when it began.
    private async Task<long> WindowAsync(RunningStreams streams)
    {
        double pass = await streams.SecondsPerTokenAsync();
        long start = Stopwatch.GetTimestamp();
        await Task.Delay(TimeSpan.FromSeconds(Math.Max(WindowSeconds / 2, WindowTokens * pass)), cancellation);
        return start;
    }

    // Seconds per token after the first.
    private async Task<double> ByEngineAsync(int[] prompt, int count)
    {
        using Session session = engine.NewSession();
        session.Append(prompt);
        long first = 0, last = 0;
        await foreach (GeneratedToken _ in session.GenerateAsync(SamplingOptions.Greedy with { MaxTokens = count, IgnoreEos = true, LoopGuard = false, LogitBias = new Dictionary<int, float> { [_word] = 100 } }, cancellation))
        {
            last = Stopwatch.GetTimestamp();
            first = first == 0 ? last : first;
        }

        return Stopwatch.GetElapsedTime(first, last).TotalSeconds / (count - 1);
    }

    private async Task<double> ByHttpAsync(int[] prompt, int count)
    {
        var times = new List<long>();
        await AskAsync(Body(prompt, count, _word), times);
        if (times.Count < count)
            throw new IOException($"the stream of {count} tokens had {times.Count} events");
        // One more may have come, with the end.
        return Stopwatch.GetElapsedTime(times[0], times[count - 1]).TotalSeconds / (count - 1);
    }

    // Tokens per second of reading a prompt, its first token included.
    private async Task<double> ReadAsync(int[] prompt)
    {
        var times = new List<long>();
        long start = Stopwatch.GetTimestamp();
        await AskAsync(Body(prompt, 1, _word), times);
        return prompt.Length / Stopwatch.GetElapsedTime(start, times[0]).TotalSeconds;
    }

    private async Task AskAsync(JsonObject body, List<long> times)
    {
        await client.MeasureAsync(body, Came, cancellation);

        bool Came(long time)
        {
            times.Add(time);
            return true;
        }
    }

    // Goes on until it is left.
    private JsonObject Endless() => Body(NewPrompt(PromptTokens), engine.ContextLength - PromptTokens - 1, _word);

    private int[] NewPrompt(int length) => Prompt(engine, length, _nextSeed++);

    private static GapFigures Figures(List<double> gaps)
    {
        gaps.Sort();
        return new GapFigures(gaps.Count, Statistics.Median([.. gaps]), gaps[Math.Min(gaps.Count - 1, gaps.Count * 95 / 100)], gaps[^1]);
    }
}
