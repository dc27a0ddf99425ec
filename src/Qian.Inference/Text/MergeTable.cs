using System.Runtime.CompilerServices;

using Qian.Inference.Formats;

namespace Qian.Inference.Text;

// The merge rules as a hash from a pair of token ids to its rank. The trick: an entry is one 64-bit word (21 bits each of left id, right id
// and rank), so a probe is one load and eight entries share a cache line; pairs of single bytes, which every piece begins with, have a plain
// 256 x 256 table of their own. Seeded per process, so that no file can be made whose keys collide.
internal sealed class MergeTable
{
    // Ids and ranks fit in 21 bits, and the all-ones word is free to mean an empty slot.
    public const int MaxCount = TokenizerSpec.MaxMergeCount;

    public const int NoRank = int.MaxValue;

    private const int FieldBits = 21;
    private const ulong FieldMask = (1UL << FieldBits) - 1;
    private const ulong Empty = ulong.MaxValue;

    private static readonly ulong s_seed = (ulong)Random.Shared.NextInt64();

    private readonly int[] _byteIds;
    private readonly int[] _bytePairRanks = new int[256 * 256];
    private readonly ulong[] _slots;
    private readonly int _shift;
    private readonly int[] _results;

    // byteIds[256]: the token of each byte. merges: in rank order; ids below MaxCount.
    public MergeTable(int[] byteIds, ReadOnlySpan<MergeRule> merges)
    {
        _byteIds = byteIds;
        int bits = 4;
        while (1L << bits < 2L * merges.Length)
        {
            bits++;
        }

        _shift = 64 - bits;
        _slots = new ulong[1 << bits];
        Array.Fill(_slots, Empty);
        _results = new int[merges.Length];
        for (int rank = 0; rank < merges.Length; rank++)
        {
            _results[rank] = merges[rank].Result;
            Insert(merges[rank].Left, merges[rank].Right, rank);
        }

        for (int pair = 0; pair < _bytePairRanks.Length; pair++)
        {
            _bytePairRanks[pair] = RankOf(byteIds[pair >> 8], byteIds[pair & 255]);
        }
    }

    public ReadOnlySpan<int> ByteIds => _byteIds;

    // Rank of merging two single bytes: entry left * 256 + right.
    public ReadOnlySpan<int> BytePairRanks => _bytePairRanks;

    // The token that the merge of a rank makes.
    public ReadOnlySpan<int> Results => _results;

    // The rank of merging the two tokens, or NoRank.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public int RankOf(int left, int right)
    {
        ulong key = KeyOf(left, right);
        ulong[] slots = _slots;
        int mask = slots.Length - 1;
        for (int i = HashOf(key); ; i = (i + 1) & mask)
        {
            ulong slot = slots[i];
            if (slot >> FieldBits == key)
            {
                return (int)(slot & FieldMask);
            }

            if (slot == Empty)
            {
                return NoRank;
            }
        }
    }

    private static ulong KeyOf(int left, int right)
    {
        return ((ulong)(uint)left << FieldBits) | (uint)right;
    }

    private int HashOf(ulong key)
    {
        ulong mixed = (key ^ s_seed) * 0x9E3779B97F4A7C15UL;
        mixed ^= mixed >> 32;
        return (int)((mixed * 0xD6E8FEB86659FD93UL) >> _shift);
    }

    private void Insert(int left, int right, int rank)
    {
        ulong key = KeyOf(left, right);
        int mask = _slots.Length - 1;
        int i = HashOf(key);
        while (_slots[i] != Empty)
        {
            if (_slots[i] >> FieldBits == key)
            {
                throw new BadModelFileException(
                    $"Tokenizer merge {rank} joins tokens {left} and {right}, which merge {_slots[i] & FieldMask} already joins; the file is damaged.");
            }

            i = (i + 1) & mask;
        }

        _slots[i] = (key << FieldBits) | (uint)rank;
    }
}
