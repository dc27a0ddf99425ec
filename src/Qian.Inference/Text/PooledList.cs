using System.Buffers;
using System.Runtime.CompilerServices;

namespace Qian.Inference.Text;

// A growing list over rented arrays: scratch for one call, given back by Dispose. A mutable struct, so keep it in a local and pass it by ref.
internal struct PooledList<T> : IDisposable
    where T : unmanaged
{
    private T[] _items;
    private int _count;

    public PooledList(int capacity)
    {
        _items = ArrayPool<T>.Shared.Rent(Math.Max(capacity, 16));
        _count = 0;
    }

    public readonly int Count => _count;

    public readonly Span<T> Span => _items.AsSpan(0, _count);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Add(T item)
    {
        if (_count == _items.Length)
        {
            Grow(1);
        }

        _items[_count++] = item;
    }

    public void AddRange(ReadOnlySpan<T> items)
    {
        items.CopyTo(Extend(items.Length));
    }

    // Makes room for count more items at the end, which the caller fills.
    public Span<T> Extend(int count)
    {
        if (count > _items.Length - _count)
        {
            Grow(count);
        }

        Span<T> added = _items.AsSpan(_count, count);
        _count += count;
        return added;
    }

    public void Truncate(int count)
    {
        _count = Math.Min(_count, count);
    }

    public void Dispose()
    {
        T[] items = _items;
        _items = [];
        _count = 0;
        if (items.Length > 0)
        {
            ArrayPool<T>.Shared.Return(items);
        }
    }

    private void Grow(int count)
    {
        int wanted = checked(_count + count);
        int doubled = (int)Math.Min(2L * _items.Length, Array.MaxLength);
        T[] larger = ArrayPool<T>.Shared.Rent(Math.Max(wanted, doubled));
        _items.AsSpan(0, _count).CopyTo(larger);
        ArrayPool<T>.Shared.Return(_items);
        _items = larger;
    }
}
