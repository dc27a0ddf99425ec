using Qian.Inference.Model;

namespace Qian.Inference.Runtime;

// The folder of kept states: which files there are, how much they take, which go when the limit is reached. One process at a time
// writes to the folder of a model (a lock file says so); another one reads. Called by one thread at a time but for what only reads files.
internal sealed class PrefixDisk : IDisposable
{
    private const UnixFileMode OwnerOnly = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    private readonly string _folder;
    private readonly string _blockFolder;
    private readonly long _limitBytes;
    private readonly FileStream? _ownership;
    private readonly Lock _lock = new();
    private readonly Dictionary<string, DiskState> _states = [];
    private readonly Dictionary<string, (long Bytes, int Uses)> _blocks = [];
    private long _bytes;
    private long _clock;

    public PrefixDisk(string folder, long limitBytes, byte[] model)
    {
        Model = model;
        _limitBytes = limitBytes;
        _folder = Path.Combine(folder, Convert.ToHexStringLower(model.AsSpan(0, 12)));
        _blockFolder = Path.Combine(_folder, "blocks");
        try
        {
            // What is in there was said by somebody; other users of the machine have no business with it.
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(_blockFolder);
            }
            else
            {
                Directory.CreateDirectory(_blockFolder, OwnerOnly);
                File.SetUnixFileMode(_folder, OwnerOnly);
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new BadRequestException($"{nameof(EngineOptions)}.{nameof(EngineOptions.PrefixDirectory)}: expected a folder that can be written, found {folder}: {error.Message}", error);
        }

        try
        {
            _ownership = new FileStream(Path.Combine(_folder, "lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Another process writes here.
        }
    }

    public bool CanWrite => _ownership is not null;

    public byte[] Model { get; }

    // Where the replies are remembered.
    public string ReplyFile => Path.Combine(_folder, "replies");

    // The states that earlier processes left, oldest first, of whatever root. One that is damaged shows when it is loaded.
    public List<(string File, byte[] Root, int[] Tokens)> Scan()
    {
        var found = new List<(string, byte[], int[])>();
        foreach (FileInfo file in new DirectoryInfo(_folder).EnumerateFiles("*.state").OrderBy(file => file.LastWriteTimeUtc))
        {
            if (PrefixFiles.ReadTokens(file.FullName, out byte[] root, out int fullBlocks) is not { } tokens)
                continue;
            lock (_lock)
                Register(file.FullName, file.Length, PrefixFiles.BlockNames(root, tokens, fullBlocks));
            found.Add((file.FullName, root, tokens));
        }

        return found;
    }

    // Files that a process left behind which was ended while it wrote, and blocks that no state has.
    public void Sweep()
    {
        if (!CanWrite)
            return;
        foreach (string file in Directory.EnumerateFiles(_folder, "*.part").Concat(Directory.EnumerateFiles(_blockFolder)))
        {
            lock (_lock)
            {
                if (!_blocks.ContainsKey(Path.GetFileName(file)))
                    Delete(file);
            }
        }
    }

    // Writes a state and those of its blocks that are not there yet; returns its file, or null when it does not fit or cannot be written.
    public string? Save(byte[] root, SequenceState state, ReadOnlySpan<int> tokens, Action<string> removed)
    {
        if (!CanWrite)
            return null;
        string path = Path.Combine(_folder, PrefixFiles.StateName(root, tokens) + ".state");
        int full = PrefixFiles.FullBlocks(state);
        long most = state.RecurrentBytes + (long)state.BlockCount * (state.Blocks[0].Content.Length + 256) + 4L * tokens.Length + 256;
        if (most > _limitBytes)
            return null;
        string[] names = PrefixFiles.BlockNames(root, tokens, full);
        try
        {
            for (int i = 0; i < full; i++)
            {
                bool isThere;
                lock (_lock)
                    isThere = _blocks.ContainsKey(names[i]);
                string block = Path.Combine(_blockFolder, names[i]);
                if (!isThere || !File.Exists(block))
                    PrefixFiles.WriteBlock(block, root, state.Blocks[i]);
            }

            long bytes = PrefixFiles.WriteState(path, root, state, tokens);
            lock (_lock)
            {
                if (!_states.ContainsKey(path))
                    Register(path, bytes, names);
                while (_bytes > _limitBytes && _states.Values.Where(other => other.File != path).MinBy(other => other.Order) is { } oldest)
                {
                    Forget(oldest);
                    removed(oldest.File);
                }
            }

            return path;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // A full disk or a folder that is gone: the state stays in memory.
            return null;
        }
    }

    // Fills `state`, whose blocks are reserved; a file that is not sound is gone afterwards.
    public bool TryLoad(string file, byte[] root, SequenceState state, ReadOnlySpan<int> tokens)
    {
        if (PrefixFiles.TryReadState(file, _blockFolder, root, state, tokens))
        {
            lock (_lock)
            {
                if (_states.TryGetValue(file, out DiskState? known))
                    known.Order = ++_clock;
            }

            return true;
        }

        Remove(file);
        return false;
    }

    public void Remove(string file)
    {
        lock (_lock)
        {
            if (_states.TryGetValue(file, out DiskState? known))
                Forget(known);
        }
    }

    public void Dispose() => _ownership?.Dispose();

    private void Register(string file, long bytes, string[] blocks)
    {
        _states.Add(file, new DiskState(file, bytes, blocks) { Order = ++_clock });
        _bytes += bytes;
        foreach (string name in blocks)
        {
            (long blockBytes, int uses) = _blocks.GetValueOrDefault(name);
            if (uses == 0)
            {
                var info = new FileInfo(Path.Combine(_blockFolder, name));
                blockBytes = info.Exists ? info.Length : 0;
                _bytes += blockBytes;
            }

            _blocks[name] = (blockBytes, uses + 1);
        }
    }

    private void Forget(DiskState state)
    {
        _states.Remove(state.File);
        _bytes -= state.Bytes;
        Delete(state.File);
        foreach (string name in state.Blocks)
        {
            (long bytes, int uses) = _blocks[name];
            if (uses > 1)
            {
                _blocks[name] = (bytes, uses - 1);
                continue;
            }

            _blocks.Remove(name);
            _bytes -= bytes;
            Delete(Path.Combine(_blockFolder, name));
        }
    }

    private void Delete(string file)
    {
        if (!CanWrite)
            return;
        try
        {
            File.Delete(file);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // It will be swept up another time.
        }
    }

    private sealed record DiskState(string File, long Bytes, string[] Blocks)
    {
        public long Order { get; set; }
    }
}
