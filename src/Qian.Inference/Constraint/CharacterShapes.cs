namespace Qian.Inference.Constraint;

// Characters that do the same to every state of a part of an automaton, which differ in their bytes only: each is given the first of its like that is
// met, so that to [^,]* a word in any script reads like one in Latin letters. Worked out for characters as they come, by the columns of their bytes.
internal sealed class CharacterShapes
{
    // Steps from state to state that this may take; behind that characters stay what they are.
    private const long MostWork = 40_000_000;

    private readonly Automaton _automaton;
    private readonly int[] _states;
    private readonly byte[] _byteOf;   // [column] -> one of its bytes
    private readonly Dictionary<long, byte[]> _known = [];
    private readonly List<(ulong Hash, byte[] Bytes)> _different = [];
    private long _left = MostWork;

    public CharacterShapes(Automaton automaton, int[] states, int[] columns, int columnCount)
    {
        _automaton = automaton;
        _states = states;
        _byteOf = new byte[columnCount];
        for (int value = 255; value >= 0; value--)
        {
            if (columns[value] != ShapeTrie.Dead)
                _byteOf[columns[value]] = (byte)value;
        }
    }

    // Bytes that do what these do, of the same columns for characters of the same columns. Empty when no state reads them.
    public byte[] Of(ReadOnlySpan<byte> character, int[] columns)
    {
        long key = character.Length;
        foreach (byte value in character)
            key = (key << 8) | (uint)columns[value];
        if (!_known.TryGetValue(key, out byte[]? shape))
        {
            if (_known.Count == 0)
                AddBytes();

            byte[] bytes = character.ToArray();
            for (int i = 0; i < bytes.Length; i++)
                bytes[i] = _byteOf[columns[bytes[i]]];
            _known.Add(key, shape = Add(bytes));
        }

        return shape;
    }

    private void AddBytes()
    {
        foreach (byte value in _byteOf)
        {
            if (value < 0x80)
                Add([value]);
        }
    }

    private byte[] Add(byte[] bytes)
    {
        _left -= 2L * _states.Length * bytes.Length;
        if (_left < 0)
            return bytes;
        ulong hash = 0;
        bool isRead = false;
        foreach (int state in _states)
        {
            if (!TryRead(state, bytes, out int to))
                return bytes;
            isRead |= to >= 0;
            hash = (hash ^ (uint)to) * 0x9E3779B97F4A7C15;
            hash ^= hash >> 29;
        }

        if (!isRead)
            return [];
        foreach ((ulong otherHash, byte[] other) in _different)
        {
            if (otherHash == hash && DoTheSame(other, bytes))
                return other;
        }

        _different.Add((hash, bytes));
        return bytes;
    }

    private bool DoTheSame(byte[] a, byte[] b)
    {
        foreach (int state in _states)
        {
            TryRead(state, a, out int toA);
            TryRead(state, b, out int toB);
            if (toA != toB)
                return false;
        }

        return true;
    }

    // False where something else than the next byte may come inside the character: then it is like no other.
    private bool TryRead(int state, byte[] bytes, out int to)
    {
        to = state;
        for (int i = 0; i < bytes.Length && to >= 0; i++)
        {
            if (i > 0 && !_automaton.IsPlain(to))
                return false;
            to = _automaton.NextOf(to)[_automaton.ClassOf[bytes[i]]];
        }

        return true;
    }
}
