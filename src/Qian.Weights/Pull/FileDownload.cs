using Microsoft.Win32.SafeHandles;

namespace Qian.Weights;

// One file from the hub into the cache's blobs: pieces over several connections into a file of the final size under another
// name, its piece map beside it, then the digest over all of it, then the rename. So a blob that exists is a verified one. A
// server without ranges is read from the beginning over one connection. Bytes that fail the digest are fetched once more.
//
// The unfinished file is not called <digest>.incomplete: other tools take such a file's length for how far it has come, and this
// one has its final length from the start.
internal sealed class FileDownload(HubClient client, HubListing listing, HubFile file, string blobPath, Action<long> report, Action<long> reportVerified)
{
    private const int BufferBytes = 1 << 18;

    // Less than this per connection is not progress: a server that gives a byte at a time would never end.
    private const int LeastProgressBytes = 1 << 16;

    // What a killed process may have to fetch again, per connection.
    private const int MarkEveryBytes = 8 << 20;

    private readonly long _sizeBytes = file.SizeBytes!.Value;
    private long _reported;

    public static string PartPath(string blobPath) => blobPath + ".qian.incomplete";

    public static string MapPath(string blobPath) => blobPath + ".qian.pieces";

    public async Task RunAsync(CancellationToken cancellation)
    {
        string part = PartPath(blobPath), mapPath = MapPath(blobPath);
        Directory.CreateDirectory(Path.GetDirectoryName(blobPath)!);
        bool dataIsThere = File.Exists(part) && new FileInfo(part).Length == _sizeBytes;
        using (SafeFileHandle data = OpenExclusive(part))
        {
            RandomAccess.SetLength(data, _sizeBytes);
            using PieceMap map = PieceMap.Open(mapPath, file.Digest!, _sizeBytes, client.Settings.PieceBytes, dataIsThere);
            ReportAt(map.DoneBytes);
            bool matches = false;
            for (int attempt = 0; attempt < 2 && !matches; attempt++)
            {
                if (attempt > 0)
                {
                    client.Forget(listing, file);
                    map.Clear();
                    ReportAt(0);
                }

                await FetchAsync(data, map, cancellation);
                matches = await BlobDigest.MatchesAsync(data, file.Digest!, reportVerified, cancellation);
            }

            if (!matches)
            {
                map.Dispose();
                data.Dispose();
                File.Delete(part);
                File.Delete(mapPath);
                throw new IOException($"{file.Path}: what arrived twice does not have the digest that the hub states ({file.Digest}). It was thrown away; try again later, or another HF_ENDPOINT.");
            }
        }

        File.Move(part, blobPath, overwrite: true);
        File.Delete(mapPath);
    }

    private SafeFileHandle OpenExclusive(string part)
    {
        try
        {
            return File.OpenHandle(part, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, FileOptions.Asynchronous);
        }
        catch (IOException error)
        {
            throw new IOException($"{file.Path}: cannot write {part}; perhaps another pull of it is running: {error.Message}", error);
        }
    }

    private async Task FetchAsync(SafeFileHandle data, PieceMap map, CancellationToken cancellation)
    {
        using var failed = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        int next = -1;
        int workerCount = Math.Min(client.Settings.ConnectionCount, map.Count);
        var workers = new Task[workerCount];
        Exception? first = null;
        for (int i = 0; i < workerCount; i++)
            workers[i] = Task.Run(WorkAsync, CancellationToken.None);
        await Task.WhenAll(workers);
        cancellation.ThrowIfCancellationRequested();
        if (first is WholeFileException)
            await FetchWholeAsync(data, map, cancellation);
        else if (first is not null)
            System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(first);

        async Task WorkAsync()
        {
            try
            {
                byte[] buffer = new byte[BufferBytes];
                for (int piece = Interlocked.Increment(ref next); piece < map.Count; piece = Interlocked.Increment(ref next))
                    await FetchPieceAsync(data, map, piece, buffer, failed.Token);
            }
            catch (Exception error)
            {
                // The first one counts; the others are stopped by it.
                Interlocked.CompareExchange(ref first, error, null);
                await failed.CancelAsync();
            }
        }
    }

    private async Task FetchPieceAsync(SafeFileHandle data, PieceMap map, int piece, byte[] buffer, CancellationToken cancellation)
    {
        var backoff = new Backoff(client.Settings, Backoff.ContinuesDownload);
        long start = map.StartOf(piece);
        int length = map.LengthOf(piece);
        while (map.DoneOf(piece) < length)
        {
            cancellation.ThrowIfCancellationRequested();
            int done = map.DoneOf(piece), before = done;
            PassingFaultException? fault = null;
            try
            {
                await using HubBody body = await client.OpenAsync(listing, file, start + done, start + length, cancellation);
                if (!body.IsRange)
                    throw new WholeFileException();
                while (done < length)
                {
                    int count = await body.ReadAsync(buffer.AsMemory(0, Math.Min(buffer.Length, length - done)), cancellation);
                    if (count == 0)
                        throw new PassingFaultException($"{file.Path}: the connection ended {length - done} bytes early");
                    await RandomAccess.WriteAsync(data, buffer.AsMemory(0, count), start + done, CancellationToken.None);
                    done += count;
                    Advance(count);
                    if (done - map.DoneOf(piece) >= MarkEveryBytes)
                        Mark(data, map, piece, done);
                }
            }
            catch (PassingFaultException error)
            {
                fault = error;
            }
            finally
            {
                if (done > map.DoneOf(piece))
                    Mark(data, map, piece, done);
            }

            if (done - before >= LeastProgressBytes)
                backoff.Progressed();
            if (fault is not null)
                await backoff.WaitAsync(fault, cancellation);
        }
    }

    private static void Mark(SafeFileHandle data, PieceMap map, int piece, int done)
    {
        RandomAccess.FlushToDisk(data);
        map.Mark(piece, done);
    }

    // Without ranges there is no going on in the middle: what is there already is read again and not written.
    private async Task FetchWholeAsync(SafeFileHandle data, PieceMap map, CancellationToken cancellation)
    {
        var backoff = new Backoff(client.Settings, Backoff.ContinuesDownload);
        byte[] buffer = new byte[BufferBytes];
        map.Clear();
        long best = 0;
        while (true)
        {
            long position = 0;
            try
            {
                ReportAt(0);
                await using HubBody body = await client.OpenAsync(listing, file, 0, _sizeBytes, cancellation);
                while (position < _sizeBytes)
                {
                    int count = await body.ReadAsync(buffer.AsMemory(0, (int)Math.Min(buffer.Length, _sizeBytes - position)), cancellation);
                    if (count == 0)
                        throw new PassingFaultException($"{file.Path}: the connection ended {_sizeBytes - position} bytes early");
                    await RandomAccess.WriteAsync(data, buffer.AsMemory(0, count), position, CancellationToken.None);
                    position += count;
                    ReportAt(position);
                }

                break;
            }
            catch (PassingFaultException fault)
            {
                if (position - best >= LeastProgressBytes)
                    backoff.Progressed();
                best = Math.Max(best, position);
                await backoff.WaitAsync(fault, cancellation);
            }
        }

        RandomAccess.FlushToDisk(data);
        for (int piece = 0; piece < map.Count; piece++)
            map.Mark(piece, map.LengthOf(piece));
    }

    private void Advance(int count)
    {
        Interlocked.Add(ref _reported, count);
        report(count);
    }

    private void ReportAt(long doneBytes) => report(doneBytes - Interlocked.Exchange(ref _reported, doneBytes));

    // The server gave everything where a part was asked for.
    private sealed class WholeFileException : Exception;
}
