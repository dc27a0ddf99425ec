using System.Text.Json;

namespace Qian.Inference.Formats;

// All safetensors files of a folder as one list of tensors: model.safetensors.index.json and its shards, or model.safetensors,
// or the only *.safetensors file there is. File names in the index are taken as names, never as paths.
internal sealed class SafetensorsSet : IDisposable
{
    private const string IndexName = "model.safetensors.index.json";
    private const int MostShards = 10000;

    private readonly List<SafetensorsFile> _files = [];
    private readonly List<SafetensorsTensor> _tensors = [];
    private readonly Dictionary<string, SafetensorsTensor> _byName = new(StringComparer.Ordinal);

    private SafetensorsSet()
    {
    }

    public IReadOnlyList<SafetensorsFile> Files => _files;

    public IReadOnlyList<SafetensorsTensor> Tensors => _tensors;

    public static SafetensorsSet OpenFolder(string folder)
    {
        var set = new SafetensorsSet();
        try
        {
            string index = Path.Combine(folder, IndexName);
            if (File.Exists(index))
            {
                set.OpenIndex(folder, index);
            }
            else
            {
                string single = Path.Combine(folder, "model.safetensors");
                string[] candidates = File.Exists(single) ? [single] : Directory.GetFiles(folder, "*.safetensors");
                if (candidates.Length != 1)
                    throw new BadModelFileException($"{folder}: expected {IndexName} or one .safetensors file, found {candidates.Length} .safetensors files and no index");
                set.Add(candidates[0]);
            }
            return set;
        }
        catch
        {
            set.Dispose();
            throw;
        }
    }

    public SafetensorsTensor? Find(string name) => _byName.GetValueOrDefault(name);

    public void Dispose()
    {
        foreach (SafetensorsFile file in _files)
            file.Dispose();
    }

    private void OpenIndex(string folder, string indexPath)
    {
        using JsonDocument document = JsonSection.Load(indexPath, 256 << 20);
        JsonSection map = JsonSection.Root(document, indexPath).Section("weight_map");
        var shards = new HashSet<string>(StringComparer.Ordinal);
        foreach ((string name, JsonElement file) in map.Fields())
        {
            string? shard = file.ValueKind == JsonValueKind.String ? JsonSection.TextOrNull(file) : null;
            if (string.IsNullOrEmpty(shard) || shard.Length > 255 || shard.AsSpan().ContainsAny("/\\:\0") || !shard.EndsWith(".safetensors", StringComparison.Ordinal))
                throw new BadModelFileException($"{indexPath}: weight_map {FileText.Quote(name)}: expected the name of a .safetensors file in this folder, found {FileText.Quote(shard ?? "")}");
            if (!shards.Add(shard))
                continue;
            if (shards.Count > MostShards)
                throw new BadModelFileException($"{indexPath}: weight_map names more than {MostShards} files");
            string path = Path.Combine(folder, shard);
            if (!File.Exists(path))
                throw new BadModelFileException($"{path}: this shard is missing (named in {IndexName}); the download is incomplete");
            Add(path);
        }
        foreach ((string name, _) in map.Fields())
        {
            if (!_byName.ContainsKey(name))
                throw new BadModelFileException($"{indexPath}: tensor {FileText.Quote(name)} is in the index but in none of its files; the shards are not of one download");
        }
    }

    private void Add(string path)
    {
        SafetensorsFile file = SafetensorsFile.Open(path);
        _files.Add(file);
        foreach (SafetensorsTensor tensor in file.Tensors)
        {
            if (!_byName.TryAdd(tensor.Name, tensor))
                throw new BadModelFileException($"{path}: tensor {FileText.Quote(tensor.Name)} is also in {_byName[tensor.Name].FilePath}");
            _tensors.Add(tensor);
        }
    }
}
