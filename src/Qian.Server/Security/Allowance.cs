using System.Diagnostics;
using Qian.Server.Http;

namespace Qian.Server.Security;

// How much of the server one key may have: so many requests at a time, and so many begun per minute. The latter is a bucket
// that fills evenly, so a burst is served at once and then the pace holds.
internal sealed class Allowance(int? perMinute, int? concurrent)
{
    private readonly Lock _lock = new();
    private double _left = perMinute ?? 0;
    private long _filledAt = Stopwatch.GetTimestamp();
    private int _runningCount;

    public int? PerMinute => perMinute;

    public int? Concurrent => concurrent;

    // Dispose when the request has ended. Throws the fault of a limit that is reached.
    public IDisposable Enter()
    {
        lock (_lock)
        {
            if (concurrent is { } most && _runningCount >= most)
                throw RequestFault.Limited($"This key may have {most} requests at a time, and has them.", 1);
            if (perMinute is { } rate)
                Spend(rate);
            _runningCount++;
        }

        return new Lease(this);
    }

    // Requests per minute, how many of them may begin at once, and when all of them may again. Null without a rate.
    public (int Limit, int Remaining, TimeSpan Reset)? Rate()
    {
        if (perMinute is not { } rate)
            return null;
        lock (_lock)
        {
            Fill(rate);
            return (rate, (int)_left, TimeSpan.FromSeconds((rate - _left) / PerSecond(rate)));
        }
    }

    private static double PerSecond(int rate) => rate / 60.0;

    private void Fill(int rate)
    {
        long now = Stopwatch.GetTimestamp();
        _left = Math.Min(rate, _left + (Stopwatch.GetElapsedTime(_filledAt, now).TotalSeconds * PerSecond(rate)));
        _filledAt = now;
    }

    private void Spend(int rate)
    {
        Fill(rate);
        if (_left < 1)
            throw RequestFault.Limited($"This key may begin {rate} requests per minute.", (int)Math.Ceiling((1 - _left) / PerSecond(rate)));
        _left--;
    }

    private sealed class Lease(Allowance allowance) : IDisposable
    {
        public void Dispose()
        {
            lock (allowance._lock)
                allowance._runningCount--;
        }
    }
}
