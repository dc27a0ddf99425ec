using System.Buffers.Binary;
using System.Globalization;

namespace Qian.Inference.Tests.Fuzzing;

// Damages good files: bits, bytes, lengths, whole stretches, and words that mean something to the format. Seeded, so case
// number n is the same damage on every machine. QIAN_FUZZ_COUNT sets how many cases a test runs (the suite runs few), QIAN_FUZZ_FIRST
// where long runs in parts go on.
internal sealed class Mutator
{
    private static readonly ulong[] s_edges =
    [
        0, 1, 2, 3, 7, 8, 31, 32, 33, 255, 256, 4096, 65535, 65536, 1 << 20, int.MaxValue, 1UL << 31, uint.MaxValue, 1UL << 32, 1UL << 40,
        long.MaxValue, 1UL << 63, ulong.MaxValue - 31, ulong.MaxValue,
    ];

    private readonly Random _random;
    private readonly byte[][] _words;

    // `words`: what is worth inserting, for example keys, JSON values, template tags.
    public Mutator(int seed, params byte[][] words)
    {
        _random = new Random(seed);
        _words = words;
    }

    // Cases a test should run.
    public static int Count(int usual) => Variable("QIAN_FUZZ_COUNT") ?? usual;

    // Number of the first of them, for tests that can begin anywhere.
    public static int First => Variable("QIAN_FUZZ_FIRST") ?? 0;

    // A damaged copy. Most damage falls on the first `focus` bytes (the header); 0 for anywhere.
    public byte[] Mutate(ReadOnlySpan<byte> original, int focus = 0)
    {
        var bytes = new List<byte>(original.Length + 64);
        bytes.AddRange(original);
        int changes = 1 << _random.Next(4);
        for (int i = 0; i < changes && bytes.Count > 0; i++)
        {
            int range = focus > 0 && _random.Next(10) > 0 ? Math.Min(focus, bytes.Count) : bytes.Count;
            Change(bytes, _random.Next(range));
        }

        return [.. bytes];
    }

    private static int? Variable(string name) => int.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out int value) ? value : null;

    private void Change(List<byte> bytes, int position)
    {
        int rest = bytes.Count - position;
        int stretch = Math.Min(rest, 1 + _random.Next(_random.Next(2) == 0 ? 8 : 200));
        switch (_random.Next(9))
        {
            case 0:
                bytes[position] ^= (byte)(1 << _random.Next(8));
                break;
            case 1:
                bytes[position] = (byte)_random.Next(256);
                break;
            case 2:
                OverwriteNumber(bytes, position, rest);
                break;
            case 3:
                bytes.RemoveRange(position, stretch);
                break;
            case 4:
                bytes.InsertRange(_random.Next(bytes.Count + 1), bytes.GetRange(position, stretch));
                break;
            case 5:
                bytes.RemoveRange(position, rest);
                break;
            case 6 when _words.Length > 0:
                bytes.InsertRange(position, _words[_random.Next(_words.Length)]);
                break;
            case 7:
                ReplaceDigits(bytes, position);
                break;
            default:
                byte[] noise = new byte[stretch];
                _random.NextBytes(noise);
                bytes.InsertRange(position, noise);
                break;
        }
    }

    private void OverwriteNumber(List<byte> bytes, int position, int rest)
    {
        Span<byte> number = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(number, s_edges[_random.Next(s_edges.Length)]);
        int size = Math.Min(rest, 1 << _random.Next(4));
        for (int i = 0; i < size; i++)
            bytes[position + i] = number[i];
    }

    // The next number in a text becomes another one.
    private void ReplaceDigits(List<byte> bytes, int position)
    {
        int start = bytes.FindIndex(position, value => value is >= (byte)'0' and <= (byte)'9');
        if (start < 0)
            return;
        int end = bytes.FindIndex(start, value => value is < (byte)'0' or > (byte)'9');
        bytes.RemoveRange(start, (end < 0 ? bytes.Count : end) - start);
        string number = _random.Next(4) == 0 ? "1e999" : s_edges[_random.Next(s_edges.Length)].ToString(CultureInfo.InvariantCulture);
        bytes.InsertRange(start, System.Text.Encoding.ASCII.GetBytes(_random.Next(4) == 0 ? "-" + number : number));
    }
}
