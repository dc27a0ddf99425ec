using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Qian.Kernels;

/// <summary>
/// How fast all threads together can read memory: every byte of a buffer once, in order, in the widest vectors of the CPU.
/// What a pass over weights can at best reach. The buffer should be many times the last cache.
/// </summary>
public static unsafe class ReadCeiling
{
    private const int ChunkBytes = 1 << 20;
    private const int StepBytes = 512;

    /// <summary>Bytes of <paramref name="bufferBytes"/> that <see cref="Read"/> touches: whole chunks of 1 MiB.</summary>
    public static long ReadBytes(long bufferBytes) => bufferBytes / ChunkBytes * ChunkBytes;

    /// <summary>Reads the buffer once and returns the sum of its 64-bit words, so that no read can be left out.</summary>
    /// <exception cref="ArgumentException">The buffer is shorter than 1 MiB.</exception>
    public static long Read(NativeBuffer buffer, ThreadTeam team)
    {
        ArgumentNullException.ThrowIfNull(buffer);
        ArgumentNullException.ThrowIfNull(team);
        if (buffer.Bytes < ChunkBytes)
            throw new ArgumentException($"A buffer of {buffer.Bytes} bytes is shorter than one chunk of {ChunkBytes}.", nameof(buffer));
        var job = new ReadJob { Data = buffer.Pointer };
        team.Run(ref job, checked((int)(buffer.Bytes / ChunkBytes)));
        return job.Sum;
    }

    private struct ReadJob : IChunkedJob
    {
        public byte* Data;
        public long Sum;

        public void Run(int chunkIndex)
        {
            byte* chunk = Data + (long)chunkIndex * ChunkBytes;
            long sum = Vector512.IsHardwareAccelerated ? SumWide(chunk) : Vector256.IsHardwareAccelerated ? SumHalf(chunk) : SumNarrow(chunk);
            Interlocked.Add(ref Sum, sum);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static long SumWide(byte* chunk)
    {
        Vector512<long> s0 = default, s1 = default, s2 = default, s3 = default;
        for (int i = 0; i < ChunkBytes; i += StepBytes)
        {
            long* p = (long*)(chunk + i);
            s0 += Vector512.Load(p) + Vector512.Load(p + 8);
            s1 += Vector512.Load(p + 16) + Vector512.Load(p + 24);
            s2 += Vector512.Load(p + 32) + Vector512.Load(p + 40);
            s3 += Vector512.Load(p + 48) + Vector512.Load(p + 56);
        }

        return Vector512.Sum(s0 + s1 + s2 + s3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static long SumHalf(byte* chunk)
    {
        Vector256<long> s0 = default, s1 = default, s2 = default, s3 = default;
        for (int i = 0; i < ChunkBytes; i += StepBytes / 2)
        {
            long* p = (long*)(chunk + i);
            s0 += Vector256.Load(p) + Vector256.Load(p + 4);
            s1 += Vector256.Load(p + 8) + Vector256.Load(p + 12);
            s2 += Vector256.Load(p + 16) + Vector256.Load(p + 20);
            s3 += Vector256.Load(p + 24) + Vector256.Load(p + 28);
        }

        return Vector256.Sum(s0 + s1 + s2 + s3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static long SumNarrow(byte* chunk)
    {
        Vector128<long> s0 = default, s1 = default, s2 = default, s3 = default;
        for (int i = 0; i < ChunkBytes; i += StepBytes / 4)
        {
            long* p = (long*)(chunk + i);
            s0 += Vector128.Load(p) + Vector128.Load(p + 2);
            s1 += Vector128.Load(p + 4) + Vector128.Load(p + 6);
            s2 += Vector128.Load(p + 8) + Vector128.Load(p + 10);
            s3 += Vector128.Load(p + 12) + Vector128.Load(p + 14);
        }

        return Vector128.Sum(s0 + s1 + s2 + s3);
    }
}
