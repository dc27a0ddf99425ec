using Qian.Kernels;

namespace Qian.Training.Model;

// One block of native memory that buffers are taken from in order. Without memory behind it it only counts, so that the code
// which lays buffers out is also the code that says beforehand how many bytes they take. Rewinding lets phases that are never
// alive together (the scratch of the two kinds of mixer) share their place.
internal sealed class FloatArena : IDisposable
{
    private const long Granule = 16;   // floats of one cache line

    private readonly NativeBuffer? _buffer;
    private long _next;

    private FloatArena(NativeBuffer? buffer) => _buffer = buffer;

    // Most floats that were ever taken at once.
    public long FloatCount { get; private set; }

    // Where the next buffer begins; for Rewind.
    public long Mark => _next;

    public static FloatArena Counting() => new(null);

    public static FloatArena Allocate(long floatCount) => new(NativeBuffer.Allocate(checked(floatCount * sizeof(float)), hugePages: true));

    // Zeroed when fresh; an empty view while only counting.
    public FloatView Take(long floatCount)
    {
        long first = _next;
        _next = checked(first + (floatCount + Granule - 1) / Granule * Granule);
        FloatCount = Math.Max(FloatCount, _next);
        return _buffer is null ? default : _buffer.Floats(first, floatCount);
    }

    public void Rewind(long mark) => _next = mark;

    public void Dispose() => _buffer?.Dispose();
}
