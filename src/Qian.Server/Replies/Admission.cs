using System.Diagnostics;
using Qian.Server.Http;

namespace Qian.Server.Replies;

// Places for replies that are generated side by side, first come first served. A request takes several places at once when
// it asks for several choices. Who finds the queue full is turned away with a guess of when to come back.
internal sealed class Admission
{
    private readonly Lock _lock = new();
    private readonly LinkedList<Waiter> _waiting = new();
    private readonly int _queueLimit;
    private int _freeCount;
    private double _secondsPerRequest = 1;   // running mean of how long places are held

    public Admission(int placeCount, int queueLimit)
    {
        PlaceCount = placeCount;
        _freeCount = placeCount;
        _queueLimit = queueLimit;
    }

    public int PlaceCount { get; }

    public int TakenCount
    {
        get
        {
            lock (_lock)
                return PlaceCount - _freeCount;
        }
    }

    public int WaitingCount
    {
        get
        {
            lock (_lock)
                return _waiting.Count;
        }
    }

    // The fault comes at once, before the task: nobody starts a reply that has no place in the queue.
    public Task<Ticket> EnterAsync(int placeCount, CancellationToken cancellation)
    {
        var waiter = new Waiter(Math.Min(placeCount, PlaceCount));
        LinkedListNode<Waiter> node;
        lock (_lock)
        {
            if (_waiting.Count == 0 && _freeCount >= waiter.PlaceCount)
                return Task.FromResult(Take(waiter.PlaceCount));
            if (_waiting.Count >= _queueLimit)
                throw RequestFault.Busy(_waiting.Count, Math.Clamp((int)Math.Ceiling(_secondsPerRequest * (_waiting.Count + 1) / PlaceCount), 1, 600));
            node = _waiting.AddLast(waiter);
        }

        return WaitAsync(node, cancellation);
    }

    private async Task<Ticket> WaitAsync(LinkedListNode<Waiter> node, CancellationToken cancellation)
    {
        using CancellationTokenRegistration registration = cancellation.UnsafeRegister(_ => Leave(node, cancellation), null);
        return await node.Value.Admitted.Task.ConfigureAwait(false);
    }

    private void Leave(LinkedListNode<Waiter> node, CancellationToken cancellation)
    {
        lock (_lock)
        {
            // Admitted in the same moment: the ticket is on its way and will be given back.
            if (node.List is null)
                return;
            _waiting.Remove(node);
            Admit();
        }

        node.Value.Admitted.TrySetCanceled(cancellation);
    }

    private void Admit()
    {
        while (_waiting.First is { } first && _freeCount >= first.Value.PlaceCount)
        {
            _waiting.RemoveFirst();
            first.Value.Admitted.TrySetResult(Take(first.Value.PlaceCount));
        }
    }

    private Ticket Take(int placeCount)
    {
        _freeCount -= placeCount;
        return new Ticket(this, placeCount);
    }

    private void GiveBack(Ticket ticket)
    {
        lock (_lock)
        {
            _secondsPerRequest += (Stopwatch.GetElapsedTime(ticket.TakenAt).TotalSeconds - _secondsPerRequest) / 8;
            _freeCount += ticket.PlaceCount;
            Admit();
        }
    }

    internal sealed class Ticket(Admission admission, int placeCount) : IDisposable
    {
        private bool _isGivenBack;

        public int PlaceCount => placeCount;

        public long TakenAt { get; } = Stopwatch.GetTimestamp();

        public void Dispose()
        {
            if (_isGivenBack)
                return;
            _isGivenBack = true;
            admission.GiveBack(this);
        }
    }

    private sealed class Waiter(int placeCount)
    {
        public int PlaceCount => placeCount;

        // Continuations must not run under the lock.
        public TaskCompletionSource<Ticket> Admitted { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
