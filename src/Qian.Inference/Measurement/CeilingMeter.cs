using System.Diagnostics;
using Qian.Kernels;

namespace Qian.Inference.Measurement;

// Samples of the machine's ceilings, taken with the model's own threads between the samples of a point, so that both see the
// same neighbours, clock and temperature. Owns the read buffer.
internal sealed class CeilingMeter : IDisposable
{
    private const long LargestBuffer = 2L << 30;
    private const long SmallestBuffer = 256L << 20;
    private const long QuickBuffer = 64L << 20;
    private const int FirstRounds = 2000;

    private readonly NativeBuffer _buffer;
    private readonly ThreadTeam _team;
    private readonly double _productSeconds;
    private readonly int _readCount;
    private readonly ProductCeiling _int8;
    private readonly ProductCeiling _float32;
    private readonly int _int8Rounds;
    private readonly int _float32Rounds;
    private readonly List<double> _reads = [];
    private readonly List<double> _int8Samples = [];
    private readonly List<double> _float32Samples = [];

    public CeilingMeter(ThreadTeam team, long freeBytes, bool quick, CancellationToken cancellation = default)
    {
        _team = team;
        _productSeconds = quick ? 0.02 : 0.1;
        _buffer = NativeBuffer.Allocate(quick ? QuickBuffer : Math.Clamp(freeBytes / 4, SmallestBuffer, LargestBuffer) & ~((1L << 20) - 1), hugePages: true);
        _readCount = quick ? 1 : (int)Math.Clamp(LargestBuffer / _buffer.Bytes, 1, 8);
        // Written once: pages that were never written are all one page of zeros, which sits in the cache.
        const int part = 1 << 20;
        for (long at = 0; at < _buffer.Bytes; at += part)
        {
            // Gigabytes of memory that is new take seconds.
            if (cancellation.IsCancellationRequested)
                _buffer.Dispose();
            cancellation.ThrowIfCancellationRequested();
            _buffer.Span<byte>(at, (int)Math.Min(part, _buffer.Bytes - at)).Fill(1);
        }

        ReadCeiling.Read(_buffer, team);
        (_int8, _int8Rounds) = Fastest(ProductCeiling.Int8);
        (_float32, _float32Rounds) = Fastest(ProductCeiling.Float32);
        // So that a run in which no point is affordable has ceilings to report.
        Sample();
    }

    public long BufferBytes => _buffer.Bytes;

    public BenchCeilings Medians => new(Statistics.Median(_reads), Statistics.Median(_int8Samples), _int8.Form, Statistics.Median(_float32Samples), _float32.Form);

    // One sample of each ceiling: GB/s and GMAC/s.
    public CeilingSample Sample()
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < _readCount; i++)
            ReadCeiling.Read(_buffer, _team);
        double read = _readCount * ReadCeiling.ReadBytes(_buffer.Bytes) / Stopwatch.GetElapsedTime(start).TotalSeconds / 1e9;
        var sample = new CeilingSample(read, Gmacs(_int8, _int8Rounds), Gmacs(_float32, _float32Rounds));
        _reads.Add(sample.Read);
        _int8Samples.Add(sample.Int8);
        _float32Samples.Add(sample.Float32);
        return sample;
    }

    public void Dispose() => _buffer.Dispose();

    // The fastest form, and the rounds that take about as long as a sample should. Best of three in turns, since a moment of
    // somebody else's work must not decide it.
    private (ProductCeiling Form, int Rounds) Fastest(IReadOnlyList<ProductCeiling> forms)
    {
        int[] rounds = [.. forms.Select(RoundsFor)];
        int best = 0;
        double most = 0;
        for (int i = 0; i < 3 * forms.Count; i++)
        {
            double gmacs = Gmacs(forms[i % forms.Count], rounds[i % forms.Count]);
            if (gmacs > most)
                (best, most) = (i % forms.Count, gmacs);
        }

        return (forms[best], rounds[best]);
    }

    private int RoundsFor(ProductCeiling form)
    {
        int rounds = FirstRounds;
        while (Seconds(form, rounds) < _productSeconds / 2 && rounds < 1 << 28)
            rounds *= 2;
        return rounds;
    }

    private double Seconds(ProductCeiling form, int rounds)
    {
        long start = Stopwatch.GetTimestamp();
        form.Run(rounds, _team);
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    private double Gmacs(ProductCeiling form, int rounds)
    {
        long start = Stopwatch.GetTimestamp();
        long macs = form.Run(rounds, _team);
        return macs / Stopwatch.GetElapsedTime(start).TotalSeconds / 1e9;
    }
}

internal readonly record struct CeilingSample(double Read, double Int8, double Float32);

internal static class Statistics
{
    public static double Median(IReadOnlyList<double> values)
    {
        if (values.Count == 0)
            return double.NaN;
        double[] sorted = [.. values.Order()];
        int half = sorted.Length / 2;
        return sorted.Length % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    }
}
