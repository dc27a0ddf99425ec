using System.Diagnostics;
using System.Text.Json.Nodes;

namespace Qian.Cli.Serving;

// Streams that decode until they are left, and the time of every token of each.
internal sealed class RunningStreams : IAsyncDisposable
{
    private readonly CancellationTokenSource _leaving;
    private readonly List<long>[] _times;
    private readonly Task<ServeReply?>[] _streams;

    public RunningStreams(ServeClient client, JsonObject[] bodies, CancellationToken cancellation)
    {
        _leaving = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        _times = [.. bodies.Select(_ => new List<long>())];
        _streams = [.. bodies.Select((body, i) => client.AskAsync("/v1/completions", body, time => Add(_times[i], time), _leaving.Token))];
    }

    // Waits for one more token of each.
    public async Task NextAsync()
    {
        int[] counts = [.. _times.Select(Count)];
        while (_times.Where((times, i) => Count(times) == counts[i]).Any())
            await WaitAsync();
    }

    // Of the slowest stream, once every one has begun and there is something to tell from.
    public async Task<double> SecondsPerTokenAsync()
    {
        while (_times.Any(times => Count(times) < 4))
            await WaitAsync();
        return _times.Max(times =>
        {
            lock (times)
                return Stopwatch.GetElapsedTime(times[0], times[^1]).TotalSeconds / (times.Count - 1);
        });
    }

    // Tokens per second of all together, from `start` to now.
    public double RateSince(long start)
    {
        CheckRunning();
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        return _times.Sum(times =>
        {
            lock (times)
                return times.Count(time => time >= start);
        }) / seconds;
    }

    // Milliseconds between tokens that came one after the other in the same stream: of each gap that lies in the time, be it in part.
    public List<double> Gaps(long from, long to)
    {
        CheckRunning();
        var gaps = new List<double>();
        foreach (List<long> times in _times)
        {
            lock (times)
            {
                for (int i = 1; i < times.Count; i++)
                {
                    if (times[i] > from && times[i - 1] < to)
                        gaps.Add(Stopwatch.GetElapsedTime(times[i - 1], times[i]).TotalMilliseconds);
                }
            }
        }

        return gaps;
    }

    public async ValueTask DisposeAsync()
    {
        await _leaving.CancelAsync();
        await Task.WhenAll(_streams);
        _leaving.Dispose();
    }

    private async Task WaitAsync()
    {
        CheckRunning();
        await Task.Delay(2, _leaving.Token);
    }

    // One that has ended is no measure.
    private void CheckRunning()
    {
        if (_streams.FirstOrDefault(stream => stream.IsCompleted) is { } ended)
            throw new IOException($"a stream ended that should have gone on: {ended.Result?.Fault ?? ended.Result?.Finish}");
    }

    private static bool Add(List<long> times, long time)
    {
        lock (times)
            times.Add(time);
        return true;
    }

    private static int Count(List<long> times)
    {
        lock (times)
            return times.Count;
    }
}
