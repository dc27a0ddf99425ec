using System.Diagnostics;
using Qian.Inference.Measurement;

namespace Qian.Cli.Serving;

// The working set of this process, once per second. What it takes in its first minute is its own affair; afterwards it should stay.
internal sealed class MemoryWatch : IDisposable
{
    private const int SettlingSeconds = 60;
    private const int LeastSamples = 20;

    private readonly List<long> _samples = [];
    private readonly Timer _timer;

    public MemoryWatch() => _timer = new Timer(_ => Sample(), null, TimeSpan.Zero, TimeSpan.FromSeconds(1));

    public void Dispose() => _timer.Dispose();

    // Null while it has not run long enough past the first minute. Medians of quarters: single samples hold what was not collected yet.
    public MemoryGrowth? Growth()
    {
        long[] samples;
        lock (_samples)
            samples = [.. _samples];
        if (samples.Length < SettlingSeconds + LeastSamples)
            return null;
        int quarter = (samples.Length - SettlingSeconds) / 4;
        long first = Median(samples.AsSpan(SettlingSeconds, quarter)), last = Median(samples.AsSpan(samples.Length - quarter));
        return new MemoryGrowth(Median(samples.AsSpan(0, SettlingSeconds)), first, last, samples[SettlingSeconds..].Max());
    }

    private void Sample()
    {
        using var process = Process.GetCurrentProcess();
        lock (_samples)
            _samples.Add(process.WorkingSet64);
    }

    private static long Median(ReadOnlySpan<long> values) => (long)Statistics.Median([.. values.ToArray().Select(value => (double)value)]);
}

// Bytes: the median of the first minute, of the first and the last quarter of the time after it, and the most after it.
internal sealed record MemoryGrowth(long FirstMinuteBytes, long SettledBytes, long EndBytes, long PeakBytes)
{
    public long GrownBytes => EndBytes - SettledBytes;
}
