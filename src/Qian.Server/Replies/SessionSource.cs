using Qian.Inference;

namespace Qian.Server.Replies;

// Where the model state of a request comes from, and what becomes known of it. Every prompt gets a session of its own; the
// engine's prefix store puts it as far into the prompt as any earlier request came. A prompt that could have been known and was
// not is told to the log: what changes at its beginning costs the whole of it each time. Nobody else makes or frees sessions.
internal sealed class SessionSource(Engine engine, ServerMetrics metrics, TextWriter log)
{
    private const int WorthTelling = 64;

    // A session whose tokens are the prompt.
    public SessionLease Open(int[] prompt, Adapter? adapter, string scope)
    {
        Session session = engine.NewSession(adapter, scope);
        session.Append(prompt);
        return new SessionLease(session, prompt.Length);
    }

    public void Close(SessionLease lease)
    {
        PrefixUse use = lease.Session.PrefixUse;
        lease.Use = use;
        // A prompt that was given up before it was begun has nothing to tell.
        if (lease.Session.ComputedCount > 0)
            Tell(use, lease.PromptCount);
        lease.Session.Dispose();
    }

    private void Tell(PrefixUse use, int promptCount)
    {
        metrics.PrefixUsed(use.Reason);
        if (use.Reason is not (PrefixMissReason.Diverged or PrefixMissReason.Evicted) || promptCount - use.CachedCount < WorthTelling)
            return;
        string why = use.Reason == PrefixMissReason.Evicted ? FormattableString.Invariant($"known up to token {use.TokenIndex}, but no state is kept there any more")
            : FormattableString.Invariant($"differs from what is known at token {use.TokenIndex}");
        string line = use.VolatileLine is { } name ? $", in the line '{name}', which changes from request to request" : "";
        log.WriteLine(FormattableString.Invariant($"prompt of {promptCount} tokens, {use.CachedCount} cached: {why}{line}"));
    }
}

internal sealed record SessionLease(Session Session, int PromptCount)
{
    // Tokens of the prompt that did not have to be computed. Known once it was begun.
    public int CachedCount => Math.Min(Session.CachedCount, PromptCount);

    // How the prompt related to what was known. Known once it is closed.
    public PrefixUse? Use { get; set; }
}
