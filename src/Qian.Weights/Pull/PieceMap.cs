using System.Buffers.Binary;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Qian.Weights;

// How far each piece of a file under download has come, kept in a small file beside it so that an interrupted download goes on
// at the byte where it stopped: a header that names the blob and the sizes, then per piece the bytes from its beginning that
// are on disk. A map that does not fit the blob is set aside and the download begins anew; the digest at the end does not
// depend on it.
internal sealed class PieceMap : IDisposable
{
    private readonly SafeFileHandle _handle;
    private readonly int[] _done;
    private readonly int _headerBytes;
    private readonly Lock _writing = new();

    private PieceMap(SafeFileHandle handle, int headerBytes, int[] done, long sizeBytes, int pieceBytes)
    {
        (_handle, _headerBytes, _done, SizeBytes, PieceBytes) = (handle, headerBytes, done, sizeBytes, pieceBytes);
    }

    public long SizeBytes { get; }

    public int PieceBytes { get; }

    public int Count => _done.Length;

    public long DoneBytes => _done.Sum(bytes => (long)bytes);

    public static PieceMap Open(string path, string digest, long sizeBytes, int pieceBytes, bool dataIsThere)
    {
        byte[] header = Header(digest, sizeBytes, pieceBytes);
        int count = CountOf(sizeBytes, pieceBytes);
        int[]? done = dataIsThere ? Read(path, header, count, sizeBytes, pieceBytes) : null;
        SafeFileHandle handle = File.OpenHandle(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.ReadWrite);
        if (done is null)
        {
            done = new int[count];
            RandomAccess.SetLength(handle, 0);
            RandomAccess.SetLength(handle, header.Length + (long)count * sizeof(int));
            RandomAccess.Write(handle, header, 0);
        }

        return new PieceMap(handle, header.Length, done, sizeBytes, pieceBytes);
    }

    // Bytes that an earlier download left, without touching anything.
    public static long DoneBytesAt(string path, string digest, long sizeBytes, int pieceBytes) =>
        Read(path, Header(digest, sizeBytes, pieceBytes), CountOf(sizeBytes, pieceBytes), sizeBytes, pieceBytes)?.Sum(bytes => (long)bytes) ?? 0;

    public long StartOf(int piece) => (long)piece * PieceBytes;

    public int LengthOf(int piece) => LengthOf(piece, SizeBytes, PieceBytes);

    public int DoneOf(int piece) => _done[piece];

    // To be called when the bytes themselves are on disk.
    public void Mark(int piece, int doneBytes)
    {
        Span<byte> bytes = stackalloc byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, doneBytes);
        lock (_writing)
        {
            _done[piece] = doneBytes;
            RandomAccess.Write(_handle, bytes, _headerBytes + (long)piece * sizeof(int));
        }
    }

    public void Clear()
    {
        for (int piece = 0; piece < Count; piece++)
            Mark(piece, 0);
    }

    public void Dispose() => _handle.Dispose();

    private static int CountOf(long sizeBytes, int pieceBytes) => checked((int)((sizeBytes + pieceBytes - 1) / pieceBytes));

    private static int LengthOf(int piece, long sizeBytes, int pieceBytes) => (int)Math.Min(pieceBytes, sizeBytes - (long)piece * pieceBytes);

    private static byte[] Header(string digest, long sizeBytes, int pieceBytes) => Encoding.ASCII.GetBytes(FormattableString.Invariant($"qian pieces 1 {digest} {sizeBytes} {pieceBytes}\n"));

    private static int[]? Read(string path, byte[] header, int count, long sizeBytes, int pieceBytes)
    {
        var info = new FileInfo(path);
        if (!info.Exists || info.Length != header.Length + (long)count * sizeof(int))
            return null;
        byte[] bytes = File.ReadAllBytes(path);
        if (bytes.Length != header.Length + count * sizeof(int) || !bytes.AsSpan(0, header.Length).SequenceEqual(header))
            return null;
        var done = new int[count];
        for (int piece = 0; piece < count; piece++)
        {
            done[piece] = BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(header.Length + piece * sizeof(int)));
            if (done[piece] < 0 || done[piece] > LengthOf(piece, sizeBytes, pieceBytes))
                return null;
        }

        return done;
    }
}
