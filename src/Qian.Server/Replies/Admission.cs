using System.Diagnostics;
using Qian.Server.Http;

namespace Qian.Server.Replies;

// Places for replies that are generated side by side. Who waits is let in by priority, lower numbers first; of the same priority
// whoever's key holds the fewest places, so that one client's hundred requests do not keep another's one waiting; then first
// come, first served. Who is next waits for as many places as it needs, and nobody overtakes it meanwhile but by these rules: a
// request for many places comes to its turn. Nobody waits for ever: who was overtaken often enough is next, whatever the others' priority. Who finds the
// queue full is turned away with a guess of when to come back.
internal sealed class Admission
{
    // How often every place may go to somebody who came later.
    private const int MostRoundsOvertaken = 4;

    private readonly Lock _lock = new();
    private readonly LinkedList<Waiter> _waiting = new();
    private readonly Dictionary<string, int> _held = new(StringComparer.Ordinal);   // places by caller, none with 0
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

    // The fault comes at once, before the task: nobody starts a reply that has no place in the queue. A request takes several
    // places at once when it asks for several choices.
    public Task<Ticket> EnterAsync(int placeCount, int priority, string caller, CancellationToken cancellation)
    {
        var waiter = new Waiter(Math.Min(placeCount, PlaceCount), priority, caller);
        LinkedListNode<Waiter> node;
        lock (_lock)
        {
            node = _waiting.AddLast(waiter);
            Admit();
            if (node.List is not null && _waiting.Count > _queueLimit)
            {
                _waiting.Remove(node);
                throw RequestFault.Busy(_waiting.Count, Math.Clamp((int)Math.Ceiling(_secondsPerRequest * (_waiting.Count + 1) / PlaceCount), 1, 600));
            }
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
        while (Next() is { } next && _freeCount >= next.Value.PlaceCount)
        {
            Waiter waiter = next.Value;
            for (LinkedListNode<Waiter>? earlier = next.Previous; earlier is not null; earlier = earlier.Previous)
                earlier.Value.OvertakenCount++;
            _waiting.Remove(next);
            _freeCount -= waiter.PlaceCount;
            _held[waiter.Caller] = _held.GetValueOrDefault(waiter.Caller) + waiter.PlaceCount;
            waiter.Admitted.TrySetResult(new Ticket(this, waiter.PlaceCount, waiter.Caller));
        }
    }

    private LinkedListNode<Waiter>? Next()
    {
        LinkedListNode<Waiter>? best = null;
        for (LinkedListNode<Waiter>? node = _waiting.First; node is not null; node = node.Next)
        {
            if (best is null || Order(node.Value).CompareTo(Order(best.Value)) < 0)
                best = node;
        }

        return best;
    }

    private (int, int) Order(Waiter waiter) =>
        waiter.OvertakenCount >= MostRoundsOvertaken * PlaceCount ? (int.MinValue, 0) : (waiter.Priority, _held.GetValueOrDefault(waiter.Caller));

    private void GiveBack(Ticket ticket)
    {
        lock (_lock)
        {
            _secondsPerRequest += (Stopwatch.GetElapsedTime(ticket.TakenAt).TotalSeconds - _secondsPerRequest) / 8;
            _freeCount += ticket.PlaceCount;
            int held = _held[ticket.Caller] - ticket.PlaceCount;
            if (held > 0)
                _held[ticket.Caller] = held;
            else
                _held.Remove(ticket.Caller);
            Admit();
        }
    }

    internal sealed class Ticket(Admission admission, int placeCount, string caller) : IDisposable
    {
        private bool _isGivenBack;

        public int PlaceCount => placeCount;

        public string Caller => caller;

        public long TakenAt { get; } = Stopwatch.GetTimestamp();

        public void Dispose()
        {
            if (_isGivenBack)
                return;
            _isGivenBack = true;
            admission.GiveBack(this);
        }
    }

    private sealed class Waiter(int placeCount, int priority, string caller)
    {
        public int PlaceCount => placeCount;

        public int Priority => priority;

        public string Caller => caller;

        public int OvertakenCount { get; set; }

        // Continuations must not run under the lock.
        public TaskCompletionSource<Ticket> Admitted { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
