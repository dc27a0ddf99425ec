using System.Text;
using Qian.Inference;

namespace Qian.Training;

// The source files of a folder, in ordinal order of their paths. Left out: what .gitignore files (nested ones too) exclude, version control,
// vendored and built folders, links, lock files, and files that are no source: too large, not UTF-8, with a zero byte, or minified.
internal sealed class SourceTree
{
    private const int DeepestFolder = 64;

    // Hand-written source has no lines like these.
    private const int LongestLine = 4096;
    private const int LongestMeanLine = 200;

    private static readonly HashSet<string> s_folders = new(StringComparer.OrdinalIgnoreCase)
    {
        ".git", ".hg", ".svn", ".vs", ".vscode", ".idea", "node_modules", "bower_components", "vendor", "third_party", "thirdparty", "site-packages",
        "__pycache__", ".venv", "venv", ".tox", ".mypy_cache", "bin", "obj",
    };

    private static readonly HashSet<string> s_files = new(StringComparer.OrdinalIgnoreCase)
    {
        "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "packages.lock.json", "Cargo.lock", "poetry.lock", "Pipfile.lock", "composer.lock", "Gemfile.lock", "go.sum",
    };

    private readonly string _root;
    private readonly DataOptions _options;
    private readonly List<(IgnoreRules Rules, int Depth)> _rules = [];
    private readonly List<string> _names = [];
    private int _fileCount;

    public SourceTree(string root, DataOptions options)
    {
        _root = Path.GetFullPath(root);
        _options = options;
        if (!Directory.Exists(_root))
            throw new BadRequestException($"{root}: no such folder; expected a folder of source code.");
    }

    // What the model is told the project is called.
    public string Name => Path.GetFileName(_root.TrimEnd(Path.DirectorySeparatorChar)) is { Length: > 0 } name ? name : "project";

    // Path: from the root, with slashes.
    public IEnumerable<(string Path, string FullPath, ReadOnlyMemory<byte> Text)> Files() => Walk(new DirectoryInfo(_root));

    private IEnumerable<(string Path, string FullPath, ReadOnlyMemory<byte> Text)> Walk(DirectoryInfo folder)
    {
        if (_names.Count > DeepestFolder)
            yield break;
        int ruleCount = _rules.Count;
        if (ReadRules(folder) is { } rules)
            _rules.Add((rules, _names.Count));
        foreach (FileSystemInfo entry in List(folder))
        {
            _names.Add(entry.Name);
            if (!entry.Attributes.HasFlag(FileAttributes.ReparsePoint) && !IsIgnored(entry is DirectoryInfo))
            {
                if (entry is DirectoryInfo inner)
                {
                    if (!s_folders.Contains(inner.Name))
                    {
                        foreach ((string Path, string FullPath, ReadOnlyMemory<byte> Text) found in Walk(inner))
                            yield return found;
                    }
                }
                else if (ReadSource(entry) is { Length: > 0 } text)
                {
                    if (++_fileCount > _options.MostFiles)
                        throw new BadRequestException($"{_root}: more than {_options.MostFiles} source files; expected fewer. Name a smaller folder.");
                    yield return (string.Join('/', _names), entry.FullName, text);
                }
            }

            _names.RemoveAt(_names.Count - 1);
        }

        _rules.RemoveRange(ruleCount, _rules.Count - ruleCount);
    }

    private static FileSystemInfo[] List(DirectoryInfo folder)
    {
        try
        {
            return [.. folder.GetFileSystemInfos().OrderBy(entry => entry.Name, StringComparer.Ordinal)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new BadRequestException($"{folder.FullName}: cannot be read: {e.Message}", e);
        }
    }

    private static IgnoreRules? ReadRules(DirectoryInfo folder)
    {
        string path = Path.Combine(folder.FullName, ".gitignore");
        if (!File.Exists(path))
            return null;
        ReadOnlyMemory<byte> text = DataFiles.ReadAll(path, IgnoreRules.LongestFileBytes, out string? fault);
        return fault is null ? new IgnoreRules(Encoding.UTF8.GetString(text.Span)) : throw new BadRequestException($"{path}: {fault}");
    }

    // The innermost .gitignore that says anything decides.
    private bool IsIgnored(bool isFolder)
    {
        ReadOnlySpan<string> names = System.Runtime.InteropServices.CollectionsMarshal.AsSpan(_names);
        for (int i = _rules.Count - 1; i >= 0; i--)
        {
            if (_rules[i].Rules.IsIgnored(names[_rules[i].Depth..], isFolder) is { } isIgnored)
                return isIgnored;
        }

        return false;
    }

    // Empty for what is no source.
    private ReadOnlyMemory<byte> ReadSource(FileSystemInfo entry)
    {
        if (s_files.Contains(entry.Name) || entry.Name.Contains(".min.", StringComparison.OrdinalIgnoreCase))
            return default;
        ReadOnlyMemory<byte> text = DataFiles.ReadAll(entry.FullName, _options.Code.LongestFileBytes, out string? fault);
        return fault is null && !text.Span.Contains((byte)0) && !LooksMinified(text.Span) ? text : default;
    }

    private static bool LooksMinified(ReadOnlySpan<byte> text)
    {
        int lineCount = 0;
        foreach (Range line in text.Split((byte)'\n'))
        {
            (_, int length) = line.GetOffsetAndLength(text.Length);
            if (length > LongestLine)
                return true;
            lineCount++;
        }

        return text.Length > (long)LongestMeanLine * lineCount;
    }
}
