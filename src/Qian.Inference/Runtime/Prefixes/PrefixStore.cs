using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Runtime;

// Model states after texts that may come again, shared by all sessions. Since a state is a function of its tokens alone, a
// session that continues a kept state is the session that read it all, bit for bit. A tree per adapter and scope finds the longest
// known beginning of a text; KV blocks are shared by reference count, the recurrent part is a copy of its own per place. What is used
// least goes first when the budget is spent or a request needs the blocks. It knows no bytes of state; the disk is PrefixDisk's.
internal sealed partial class PrefixStore : IDisposable
{
    private readonly Lock _lock = new();
    private readonly KvPool _pool;
    private readonly long _budgetBytes;
    private readonly Dictionary<PrefixRoot, PrefixTree<KeptState>> _trees = [];            // none that is empty
    private readonly List<KeptState> _kept = [];                       // those in memory
    private readonly Dictionary<KvBlock, int> _blockUses = [];         // by kept states
    private readonly HashSet<LowRankAdapter> _forgotten = [];
    private long _recurrentBytes;
    private long _clock;
    private bool _disposed;

    // Takes over the disk; without one nothing outlives the process.
    public PrefixStore(KvPool pool, long budgetBytes, PrefixDisk? disk = null)
    {
        _pool = pool;
        _budgetBytes = budgetBytes;
        _disk = disk;
        if (disk is not null)
            OpenDisk(disk);
    }

    public bool IsOn => _budgetBytes > 0;

    // States in memory and what they take, blocks that sessions share included.
    public (int Count, long Bytes) Size
    {
        get
        {
            lock (_lock)
                return (_kept.Count, HeldBytes);
        }
    }

    // Blocks that requests can have, with what would be evicted for them.
    public int RoomInBlocks
    {
        get
        {
            lock (_lock)
                return _pool.FreeCount + _blockUses.Count;
        }
    }

    private long HeldBytes => _recurrentBytes + _blockUses.Count * _pool.BlockBytes;

    // Puts `state`, which stands for the first tokens of `tokens` already, as far on as something kept reaches.
    public PrefixMatch Restore(PrefixRoot root, SequenceState state, ReadOnlySpan<int> tokens)
    {
        lock (_lock)
        {
            if (!IsOn || _disposed)
                return PrefixMatch.Off;
            if (TreeOf(root) is not { } tree)
                return new PrefixMatch(PrefixMissReason.Unknown, 0);
            (int matched, PrefixNode<KeptState> last) = tree.Walk(tokens);
            if (Deepest(last, matched, inMemory: true) is { } kept)
            {
                Touch(kept);
                if (kept.Node.End > state.TokenCount)
                    state.Become(kept.State!);
            }

            return Explain(tokens, matched, last, state.TokenCount);
        }
    }

    // Whether a state after these tokens would be new.
    public bool Lacks(PrefixRoot root, ReadOnlySpan<int> tokens)
    {
        lock (_lock)
        {
            if (!IsOn || _disposed)
                return false;
            if (TreeOf(root) is not { } tree)
                return true;
            (int matched, PrefixNode<KeptState> last) = tree.Walk(tokens);
            if (matched < tokens.Length || last.End != matched || last.Entry?.State is null)
                return true;
            Touch(last.Entry);
            return false;
        }
    }

    // Takes over a frozen state of `tokens`. `isMinor`: of no use to who continues the text from a message's border.
    public void Keep(PrefixRoot root, SequenceState state, ReadOnlySpan<int> tokens, bool isMinor)
    {
        lock (_lock)
        {
            if (!IsOn || _disposed || (root.Adapter is { } adapter && _forgotten.Contains(adapter)) || !TryMakeRoom(state))
            {
                state.Dispose();
                return;
            }

            if (TreeOf(root) is not { } tree)
                _trees.Add(root, tree = new PrefixTree<KeptState>());
            PrefixNode<KeptState> node = tree.Ensure(tokens);
            KeptState kept = node.Entry ??= new KeptState(node, root);
            if (kept.State is not null)
            {
                state.Dispose();
                return;
            }

            kept.IsMinor = isMinor;
            Hold(kept, state);
            kept.LastUsed = ++_clock;
            Supersede(node);
        }

        _unsaved?.Set();
    }

    // Frees what is used least; false when nothing is left to free.
    public bool TryEvict()
    {
        lock (_lock)
        {
            KeptState? worst = null;
            foreach (KeptState kept in _kept)
            {
                if (kept.ReaderCount == 0 && (worst is null || Order(kept).CompareTo(Order(worst)) < 0))
                    worst = kept;
            }

            if (worst is null)
                return false;
            Drop(worst);
            return true;
        }

        static (bool, long) Order(KeptState kept) => (!kept.IsMinor, kept.LastUsed);
    }

    // The adapter is unloaded; what still runs with it leaves nothing behind.
    public void Forget(LowRankAdapter adapter)
    {
        while (true)
        {
            lock (_lock)
            {
                _forgotten.Add(adapter);
                for (int i = _kept.Count - 1; i >= 0; i--)
                {
                    if (_kept[i].Root.Adapter == adapter && _kept[i].ReaderCount == 0)
                        Drop(_kept[i]);
                }

                if (!_kept.Exists(kept => kept.Root.Adapter == adapter))
                {
                    foreach (PrefixRoot root in _trees.Keys.Where(root => root.Adapter == adapter).ToArray())
                        _trees.Remove(root);
                    return;
                }
            }

            // One is being written to disk.
            Thread.Sleep(1);
        }
    }

    // When nothing computes any more. What is worth it goes to disk first.
    public void Dispose()
    {
        CloseDisk();
        lock (_lock)
        {
            _disposed = true;
            while (_kept.Count > 0)
                Drop(_kept[^1]);
            _trees.Clear();
        }
    }

    // The kept state closest before the end of the way.
    private static KeptState? Deepest(PrefixNode<KeptState> last, int matched, bool inMemory)
    {
        for (PrefixNode<KeptState>? node = last; node is not null; node = node.Parent)
        {
            if (node.End <= matched && node.Entry is { } kept && (!inMemory || kept.State is not null))
                return kept;
        }

        return null;
    }

    // A use counts for the state itself and for the first one on its way, which conversations have in common.
    private void Touch(KeptState kept)
    {
        kept.LastUsed = ++_clock;
        KeptState first = kept;
        for (PrefixNode<KeptState>? node = kept.Node.Parent; node is not null; node = node.Parent)
            first = node.Entry ?? first;
        first.LastUsed = _clock;
    }

    // Who continued a text will hardly continue it from an earlier place again; but where texts parted they may part again.
    private static void Supersede(PrefixNode<KeptState> node)
    {
        KeptState? above = null;
        for (PrefixNode<KeptState>? ancestor = node.Parent; ancestor is not null; ancestor = ancestor.Parent)
        {
            if (ancestor.Entry is not { } kept)
                continue;
            if (above is { Node.Children.Count: < 2 })
                above.IsMinor = true;
            above = kept;
        }
    }

    private bool TryMakeRoom(SequenceState state)
    {
        while (true)
        {
            long blockBytes = 0;
            for (int i = 0; i < state.BlockCount; i++)
                blockBytes += _blockUses.ContainsKey(state.Blocks[i]) ? 0 : _pool.BlockBytes;
            if (HeldBytes + state.RecurrentBytes + blockBytes <= _budgetBytes)
                return true;
            if (!TryEvict())
                return false;
        }
    }

    private void Hold(KeptState kept, SequenceState state)
    {
        kept.State = state;
        _kept.Add(kept);
        _recurrentBytes += state.RecurrentBytes;
        _pool.Lend(state.RecurrentBytes);
        for (int i = 0; i < state.BlockCount; i++)
            _blockUses[state.Blocks[i]] = _blockUses.GetValueOrDefault(state.Blocks[i]) + 1;
    }

    private void Drop(KeptState kept)
    {
        SequenceState state = kept.State!;
        kept.State = null;
        _kept.Remove(kept);
        _recurrentBytes -= state.RecurrentBytes;
        for (int i = 0; i < state.BlockCount; i++)
        {
            KvBlock block = state.Blocks[i];
            int uses = _blockUses[block] - 1;
            if (uses == 0)
                _blockUses.Remove(block);
            else
                _blockUses[block] = uses;
        }

        _pool.Lend(-state.RecurrentBytes);
        state.Dispose();
        if (kept.File is null)
            Remove(kept);
    }

    // It is nowhere any more. Scopes come and go, and leave nothing behind.
    private void Remove(KeptState kept)
    {
        kept.Node.Entry = null;
        PrefixTree<KeptState>.Prune(kept.Node);
        if (_trees.TryGetValue(kept.Root, out PrefixTree<KeptState>? tree) && tree.IsEmpty)
            _trees.Remove(kept.Root);
    }

    private static PrefixMatch Explain(ReadOnlySpan<int> tokens, int matched, PrefixNode<KeptState> last, int restored)
    {
        bool isInsideEdge = matched < last.End;
        if (matched > 0 && matched < tokens.Length && (isInsideEdge || last.Children.Count > 0))
        {
            ReadOnlyMemory<int> known = isInsideEdge ? last.Edge[(matched - last.Parent!.End)..] : Newest(last).Edge;
            return new PrefixMatch(PrefixMissReason.Diverged, matched)
            {
                Before = tokens[Math.Max(0, matched - PrefixMatch.ShownTokens)..matched].ToArray(),
                Now = tokens[matched..Math.Min(tokens.Length, matched + PrefixMatch.ShownTokens)].ToArray(),
                Known = known[..Math.Min(known.Length, PrefixMatch.ShownTokens)].ToArray(),
            };
        }

        // States are kept where messages end, and a token or two were sampled and never computed: a few behind the last state are read again, and nothing was lost.
        return new PrefixMatch(matched == 0 ? PrefixMissReason.Unknown : matched - restored > Network.BlockTokens ? PrefixMissReason.Evicted : PrefixMissReason.None, matched);
    }

    private static PrefixNode<KeptState> Newest(PrefixNode<KeptState> node)
    {
        PrefixNode<KeptState>? newest = null;
        foreach (PrefixNode<KeptState> child in node.Children.Values)
        {
            if (newest is null || (child.Entry?.LastUsed ?? 0) > (newest.Entry?.LastUsed ?? 0))
                newest = child;
        }

        return newest!;
    }
}

// How a text relates to what was known; where they part, some tokens before the place, and what follows it in either.
internal sealed record PrefixMatch(PrefixMissReason Reason, int MatchedCount)
{
    public const int ShownTokens = 48;

    public static PrefixMatch Off { get; } = new(PrefixMissReason.Off, 0);

    public int[] Before { get; init; } = [];

    public int[] Now { get; init; } = [];

    public int[] Known { get; init; } = [];
}
