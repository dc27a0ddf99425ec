using System.Runtime.InteropServices;
using Qian.Inference.Model;

namespace Qian.Inference.Runtime;

// The tokens of one sequence beside its model state: Computed <= Total, and what lies between is pending.
internal sealed class Timeline : IDisposable
{
    private readonly List<int> _tokens;
    private readonly string _scope;

    // `scope`: who else may know the text.
    public Timeline(SequenceState state, string scope = "")
        : this(state, [], scope)
    {
    }

    private Timeline(SequenceState state, List<int> tokens, string scope)
    {
        State = state;
        _tokens = tokens;
        _scope = scope;
    }

    public PrefixRoot Root => new(State.Adapter, _scope);

    public SequenceState State { get; }

    public IReadOnlyList<int> Tokens => _tokens;

    public int TotalCount => _tokens.Count;

    public int ComputedCount => State.TokenCount;

    public ReadOnlySpan<int> AllTokens => CollectionsMarshal.AsSpan(_tokens);

    public ReadOnlySpan<int> PendingTokens => AllTokens[ComputedCount..];

    public void Append(ReadOnlySpan<int> tokenIds) => _tokens.AddRange(tokenIds);

    public void Append(int tokenId) => _tokens.Add(tokenId);

    // Forgets tokens that are not computed.
    public void Truncate(int tokenCount)
    {
        if (tokenCount < ComputedCount)
            throw new InvalidOperationException("what was computed cannot be cut");
        _tokens.RemoveRange(tokenCount, _tokens.Count - tokenCount);
    }

    public Timeline Fork() => new(State.Fork(), [.. _tokens], _scope);

    public void Clear()
    {
        State.Reset();
        _tokens.Clear();
    }

    public void Dispose() => State.Dispose();
}
