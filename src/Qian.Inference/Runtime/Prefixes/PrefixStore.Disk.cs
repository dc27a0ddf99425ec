using Qian.Inference.Model;

namespace Qian.Inference.Runtime;

// The store's way to disk and back. States are written behind the requests' backs, a little after they were kept, by a thread of
// the store's own; they are read before a request is submitted, on its own time, so that nobody's stream waits for a disk.
internal sealed partial class PrefixStore
{
    private static readonly TimeSpan s_savePause = TimeSpan.FromSeconds(2);

    private readonly PrefixDisk? _disk;
    private readonly Dictionary<string, List<(string File, int[] Tokens)>> _onDisk = [];   // by root: not in a tree yet
    private readonly Dictionary<object, byte[]> _roots = [];
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
    public async Task LoadAsync(LowRankAdapter? adapter, int[] tokens, int knownCount, Func<SequenceState> newState, CancellationToken cancellation)
    {
        if (_disk is null || !IsOn || FindOnDisk(adapter, tokens, knownCount) is null)
            return;
        await _loading.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            await Task.Run(() => Load(adapter, tokens, knownCount, newState), CancellationToken.None).ConfigureAwait(false);
        }
        finally
        {
            _loading.Release();
        }
    }

    private void Load(LowRankAdapter? adapter, int[] tokens, int knownCount, Func<SequenceState> newState)
    {
        while (FindOnDisk(adapter, tokens, knownCount) is { } kept)
        {
            SequenceState state = newState();
            int count = kept.Node.End;
            bool hasRoom = TryReserve(state, count);
            bool isSound = hasRoom && _disk!.TryLoad(kept.File!, _roots[KeyOf(adapter)], state, tokens.AsSpan(0, count));
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

    private KeptState? FindOnDisk(LowRankAdapter? adapter, int[] tokens, int knownCount)
    {
        lock (_lock)
        {
            if (_disposed || TreeOf(adapter) is not { } tree)
                return null;
            (int matched, PrefixNode<KeptState> last) = tree.Walk(tokens);
            KeptState? best = Deepest(last, matched, inMemory: false);
            return best is { State: null } && best.Node.End > knownCount ? best : null;
        }
    }

    // The tree of an adapter, with what is on disk of it.
    private PrefixTree<KeptState>? TreeOf(LowRankAdapter? adapter)
    {
        object key = KeyOf(adapter);
        if (_disk is not null && !_roots.ContainsKey(key))
        {
            byte[] root = PrefixIdentity.OfRoot(_disk.Model, adapter);
            _roots.Add(key, root);
            if (_onDisk.Remove(Convert.ToHexString(root), out List<(string File, int[] Tokens)>? states))
            {
                var tree = new PrefixTree<KeptState>();
                foreach ((string file, int[] tokens) in states)
                {
                    PrefixNode<KeptState> node = tree.Ensure(tokens);
                    node.Entry = new KeptState(node, adapter) { File = file };
                }

                _trees.Add(key, tree);
            }
        }

        return _trees.GetValueOrDefault(key);
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
            string? file = _disk!.Save(_roots[KeyOf(kept.Adapter)], kept.State!, kept.Node.Tokens(), LoseFile);
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

    private static void LoseFile(KeptState kept)
    {
        kept.File = null;
        if (kept.State is not null)
            return;
        kept.Node.Entry = null;
        PrefixTree<KeptState>.Prune(kept.Node);
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
