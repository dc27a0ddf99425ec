using Qian.Inference.Model;

namespace Qian.Inference.Runtime;

// The store's way to disk and back. States are written behind the requests' backs, a little after they were kept, by a thread of
// the store's own; they are read before a request is submitted, on its own time, so that nobody's stream waits for a disk.
internal sealed partial class PrefixStore
{
    private static readonly TimeSpan s_savePause = TimeSpan.FromSeconds(2);

    private readonly PrefixDisk? _disk;
    private readonly Dictionary<string, List<(string File, int[] Tokens)>> _onDisk = [];   // by root: not in a tree yet
    private readonly Dictionary<LowRankAdapter, byte[]> _adapterSums = [];
    private byte[]? _noAdapterSum;
    private readonly SemaphoreSlim _loading = new(1);
    private ManualResetEventSlim? _unsaved;
    private Thread? _saver;
    private volatile bool _closing;
    private long _loadedCount;

    // States that came from disk.
    public long LoadedCount => Interlocked.Read(ref _loadedCount);

    // Called after states were saved, or while the last of them were: what belongs beside them is saved then too.
    public Action? WhenSaved { get; set; }

    // Brings a state back that is on disk only and reaches further into `tokens` than `knownCount` and what is in memory.
    public async Task LoadAsync(PrefixRoot root, int[] tokens, int knownCount, Func<SequenceState> newState, CancellationToken cancellation)
    {
        if (_disk is null || !IsOn || FindOnDisk(root, tokens, knownCount) is null)
            return;
        await _loading.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            await Task.Run(() => Load(root, tokens, knownCount, newState), CancellationToken.None).ConfigureAwait(false);
        }
        finally
        {
            _loading.Release();
        }
    }

    private void Load(PrefixRoot root, int[] tokens, int knownCount, Func<SequenceState> newState)
    {
        while (FindOnDisk(root, tokens, knownCount) is { } kept)
        {
            SequenceState state = newState();
            int count = kept.Node.End;
            bool hasRoom = TryReserve(state, count);
            bool isSound = hasRoom && _disk!.TryLoad(kept.File!, NameOf(root), state, tokens.AsSpan(0, count));
            lock (_lock)
            {
                bool isWanted = isSound && !_disposed && kept.State is null && TryMakeRoom(state);
                if (isWanted)
                {
                    Hold(kept, state);
                    kept.LastUsed = ++_clock;
                    _loadedCount++;
                }
                else
                {
                    state.Dispose();
                }

                if (hasRoom && !isSound)
                    LoseFile(kept);
                else
                    return;
            }
        }
    }

    private bool TryReserve(SequenceState state, int tokenCount)
    {
        while (!state.TryReserve(tokenCount))
        {
            if (!TryEvict())
                return false;
        }

        return true;
    }

    private KeptState? FindOnDisk(PrefixRoot root, int[] tokens, int knownCount)
    {
        lock (_lock)
        {
            if (_disposed || TreeOf(root) is not { } tree)
                return null;
            (int matched, PrefixNode<KeptState> last) = tree.Walk(tokens);
            KeptState? best = Deepest(last, matched, inMemory: false);
            return best is { State: null } && best.Node.End > knownCount ? best : null;
        }
    }

    // The tree of a root, with what is on disk of it.
    private PrefixTree<KeptState>? TreeOf(PrefixRoot root)
    {
        if (_trees.TryGetValue(root, out PrefixTree<KeptState>? tree))
            return tree;
        if (_onDisk.Count == 0 || !_onDisk.Remove(Convert.ToHexString(NameOf(root)), out List<(string File, int[] Tokens)>? states) || states.Count == 0)
            return null;
        _trees.Add(root, tree = new PrefixTree<KeptState>());
        foreach ((string file, int[] tokens) in states)
        {
            PrefixNode<KeptState> node = tree.Ensure(tokens);
            node.Entry = new KeptState(node, root) { File = file };
        }

        return tree;
    }

    // A root's name on disk. An adapter is large, and read once for it.
    private byte[] NameOf(PrefixRoot root)
    {
        lock (_lock)
        {
            byte[] sum;
            if (root.Adapter is not { } adapter)
                sum = _noAdapterSum ??= PrefixIdentity.OfRoot(_disk!.Model, null);
            else if (!_adapterSums.TryGetValue(adapter, out sum!))
                _adapterSums.Add(adapter, sum = PrefixIdentity.OfRoot(_disk!.Model, adapter));
            return PrefixIdentity.OfScope(sum, root.Scope);
        }
    }

    private void OpenDisk(PrefixDisk disk)
    {
        foreach ((string file, byte[] root, int[] tokens) in disk.Scan())
        {
            string name = Convert.ToHexString(root);
            if (!_onDisk.TryGetValue(name, out List<(string, int[])>? states))
                _onDisk.Add(name, states = []);
            states.Add((file, tokens));
        }

        disk.Sweep();
        if (!disk.CanWrite)
            return;
        _unsaved = new ManualResetEventSlim();
        _saver = new Thread(SaveBehind) { IsBackground = true, Name = "qian prefix saver", Priority = ThreadPriority.BelowNormal };
        _saver.Start();
    }

    private void SaveBehind()
    {
        while (!_closing)
        {
            _unsaved!.Wait();
            _unsaved.Reset();
            // What comes within the pause is often superseded by what comes at its end.
            for (DateTime end = DateTime.UtcNow + s_savePause; !_closing && DateTime.UtcNow < end;)
                Thread.Sleep(20);
            SaveAll();
        }
    }

    private void SaveAll()
    {
        while (NextUnsaved() is { } kept)
        {
            // Its tokens and state do not change, and nobody frees it while it is being read.
            string? file = _disk!.Save(NameOf(kept.Root), kept.State!, kept.Node.Tokens(), LoseFile);
            lock (_lock)
            {
                kept.File = file;
                kept.IsUnsavable = file is null;
                kept.ReaderCount--;
            }
        }

        // Also when the last round took this round's states with it: what belongs beside them may have come after they did.
        WhenSaved?.Invoke();
    }

    // The latest one that is worth it, held for reading.
    private KeptState? NextUnsaved()
    {
        lock (_lock)
        {
            KeptState? next = null;
            foreach (KeptState kept in _kept)
            {
                if (kept is { File: null, IsMinor: false, IsUnsavable: false } && kept.LastUsed > (next?.LastUsed ?? -1))
                    next = kept;
            }

            if (next is not null)
                next.ReaderCount++;
            return next;
        }
    }

    // The disk made room: the state lives on in memory, if it is there.
    private void LoseFile(string file)
    {
        lock (_lock)
        {
            foreach (PrefixTree<KeptState> tree in _trees.Values)
            {
                if (FindFile(tree.Root, file) is not { } kept)
                    continue;
                kept.IsUnsavable = true;
                LoseFile(kept);
                return;
            }

            foreach (List<(string File, int[] Tokens)> states in _onDisk.Values)
                states.RemoveAll(state => state.File == file);
        }
    }

    private void LoseFile(KeptState kept)
    {
        kept.File = null;
        if (kept.State is null)
            Remove(kept);
    }

    private static KeptState? FindFile(PrefixNode<KeptState> root, string file)
    {
        var open = new Stack<PrefixNode<KeptState>>([root]);
        while (open.TryPop(out PrefixNode<KeptState>? node))
        {
            if (node.Entry?.File == file)
                return node.Entry;
            foreach (PrefixNode<KeptState> child in node.Children.Values)
                open.Push(child);
        }

        return null;
    }

    private void CloseDisk()
    {
        if (_disk is null)
            return;
        _closing = true;
        _unsaved?.Set();
        _saver?.Join();
        if (_disk.CanWrite)
            SaveAll();
        _unsaved?.Dispose();
        _disk.Dispose();
    }
}
