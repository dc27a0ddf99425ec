namespace Qian.Cli;

// One line on stderr while a long prompt is read, gone when the first token comes. Only for a person: never into a pipe, and
// not before two seconds have passed.
internal sealed class PrefillProgress : IDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan s_interval = TimeSpan.FromSeconds(0.5);

    private readonly Func<(int Computed, int Total)> _state;
    private readonly Timer? _timer;
    private readonly Lock _lock = new();
    private readonly long _start = System.Diagnostics.Stopwatch.GetTimestamp();
    private readonly int _first;
    private int _width;
    private bool _done;

    public PrefillProgress(Func<(int Computed, int Total)> state)
    {
        _state = state;
        _first = state().Computed;
        if (!Console.IsErrorRedirected)
            _timer = new Timer(_ => Show(), null, s_patience, s_interval);
    }

    // The first token is here.
    public void Dispose()
    {
        lock (_lock)
        {
            if (_done)
                return;
            _done = true;
            _timer?.Dispose();
            if (_width > 0)
                Console.Error.Write($"\r{new string(' ', _width)}\r");
        }
    }

    private void Show()
    {
        (int computed, int total) = _state();
        lock (_lock)
        {
            if (_done || computed >= total)
                return;
            double seconds = System.Diagnostics.Stopwatch.GetElapsedTime(_start).TotalSeconds;
            double rate = (computed - _first) / seconds;
            string left = rate > 0 ? FormattableString.Invariant($", {rate:0.0} tokens/s, {TimeSpan.FromSeconds((total - computed) / rate):m\\:ss} left") : "";
            string line = $"reading the prompt: {computed} of {total} tokens{left}";
            Console.Error.Write($"\r{line.PadRight(_width)}");
            _width = Math.Max(_width, line.Length);
        }
    }
}
