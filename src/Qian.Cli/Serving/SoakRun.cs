using System.Diagnostics;
using System.Text.Json.Nodes;
using Qian.Inference.Measurement;

namespace Qian.Cli.Serving;

// Many clients at once, for minutes: each takes one script after the other, streamed or whole, and leaves some of them at a random
// moment. Every reply that comes to its end must be the one that the script got when it was asked alone of a server that knew nothing.
internal sealed class SoakRun(SoakScript[] scripts, ServeReply[][] expected, SoakRequest request)
{
    private const int MostTold = 10;

    private readonly Lock _lock = new();
    private readonly List<string> _faults = [];
    private int _finishedCount;
    private int _leftCount;
    private int _faultCount;
    private int _differingCount;
    private int _refusedCount;
    private long _outputTokens;
    private long _promptTokens;
    private long _cachedTokens;

    // The replies of each script, one request at a time.
    public static async Task<ServeReply[][]> AskColdAsync(ServeClient client, SoakScript[] scripts, IProgress<string>? progress, CancellationToken cancellation)
    {
        var expected = new ServeReply[scripts.Length][];
        for (int i = 0; i < scripts.Length; i++)
        {
            progress?.Report($"asking alone {i + 1}/{scripts.Length}");
            expected[i] = new ServeReply[scripts[i].TurnCount];
            for (int turn = 0; turn < scripts[i].TurnCount; turn++)
            {
                ServeReply reply = await client.AskAsync(scripts[i].Path, scripts[i].Body(turn, expected[i], streams: false), cancellation: cancellation) ?? throw new OperationCanceledException(cancellation);
                if (reply.Fault is not null)
                    throw new IOException($"{scripts[i].Name} cannot be asked: {reply.Fault}");
                expected[i][turn] = reply;
            }
        }

        return expected;
    }

    public async Task<SoakReport> RunAsync(Uri address, bool isOwnServer, IProgress<string>? progress, CancellationToken cancellation)
    {
        ForeignLoad load = ForeignLoad.Start();
        using var watch = new MemoryWatch();
        long start = Stopwatch.GetTimestamp();
        using var client = new ServeClient(address, request.Key);
        Task[] clients = [.. Enumerable.Range(0, request.ClientCount).Select(index => Task.Run(() => RunClientAsync(index, client, start, cancellation), CancellationToken.None))];
        Task all = Task.WhenAll(clients);
        while (await Task.WhenAny(all, Task.Delay(TimeSpan.FromSeconds(5), CancellationToken.None)) != all)
            progress?.Report(FormattableString.Invariant($"{request.ClientCount} clients, {Stopwatch.GetElapsedTime(start).TotalSeconds:0} s: {_finishedCount} replies, {_leftCount} left, {_differingCount} differ, {_faultCount} failed"));
        await all;
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        cancellation.ThrowIfCancellationRequested();
        return new SoakReport
        {
            ClientCount = request.ClientCount,
            Seconds = seconds,
            FinishedCount = _finishedCount,
            LeftCount = _leftCount,
            DifferingCount = _differingCount,
            FaultCount = _faultCount,
            RefusedCount = _refusedCount,
            OutputTokens = _outputTokens,
            PromptTokens = _promptTokens,
            CachedTokens = _cachedTokens,
            Faults = _faults,
            HeldPlaces = await HeldPlacesAsync(client, cancellation),
            Memory = isOwnServer ? watch.Growth() : null,
            ForeignShare = load.Share(),
        };
    }

    // Who left frees its place within a step; a second is many.
    private static async Task<long> HeldPlacesAsync(ServeClient client, CancellationToken cancellation)
    {
        long held = 0;
        for (int i = 0; i < 100 && (held = await client.MetricAsync("qian_places_taken", cancellation)) > 0; i++)
            await Task.Delay(50, cancellation);
        return held;
    }

    private async Task RunClientAsync(int clientIndex, ServeClient client, long start, CancellationToken cancellation)
    {
        var random = new Random(1000 + clientIndex);
        while (!cancellation.IsCancellationRequested && Stopwatch.GetElapsedTime(start) < request.Time)
        {
            int which = random.Next(scripts.Length);
            var replies = new List<ServeReply>();
            while (replies.Count < scripts[which].TurnCount)
            {
                if (await AskAsync(client, which, replies, random, cancellation) is not { } reply)
                    break;
                replies.Add(reply);
            }
        }
    }

    // Null when the conversation cannot go on.
    private async Task<ServeReply?> AskAsync(ServeClient client, int which, List<ServeReply> replies, Random random, CancellationToken cancellation)
    {
        SoakScript script = scripts[which];
        bool streams = random.Next(3) > 0;
        JsonObject body = script.Body(replies.Count, replies, streams);
        // A streaming client leaves after some events, or, as one that waits for a whole reply, after some time.
        int leaveAfter = streams && random.Next(5) == 0 ? random.Next(1, 30) : int.MaxValue;
        using var leaving = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        if (leaveAfter == int.MaxValue && random.Next(8) == 0)
            leaving.CancelAfter(random.Next(1, 3000));
        ServeReply? reply = await client.AskAsync(script.Path, body, _ => --leaveAfter > 0, leaving.Token);
        if (reply is null)
        {
            Interlocked.Increment(ref _leftCount);
            return null;
        }

        if (reply.Fault is not null)
        {
            Tell(ref _faultCount, $"{script.Name}, turn {replies.Count}{(streams ? ", streamed" : "")}: {reply.Fault}");
            if (reply.Fault.StartsWith("status 429", StringComparison.Ordinal))
                Interlocked.Increment(ref _refusedCount);
            return null;
        }

        Interlocked.Increment(ref _finishedCount);
        Interlocked.Add(ref _outputTokens, reply.OutputCount);
        Interlocked.Add(ref _promptTokens, reply.PromptCount);
        Interlocked.Add(ref _cachedTokens, reply.CachedCount);
        ServeReply alone = expected[which][replies.Count];
        if (reply.Said == alone.Said)
            return reply;
        Tell(ref _differingCount, $"{script.Name}, turn {replies.Count}{(streams ? ", streamed" : "")} ({reply.CachedCount} of {reply.PromptCount} tokens cached; alone {alone.PromptCount}): said {JsonOutput.Quote(reply.Said)}, alone {JsonOutput.Quote(alone.Said)}");
        return null;
    }

    private void Tell(ref int count, string what)
    {
        lock (_lock)
        {
            count++;
            if (_faults.Count < MostTold)
                _faults.Add(what);
        }
    }
}
