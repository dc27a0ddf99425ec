namespace Qian.Cli;

// What Ctrl-C stops: the innermost scope that is open (one reply of a conversation), else the whole program. A second
// Ctrl-C while something is still stopping ends the process at once.
internal sealed class InterruptScope : IDisposable
{
    private static readonly Stack<InterruptScope> s_open = new();

    private readonly CancellationTokenSource _source;

    public InterruptScope(CancellationToken outer = default)
    {
        _source = CancellationTokenSource.CreateLinkedTokenSource(outer);
        lock (s_open)
            s_open.Push(this);
    }

    public CancellationToken Token => _source.Token;

    // True when something was told to stop.
    public static bool InterruptInnermost()
    {
        lock (s_open)
        {
            if (!s_open.TryPeek(out InterruptScope? scope) || scope._source.IsCancellationRequested)
                return false;
            scope._source.Cancel();
            return true;
        }
    }

    public void Dispose()
    {
        lock (s_open)
        {
            if (s_open.TryPeek(out InterruptScope? top) && ReferenceEquals(top, this))
                s_open.Pop();
        }

        _source.Dispose();
    }
}
