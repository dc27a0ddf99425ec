using System.Text.Unicode;
using Qian.Inference;
using Qian.Kernels;

namespace Qian.Training;

// Lines of a UTF-8 file as bytes, one at a time through one buffer: a file may be larger than memory, a line may not. A line longer
// than the bound or of bad UTF-8 is reported and passed over whole, so that the ones after it can still be read.
internal sealed class LineFile : IDisposable
{
    private const int FirstBufferBytes = 1 << 16;

    private readonly FileStream _stream;
    private readonly int _longestLineBytes;
    private byte[] _buffer = new byte[FirstBufferBytes];
    private int _start;
    private int _end;
    private bool _atEnd;

    public LineFile(string path, int longestLineBytes)
    {
        _longestLineBytes = longestLineBytes;
        try
        {
            RegularFile.Require(path);
            _stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 1);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadRequestException($"{path}: cannot be read: {e.Message}", e);
        }
    }

    // Of the line read last, counted from 1.
    public int LineNumber { get; private set; }

    // False at the end. fault: what is wrong with the line, or null; the line is empty then. It is valid until the next call.
    public bool TryRead(out ReadOnlyMemory<byte> line, out string? fault)
    {
        line = default;
        fault = null;
        int searched = 0;
        long tooLong = 0;
        while (true)
        {
            int feed = _buffer.AsSpan(_start + searched, _end - _start - searched).IndexOf((byte)'\n');
            if (feed >= 0 || _atEnd)
            {
                int length = feed >= 0 ? searched + feed : _end - _start;
                if (feed < 0 && length == 0 && tooLong == 0)
                    return false;
                int start = _start;
                _start += feed >= 0 ? length + 1 : length;
                LineNumber++;
                if (tooLong + length > _longestLineBytes)
                    fault = $"expected at most {_longestLineBytes} bytes in a line, found {tooLong + length}";
                else
                    line = Check(_buffer.AsMemory(start, length), out fault);
                return true;
            }

            if (_end - _start > _longestLineBytes)
            {
                tooLong += _end - _start;
                _start = _end;
            }

            searched = _end - _start;
            ReadMore();
        }
    }

    public void Dispose() => _stream.Dispose();

    private ReadOnlyMemory<byte> Check(ReadOnlyMemory<byte> line, out string? fault)
    {
        fault = null;
        if (LineNumber == 1 && line.Span.StartsWith("\uFEFF"u8))
            line = line[3..];
        if (line.Span.EndsWith((byte)'\r'))
            line = line[..^1];
        if (Utf8.IsValid(line.Span))
            return line;
        fault = "expected UTF-8, found other bytes";
        return default;
    }

    private void ReadMore()
    {
        if (_start > 0)
        {
            _buffer.AsSpan(_start, _end - _start).CopyTo(_buffer);
            _end -= _start;
            _start = 0;
        }

        if (_end == _buffer.Length)
            Array.Resize(ref _buffer, (int)Math.Min(2L * _buffer.Length, Array.MaxLength));
        int count = _stream.Read(_buffer, _end, _buffer.Length - _end);
        _end += count;
        _atEnd = count == 0;
    }
}
