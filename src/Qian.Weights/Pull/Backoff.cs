using System.Globalization;

namespace Qian.Weights;

// A fault of the network or the server that another attempt may not meet. A disk that is full is not one.
internal sealed class PassingFaultException(string message, TimeSpan? retryAfter = null, Exception? inner = null) : IOException(message, inner)
{
    public TimeSpan? RetryAfter { get; } = retryAfter;
}

// Counts attempts that brought nothing and says how long to wait before the next: doubling with jitter, or as long as the
// server asks. Progress starts the count anew.
internal sealed class Backoff(HubSettings settings, string advice)
{
    public const string ContinuesDownload = "What arrived is kept: the same command continues there.";

    // A moment's fault is over before anybody has read of it.
    private const int SilentAttempts = 2;

    private int _fruitlessCount;

    public void Progressed() => _fruitlessCount = 0;

    // Waits, or gives up with the last fault's reason.
    public async Task WaitAsync(PassingFaultException fault, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        _fruitlessCount++;
        if (_fruitlessCount >= settings.AttemptCount)
            throw new IOException(string.Create(CultureInfo.InvariantCulture, $"{fault.Message} ({_fruitlessCount} attempts). {advice}"), fault);
        if (fault.RetryAfter > settings.LongestRetryAfter)
            throw new IOException(string.Create(CultureInfo.InvariantCulture, $"{fault.Message}; the server asks to wait {fault.RetryAfter.Value.TotalMinutes:0} minutes. {advice}"), fault);
        TimeSpan delay = fault.RetryAfter ?? Delay();
        if (_fruitlessCount >= SilentAttempts)
            settings.Note?.Invoke(string.Create(CultureInfo.InvariantCulture, $"{fault.Message}; attempt {_fruitlessCount + 1} of {settings.AttemptCount} in {Math.Ceiling(delay.TotalSeconds):0} s"));
        await settings.Wait(delay, cancellation);
    }

    private TimeSpan Delay()
    {
        double full = Math.Min(settings.LongestDelay.TotalMilliseconds, settings.FirstDelay.TotalMilliseconds * Math.Pow(2, _fruitlessCount - 1));
        return TimeSpan.FromMilliseconds(full * (0.5 + Random.Shared.NextDouble() / 2));
    }
}
