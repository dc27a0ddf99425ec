using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Runtime;

// The two kinds of files of the store on disk. A block file holds the keys and values of 64 tokens and is named after all tokens
// up to their end, so that states of one conversation share them. A state file holds the tokens, the recurrent part and the
// blocks that are not full. Either begins with its kind, version and root, and ends with a SHA-256 of everything before. Files
// are written beside their place and moved there whole; one that is not exactly what its name and sums say does not exist.
internal static class PrefixFiles
{
    public const int FormatVersion = 1;

    private const uint BlockMagic = 0x424B4E51;   // "QNKB"
    private const uint StateMagic = 0x534B4E51;   // "QNKS"
    private const int RootBytes = 32;
    private const int SumBytes = 32;
    private const int MaxTokens = 1 << 24;
    private const int PieceBytes = 1 << 20;

    // Blocks of a state that no later token will change, the MTP layer's entries included.
    public static int FullBlocks(SequenceState state)
    {
        int behind = state.TokenCount - state.MtpCount;
        int settled = state.MtpTailCapacity > 0 && behind <= state.MtpTailCapacity ? Math.Min(state.TokenCount, state.MtpCount) : state.TokenCount;
        return settled / Network.BlockTokens;
    }

    // Names of the first `count` blocks of a text.
    public static string[] BlockNames(byte[] root, ReadOnlySpan<int> tokens, int count)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(root);
        var names = new string[count];
        for (int i = 0; i < count; i++)
        {
            PrefixIdentity.AddTokens(hash, tokens.Slice(i * Network.BlockTokens, Network.BlockTokens));
            names[i] = Convert.ToHexStringLower(hash.GetCurrentHash());
        }

        return names;
    }

    public static string StateName(byte[] root, ReadOnlySpan<int> tokens)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(root);
        PrefixIdentity.AddTokens(hash, tokens);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    // Returns the bytes written.
    public static long WriteBlock(string path, byte[] root, KvBlock block)
    {
        using var file = new SummedFile(path);
        file.Write(Header(BlockMagic, root, 0, 0, 0, 0));
        file.Write(block.Content);
        return file.Commit();
    }

    public static bool TryReadBlock(string path, byte[] root, KvBlock block)
    {
        using FileStream? file = Open(path, HeaderBytes + block.Content.Length + SumBytes);
        if (file is null)
            return false;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> header = stackalloc byte[HeaderBytes];
        return TryRead(file, hash, header) && header.SequenceEqual(Header(BlockMagic, root, 0, 0, 0, 0)) && TryRead(file, hash, block.Content) && SumHolds(file, hash);
    }

    public static long WriteState(string path, byte[] root, SequenceState state, ReadOnlySpan<int> tokens)
    {
        int full = FullBlocks(state);
        using var file = new SummedFile(path);
        file.Write(Header(StateMagic, root, state.TokenCount, state.MtpCount, state.PositionDelta, full));
        file.Write(MemoryMarshal.AsBytes(tokens));
        for (long start = 0; start < state.RecurrentBytes / sizeof(float); start += PieceBytes)
            file.Write(MemoryMarshal.AsBytes(Piece(state, start)));
        for (int i = full; i < state.BlockCount; i++)
            file.Write(state.Blocks[i].Content);
        return file.Commit();
    }

    // The tokens of a state file, the root that it names, and how many of its blocks have files of their own; null when it is no
    // state. What comes after the tokens is not looked at yet.
    public static int[]? ReadTokens(string path, out byte[] root, out int fullBlocks)
    {
        fullBlocks = 0;
        root = new byte[RootBytes];
        using FileStream? file = Open(path, null);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (file is null || !TryRead(file, hash, header))
            return null;
        header[24..].CopyTo(root);
        if (!TryParse(header, root, out StateHeader about) || file.Length < HeaderBytes + 4L * about.TokenCount)
            return null;
        var tokens = new int[about.TokenCount];
        if (!TryRead(file, hash, MemoryMarshal.AsBytes(tokens.AsSpan())) || StateName(root, tokens) != Path.GetFileNameWithoutExtension(path))
            return null;
        fullBlocks = about.FullBlocks;
        return tokens;
    }

    // Fills `state`, whose blocks are reserved. False when anything is not as it was written; the state is undefined then.
    public static bool TryReadState(string path, string blockFolder, byte[] root, SequenceState state, ReadOnlySpan<int> tokens)
    {
        using FileStream? file = Open(path, null);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> header = stackalloc byte[HeaderBytes];
        if (file is null || !TryRead(file, hash, header) || !TryParse(header, root, out StateHeader about) || about.TokenCount != tokens.Length)
            return false;
        int tailBlocks = state.BlockCount - about.FullBlocks;
        long blockBytes = state.BlockCount > 0 ? state.Blocks[0].Content.Length : 0;
        if (tailBlocks < 0 || file.Length != HeaderBytes + 4L * tokens.Length + state.RecurrentBytes + tailBlocks * blockBytes + SumBytes)
            return false;
        var own = new int[tokens.Length];
        if (!TryRead(file, hash, MemoryMarshal.AsBytes(own.AsSpan())) || !tokens.SequenceEqual(own))
            return false;
        for (long start = 0; start < state.RecurrentBytes / sizeof(float); start += PieceBytes)
        {
            if (!TryRead(file, hash, MemoryMarshal.AsBytes(Piece(state, start))))
                return false;
        }

        for (int i = about.FullBlocks; i < state.BlockCount; i++)
        {
            if (!TryRead(file, hash, state.Blocks[i].Content))
                return false;
        }

        if (!SumHolds(file, hash))
            return false;
        string[] names = BlockNames(root, tokens, about.FullBlocks);
        bool whole = true;
        Parallel.For(0, names.Length, i =>
        {
            if (Volatile.Read(ref whole) && !TryReadBlock(Path.Combine(blockFolder, names[i]), root, state.Blocks[i]))
                Volatile.Write(ref whole, false);
        });
        (state.TokenCount, state.MtpCount, state.PositionDelta) = (about.TokenCount, about.MtpCount, about.PositionDelta);
        return whole;
    }

    private const int HeaderBytes = 24 + RootBytes;

    private static byte[] Header(uint magic, byte[] root, int tokenCount, int mtpCount, int positionDelta, int fullBlocks)
    {
        var header = new byte[HeaderBytes];
        BinaryPrimitives.WriteUInt32LittleEndian(header, magic);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(4), FormatVersion);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(8), tokenCount);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(12), mtpCount);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(16), positionDelta);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(20), fullBlocks);
        root.CopyTo(header, 24);
        return header;
    }

    private static bool TryParse(ReadOnlySpan<byte> header, byte[] root, out StateHeader about)
    {
        about = new StateHeader(
            BinaryPrimitives.ReadInt32LittleEndian(header[8..]), BinaryPrimitives.ReadInt32LittleEndian(header[12..]),
            BinaryPrimitives.ReadInt32LittleEndian(header[16..]), BinaryPrimitives.ReadInt32LittleEndian(header[20..]));
        return BinaryPrimitives.ReadUInt32LittleEndian(header) == StateMagic && BinaryPrimitives.ReadInt32LittleEndian(header[4..]) == FormatVersion
            && header[24..].SequenceEqual(root) && about.TokenCount is > 0 and <= MaxTokens && about.MtpCount >= 0 && about.MtpCount <= about.TokenCount
            && about.FullBlocks >= 0 && about.FullBlocks <= about.TokenCount / Network.BlockTokens;
    }

    private static Span<float> Piece(SequenceState state, long start) =>
        state.RecurrentContent.Slice(start, Math.Min(PieceBytes, state.RecurrentBytes / sizeof(float) - start)).Span;

    private static FileStream? Open(string path, long? length)
    {
        try
        {
            var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read | FileShare.Delete, bufferSize: 1);
            if (length is null || file.Length == length)
                return file;
            file.Dispose();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // Gone, or not ours to read: as good as not there.
        }

        return null;
    }

    private static bool TryRead(FileStream file, IncrementalHash hash, Span<byte> bytes)
    {
        try
        {
            file.ReadExactly(bytes);
            hash.AppendData(bytes);
            return true;
        }
        catch (IOException)
        {
            return false;
        }
    }

    private static bool SumHolds(FileStream file, IncrementalHash hash)
    {
        byte[] sum = hash.GetHashAndReset();
        Span<byte> stored = stackalloc byte[SumBytes];
        return TryRead(file, hash, stored) && stored.SequenceEqual(sum) && file.Position == file.Length;
    }

    private readonly record struct StateHeader(int TokenCount, int MtpCount, int PositionDelta, int FullBlocks);

    // A file whose last bytes are the sum of those before.
    private sealed class SummedFile(string path) : IDisposable
    {
        private readonly PartialFile _file = new(path);
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

        public void Write(ReadOnlySpan<byte> bytes)
        {
            _hash.AppendData(bytes);
            _file.Write(bytes);
        }

        public long Commit()
        {
            _file.Write(_hash.GetHashAndReset());
            long length = _file.Length;
            _file.Commit();
            return length;
        }

        public void Dispose()
        {
            _hash.Dispose();
            _file.Dispose();
        }
    }
}
