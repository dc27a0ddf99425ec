using System.Runtime.ExceptionServices;

namespace Qian.Weights;

// Makes pieces of a file on several threads and hands them, in order, to the caller's thread, which writes while the next ones are
// made. A fixed ring of buffers bounds the memory and the lead of the makers; who makes a piece never changes it.
internal sealed class ChunkPipeline
{
    // How many pieces beyond one per maker may wait for the writer: enough that it never waits for a maker to be scheduled, on a
    // machine that is busy with other things too.
    private const int LeadCount = 12;

    private readonly IReadOnlyList<Chunk> _chunks;
    private readonly Slot[] _slots;
    private readonly SemaphoreSlim _free;
    private readonly int _threadCount;
    private int _taken;

    public ChunkPipeline(IReadOnlyList<Chunk> chunks, int threadCount)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threadCount, 1);
        _chunks = chunks;
        _threadCount = threadCount;
        int largest = 0;
        foreach (Chunk chunk in chunks)
            largest = Math.Max(largest, chunk.ByteCount);
        _slots = new Slot[threadCount + LeadCount];
        for (int i = 0; i < _slots.Length; i++)
            _slots[i] = new Slot(new byte[largest]);
        _free = new SemaphoreSlim(_slots.Length);
    }

    // `write` gets every chunk with its bytes, first to last, on this thread. What a maker throws, this throws.
    public void Run(Action<Chunk, ReadOnlyMemory<byte>> write, CancellationToken cancellation)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        Exception? failure = null;
        var makers = new Thread[_threadCount];
        for (int i = 0; i < makers.Length; i++)
        {
            makers[i] = new Thread(() =>
            {
                try
                {
                    Make(stop.Token);
                }
                catch (OperationCanceledException)
                {
                    // The writer knows why.
                }
                catch (Exception error)
                {
                    Interlocked.CompareExchange(ref failure, error, null);
                    stop.Cancel();
                }
            })
            { IsBackground = true, Name = $"chunk {i}" };
            makers[i].Start();
        }

        try
        {
            for (int i = 0; i < _chunks.Count; i++)
            {
                Slot slot = _slots[i % _slots.Length];
                slot.Ready.Wait(stop.Token);
                write(_chunks[i], slot.Bytes.AsMemory(0, _chunks[i].ByteCount));
                _free.Release();
            }
        }
        catch (OperationCanceledException) when (failure is not null)
        {
            ExceptionDispatchInfo.Throw(failure);
        }
        finally
        {
            stop.Cancel();
            foreach (Thread maker in makers)
                maker.Join();
        }
    }

    // A permit of _free for chunk i exists only once chunk i - slots is written, so the slot is nobody else's.
    private void Make(CancellationToken stop)
    {
        while (true)
        {
            _free.Wait(stop);
            int index = Interlocked.Increment(ref _taken) - 1;
            if (index >= _chunks.Count)
                return;
            Slot slot = _slots[index % _slots.Length];
            _chunks[index].Make(slot.Bytes.AsSpan(0, _chunks[index].ByteCount));
            slot.Ready.Release();
        }
    }

    private sealed record Slot(byte[] Bytes)
    {
        public SemaphoreSlim Ready { get; } = new(0);
    }
}

// A piece of a file: some bytes of one tensor, made on any thread.
internal abstract class Chunk(string tensorName, int byteCount)
{
    public string TensorName { get; } = tensorName;

    public int ByteCount { get; } = byteCount;

    public abstract void Make(Span<byte> destination);
}

// Bytes that are there already.
internal sealed class GivenChunk(string tensorName, byte[] bytes) : Chunk(tensorName, bytes.Length)
{
    public override void Make(Span<byte> destination) => bytes.CopyTo(destination);
}
