using System.Security.Cryptography;
using System.Text;

namespace Qian.Weights;

// What an unfinished conversion has behind it: beside the output, a line per finished tensor with the SHA-256 of its bytes, under a
// line that says of which input and options. The next run with the same of both reads those bytes again and goes on behind the last
// one that is as the journal says, so that neither a kill nor a lost write can put wrong bytes into the output. While a run writes,
// it holds the file for itself.
internal sealed class ConversionJournal : IDisposable
{
    private const string Mark = "qian conversion 1";
    private const long MostBytes = 64L << 20;

    private readonly FileStream _file;
    private readonly List<Entry> _entries = [];
    private readonly List<long> _ends = []; // of the lines, with that of the first before them

    public ConversionJournal(string path, string inputDigest, string optionsDigest)
    {
        FilePath = path;
        try
        {
            _file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        }
        catch (IOException error) when (File.Exists(path))
        {
            throw new IOException($"{path} is in use: another run is writing this model", error);
        }

        Read(inputDigest, optionsDigest);
        if (_ends.Count > 0)
            return;
        _file.SetLength(0);
        _file.Position = 0;
        WriteLine($"{Mark} {inputDigest} {optionsDigest}");
    }

    // Why what an earlier run left cannot be used; null when it can, or when there is nothing.
    public string? Refusal { get; private set; }

    // Finished tensors in the order of the file, as an earlier run wrote them down, then as this one does.
    public IReadOnlyList<Entry> Entries => _entries;

    public string FilePath { get; }

    public void Add(string tensorName, byte[] digest)
    {
        _entries.Add(new Entry(tensorName, digest));
        WriteLine($"{Convert.ToHexStringLower(digest)} {tensorName}");
    }

    // Forgets all but the first so many.
    public void Cut(int count)
    {
        _entries.RemoveRange(count, _entries.Count - count);
        _ends.RemoveRange(count + 1, _ends.Count - count - 1);
        _file.SetLength(_ends[^1]);
        _file.Position = _ends[^1];
    }

    public void Delete()
    {
        _file.Dispose();
        File.Delete(FilePath);
    }

    public void Dispose() => _file.Dispose();

    private void Read(string inputDigest, string optionsDigest)
    {
        if (_file.Length == 0)
            return;
        string[] lines = [];
        if (_file.Length <= MostBytes)
        {
            byte[] bytes = new byte[_file.Length];
            _file.ReadExactly(bytes);
            lines = Encoding.UTF8.GetString(bytes).Split('\n');
        }

        if (lines.Length < 2 || lines[0].Split(' ') is not [.. var mark, var input, var options] || string.Join(' ', mark) != Mark)
        {
            Refusal = "its journal is damaged";
            return;
        }

        if (input != inputDigest || options != optionsDigest)
        {
            Refusal = input != inputDigest ? "it was begun from another input, or the input has changed" : "it was begun with other options, or by another version of this program";
            return;
        }

        // The last piece is what no line end follows: a line that was not finished, or nothing.
        _ends.Add(Encoding.UTF8.GetByteCount(lines[0]) + 1);
        for (int i = 1; i < lines.Length - 1 && Parse(lines[i]) is { } entry; i++)
        {
            _entries.Add(entry);
            _ends.Add(_ends[^1] + Encoding.UTF8.GetByteCount(lines[i]) + 1);
        }

        Cut(_entries.Count);
    }

    private static Entry? Parse(string line)
    {
        const int digits = 2 * SHA256.HashSizeInBytes;
        return line.Length > digits + 1 && line[digits] == ' ' && HubPath.IsHex(line[..digits], digits)
            ? new Entry(line[(digits + 1)..], Convert.FromHexString(line.AsSpan(0, digits)))
            : null;
    }

    private void WriteLine(string text)
    {
        byte[] line = Encoding.UTF8.GetBytes(text + "\n");
        _file.Write(line);
        _ends.Add(_file.Position);
    }

    internal sealed record Entry(string TensorName, byte[] Digest);
}
