using Qian.Inference;

namespace Qian.Server.Replies;

// Where the model state of a request comes from. Every prompt gets a session of its own and is read from its start; a store of
// prefixes belongs exactly here: Open would hand out a session that stands for the longest known beginning of the prompt, and
// Close would keep it. Nobody else makes or frees sessions.
internal sealed class SessionSource(Engine engine)
{
    // A session whose tokens are the prompt; what of it was computed before is CachedCount.
    public SessionLease Open(int[] prompt, Adapter? adapter)
    {
        Session session = engine.NewSession(adapter);
        session.Append(prompt);
        return new SessionLease(session, session.ComputedCount);
    }

    public void Close(SessionLease lease) => lease.Session.Dispose();
}

internal sealed record SessionLease(Session Session, int CachedCount);
