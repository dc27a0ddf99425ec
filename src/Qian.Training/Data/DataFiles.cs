using System.Text.Unicode;
using Qian.Inference;
using Qian.Kernels;

namespace Qian.Training;

// Streams the items of data files, in a fixed order: paths as given, folders by ordinal path. Links to folders are not followed.
// Knows nothing of what the items say.
internal sealed class DataFiles
{
    // Documents are cut at the first blank line from here on, so that a book is not one sample, all held out or all trained on.
    private const int SectionBytes = 16 << 10;

    private static readonly EnumerationOptions s_everyFile = new() { RecurseSubdirectories = true, IgnoreInaccessible = true, AttributesToSkip = FileAttributes.ReparsePoint };

    private readonly DataOptions _options;

    public DataFiles(DataOptions options) => _options = options;

    public IEnumerable<DataItem> Read(IReadOnlyList<string> paths)
    {
        foreach (string path in ListFiles(paths))
        {
            foreach (DataItem item in IsJsonLines(path) ? ReadLines(path) : ReadDocument(path))
                yield return item;
        }
    }

    private static bool IsJsonLines(string path) => path.EndsWith(".jsonl", StringComparison.OrdinalIgnoreCase);

    private static bool IsDocument(string path) =>
        path.EndsWith(".txt", StringComparison.OrdinalIgnoreCase) || path.EndsWith(".md", StringComparison.OrdinalIgnoreCase);

    private List<string> ListFiles(IReadOnlyList<string> paths)
    {
        var files = new List<string>();
        foreach (string path in paths)
        {
            int countBefore = files.Count;
            if (Directory.Exists(path))
            {
                foreach (string file in Directory.EnumerateFiles(path, "*", s_everyFile).Where(file => IsJsonLines(file) || IsDocument(file)))
                    AddFile(files, file);
                files.Sort(countBefore, files.Count - countBefore, StringComparer.Ordinal);
                if (files.Count == countBefore)
                    throw new BadRequestException($"{path}: expected .jsonl, .txt or .md files in this folder, found none.");
            }
            else if (!File.Exists(path))
            {
                throw new BadRequestException($"{path}: no such file or folder; expected training data.");
            }
            else if (IsJsonLines(path) || IsDocument(path))
            {
                AddFile(files, path);
            }
            else
            {
                throw new BadRequestException($"{path}: expected a name that ends in .jsonl, .txt or .md.");
            }
        }

        return files;
    }

    private void AddFile(List<string> files, string file)
    {
        if (files.Count == _options.MostFiles)
            throw new BadRequestException($"More than {_options.MostFiles} data files; expected fewer. Name a smaller folder.");
        files.Add(file);
    }

    private IEnumerable<DataItem> ReadLines(string path)
    {
        using var file = new LineFile(path, _options.LongestLineBytes);
        while (file.TryRead(out ReadOnlyMemory<byte> line, out string? fault))
        {
            if (fault is not null || !IsBlank(line.Span))
                yield return new DataItem(DataItemKind.JsonLine, $"{path}:{file.LineNumber}", line.ToArray(), fault);
        }
    }

    private IEnumerable<DataItem> ReadDocument(string path)
    {
        ReadOnlyMemory<byte> text = ReadAll(path, _options.LongestFileBytes, out string? fault);
        if (fault is not null)
        {
            yield return new DataItem(DataItemKind.DocumentEnd, path, default, fault);
            yield break;
        }

        for (int start = 0; start < text.Length;)
        {
            int end = FindSectionEnd(text.Span, start);
            if (!IsBlank(text.Span[start..end]))
                yield return new DataItem(end < text.Length ? DataItemKind.DocumentPart : DataItemKind.DocumentEnd, path, text[start..end]);
            start = end;
        }
    }

    // After a blank line, where there is one within as many bytes again; else after any line; else at the end.
    private static int FindSectionEnd(ReadOnlySpan<byte> text, int start)
    {
        if (text.Length - start <= 2 * SectionBytes)
            return text.Length;
        ReadOnlySpan<byte> reach = text.Slice(start + SectionBytes, SectionBytes);
        int blank = reach.IndexOf("\n\n"u8);
        int gap = blank >= 0 ? blank + 2 : reach.IndexOf((byte)'\n') + 1;
        if (gap > 0)
            return start + SectionBytes + gap;
        int next = text[(start + SectionBytes)..].IndexOf((byte)'\n');
        return next < 0 ? text.Length : start + SectionBytes + next + 1;
    }

    // The whole of a UTF-8 file without its byte order mark; fault: why not.
    public static ReadOnlyMemory<byte> ReadAll(string path, int longestBytes, out string? fault)
    {
        fault = null;
        try
        {
            RegularFile.Require(path);
            using FileStream stream = File.OpenRead(path);
            if (stream.Length > longestBytes)
            {
                fault = $"expected at most {longestBytes} bytes, found {stream.Length}";
                return default;
            }

            var bytes = new byte[stream.Length];
            stream.ReadExactly(bytes);
            if (Utf8.IsValid(bytes))
                return bytes.AsSpan().StartsWith("\uFEFF"u8) ? bytes.AsMemory(3) : bytes;
            fault = "expected UTF-8, found other bytes";
            return default;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            fault = $"cannot be read: {e.Message}";
            return default;
        }
    }

    private static bool IsBlank(ReadOnlySpan<byte> text) => text.IndexOfAnyExcept(" \t\r\n"u8) < 0;
}
