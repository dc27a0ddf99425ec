using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.Tests.Replies;

// Who gets a place next.
public sealed class AdmissionTests
{
    private readonly List<string> _order = [];

    private static Admission.Ticket Enter(Admission admission, int places = 1, string caller = "") => admission.EnterAsync(places, 0, caller, CancellationToken.None).GetAwaiter().GetResult();

    // Waits, and notes when it was let in.
    private Task<Admission.Ticket> Wait(Admission admission, string name, int priority = 0, string caller = "", int places = 1) => Wait(admission, name, priority, caller, places, CancellationToken.None);

    private async Task<Admission.Ticket> Wait(Admission admission, string name, int priority, string caller, int places, CancellationToken cancellation)
    {
        Admission.Ticket ticket = await admission.EnterAsync(places, priority, caller, cancellation);
        lock (_order)
            _order.Add(name);
        return ticket;
    }

    // One place passes from hand to hand until all had it.
    private async Task<string[]> PassOn(Admission.Ticket first, params Task<Admission.Ticket>[] waiting)
    {
        Admission.Ticket held = first;
        var left = new List<Task<Admission.Ticket>>(waiting);
        while (left.Count > 0)
        {
            held.Dispose();
            Task<Admission.Ticket> next = await Task.WhenAny(left);
            left.Remove(next);
            held = await next;
        }

        held.Dispose();
        return [.. _order];
    }

    [Fact]
    public async Task LowerNumbersComeFirstAndEqualOnesInTheirOrder()
    {
        var admission = new Admission(1, 10);
        Admission.Ticket first = Enter(admission);
        Assert.Equal(["urgent", "a", "b", "c", "later"], await PassOn(first, Wait(admission, "a"), Wait(admission, "later", 3), Wait(admission, "b"), Wait(admission, "urgent", -1), Wait(admission, "c")));
        Assert.Equal((0, 0), (admission.TakenCount, admission.WaitingCount));
    }

    [Fact]
    public async Task WhoWasOvertakenOftenEnoughIsNext()
    {
        var admission = new Admission(1, 10);
        Admission.Ticket first = Enter(admission);
        Task<Admission.Ticket>[] waiting = [Wait(admission, "patient", 5), .. Enumerable.Range(0, 6).Select(i => Wait(admission, $"urgent {i}", -1))];
        Assert.Equal(["urgent 0", "urgent 1", "urgent 2", "urgent 3", "patient", "urgent 4", "urgent 5"], await PassOn(first, waiting));
    }

    // Two places; ann has one and asks for more before bob asks at all.
    [Fact]
    public async Task OfEqualPriorityWhoHoldsLessComesFirst()
    {
        var admission = new Admission(2, 10);
        Admission.Ticket held = Enter(admission, caller: "ann"), first = Enter(admission, caller: "ann");
        string[] order = await PassOn(first, Wait(admission, "ann 1", caller: "ann"), Wait(admission, "ann 2", caller: "ann"), Wait(admission, "bob", caller: "bob"), Wait(admission, "ann, urgent", -1, "ann"));
        Assert.Equal(["ann, urgent", "bob", "ann 1", "ann 2"], order);
        held.Dispose();
    }

    [Fact]
    public async Task ARequestForManyPlacesComesToItsTurn()
    {
        var admission = new Admission(3, 10);
        Admission.Ticket[] held = [Enter(admission), Enter(admission), Enter(admission)];
        Task<Admission.Ticket> many = Wait(admission, "many", places: 3), small = Wait(admission, "small");
        held[0].Dispose();
        held[1].Dispose();
        Assert.Equal((1, 2), (admission.TakenCount, admission.WaitingCount));
        // Somebody urgent takes a place meanwhile.
        Admission.Ticket urgent = await Wait(admission, "urgent", -1);
        held[2].Dispose();
        Assert.False(many.IsCompleted);
        urgent.Dispose();
        (await many).Dispose();
        (await small).Dispose();
        Assert.Equal(["urgent", "many", "small"], _order);
    }

    [Fact]
    public async Task WhoLeavesLetsOthersGoOn()
    {
        var admission = new Admission(2, 10);
        Admission.Ticket held = Enter(admission);
        using var leaving = new CancellationTokenSource();
        Task<Admission.Ticket> many = Wait(admission, "many", 0, "", 2, leaving.Token), small = Wait(admission, "small");
        Assert.False(small.IsCompleted);
        await leaving.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => many);
        (await small).Dispose();
        held.Dispose();
        Assert.Equal(0, admission.TakenCount);
    }

    [Fact]
    public void AFullQueueTurnsAway()
    {
        var admission = new Admission(1, 0);
        using (Enter(admission))
        {
            RequestFault fault = Assert.IsType<RequestFault>(Record.Exception(() => { _ = admission.EnterAsync(1, -5, "", CancellationToken.None); }));
            Assert.Equal(429, fault.Status);
            Assert.InRange(fault.RetryAfterSeconds!.Value, 1, 600);
            Assert.Equal(0, admission.WaitingCount);
        }

        Enter(admission).Dispose();
    }
}
