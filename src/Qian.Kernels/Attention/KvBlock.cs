namespace Qian.Kernels;

/// <summary>
/// Keys and values of <see cref="KvShape.BlockTokens"/> consecutive tokens, for all layers, in native memory. Blocks of one
/// sequence may differ in type. Who shares a block, and when it is copied, is the owner's business.
/// </summary>
public sealed unsafe class KvBlock : IDisposable
{
    private readonly NativeBuffer _memory;

    /// <summary>Allocates a zeroed block of <see cref="KvShape.BlockBytes"/> bytes.</summary>
    /// <exception cref="ArgumentException">The shape is not one that the kernels take.</exception>
    public KvBlock(KvShape shape, KvType type)
    {
        shape.Check();
        Shape = shape;
        Type = type;
        Layout = new KvLayout(shape, type);
        _memory = NativeBuffer.Allocate(Layout.BlockBytes);
    }

    /// <summary>The geometry of the block.</summary>
    public KvShape Shape { get; }

    /// <summary>How the block stores its values.</summary>
    public KvType Type { get; }

    /// <summary>The stored bytes, for writing a block to disk and back. Meaningful only to a block of the same shape and type.</summary>
    public Span<byte> Content => _memory.Span<byte>(0, checked((int)_memory.Bytes));

    internal KvLayout Layout { get; }

    /// <summary>Copies all tokens of <paramref name="other"/> (copy on write).</summary>
    /// <exception cref="ArgumentException">The blocks differ in shape or type.</exception>
    public void CopyFrom(KvBlock other)
    {
        ArgumentNullException.ThrowIfNull(other);
        if (other.Shape != Shape || other.Type != Type)
            throw new ArgumentException($"a block of {other.Shape} {other.Type} cannot be copied to one of {Shape} {Type}.", nameof(other));
        Buffer.MemoryCopy(other._memory.Pointer, _memory.Pointer, _memory.Bytes, _memory.Bytes);
    }

    /// <summary>Frees the memory.</summary>
    public void Dispose() => _memory.Dispose();

    internal byte* Keys(int layerIndex, int kvHeadIndex) => _memory.Pointer + Layout.KeyOffset(layerIndex, kvHeadIndex);

    internal byte* Values(int layerIndex, int kvHeadIndex) => _memory.Pointer + Layout.ValueOffset(layerIndex, kvHeadIndex);
}
