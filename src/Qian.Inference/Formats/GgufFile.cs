using System.Globalization;
using System.Text.RegularExpressions;
using Qian.Kernels;

namespace Qian.Inference.Formats;

// An open GGUF model: one file, or all parts of a split set given any one of them. Mapped, so opening reads the headers only.
// The metadata is that of the first part; tensors come from all. Knows the container, not what any key or tensor means.
internal sealed partial class GgufFile : IDisposable
{
    private const int LongestText = 64 << 20;

    private readonly List<GgufPart> _parts = [];
    private readonly List<GgufTensor> _tensors = [];
    private readonly Dictionary<string, GgufTensor> _byName = new(StringComparer.Ordinal);

    private GgufFile()
    {
    }

    // The first part's.
    public string Path => _parts[0].Path;

    public IReadOnlyList<GgufPart> Parts => _parts;

    public uint Version => _parts[0].Version;

    public IReadOnlyDictionary<string, GgufValue> Metadata => _parts[0].Metadata;

    // In file order, part after part.
    public IReadOnlyList<GgufTensor> Tensors => _tensors;

    public static GgufFile Open(string path)
    {
        var file = new GgufFile();
        try
        {
            file.OpenParts(path);
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    public GgufTensor? Find(string name) => _byName.GetValueOrDefault(name);

    public bool Has(string key) => Metadata.ContainsKey(key);

    public long Integer(string key, long least, long most) => OptionalInteger(key, least, most) ?? throw Missing(key);

    public long? OptionalInteger(string key, long least, long most)
    {
        if (!Metadata.TryGetValue(key, out GgufValue? value))
            return null;
        if (value.IsArray || !value.TryInteger(0, out long number))
            throw Wrong(key, "an integer", value);
        return number >= least && number <= most ? number : throw Wrong(key, $"a value from {least} to {most}", value);
    }

    public double Number(string key, double least, double most) => OptionalNumber(key, least, most) ?? throw Missing(key);

    public double? OptionalNumber(string key, double least, double most)
    {
        if (!Metadata.TryGetValue(key, out GgufValue? value))
            return null;
        if (value.IsArray || !value.TryNumber(0, out double number))
            throw Wrong(key, "a number", value);
        return number >= least && number <= most ? number : throw Wrong(key, FormattableString.Invariant($"a value from {least} to {most}"), value);
    }

    public bool? OptionalBool(string key)
    {
        if (!Metadata.TryGetValue(key, out GgufValue? value))
            return null;
        return !value.IsArray && value.TryBool(0, out bool truth) ? truth : throw Wrong(key, "a bool", value);
    }

    public string Text(string key) => OptionalText(key) ?? throw Missing(key);

    public string? OptionalText(string key)
    {
        if (!Metadata.TryGetValue(key, out GgufValue? value))
            return null;
        if (value.Type != GgufValueType.String)
            throw Wrong(key, "a string", value);
        return value.Bytes.Length <= LongestText ? value.StringAt() : throw Wrong(key, $"a string of at most {LongestText} bytes", value);
    }

    // An array whose elements are any integers, at most `mostCount` of them.
    public long[]? OptionalIntegers(string key, int mostCount)
    {
        GgufValue? value = OptionalArray(key, mostCount);
        if (value == null)
            return null;
        long[] numbers = new long[value.Count];
        for (int i = 0; i < numbers.Length; i++)
        {
            if (!value.TryInteger(i, out numbers[i]))
                throw Wrong(key, "an array of integers", value);
        }
        return numbers;
    }

    // Bools, or integers where 0 is false.
    public bool[]? OptionalBools(string key, int mostCount)
    {
        GgufValue? value = OptionalArray(key, mostCount);
        if (value == null)
            return null;
        bool[] truths = new bool[value.Count];
        for (int i = 0; i < truths.Length; i++)
        {
            if (value.TryInteger(i, out long number))
                truths[i] = number != 0;
            else if (!value.TryBool(i, out truths[i]))
                throw Wrong(key, "an array of bools", value);
        }
        return truths;
    }

    // Left in place; read with StringBytes.
    public GgufValue? OptionalStrings(string key)
    {
        GgufValue? value = OptionalArray(key, int.MaxValue);
        return value == null || value.ElementType == GgufValueType.String ? value : throw Wrong(key, "an array of strings", value);
    }

    public GgufValue? OptionalArray(string key, int mostCount)
    {
        if (!Metadata.TryGetValue(key, out GgufValue? value))
            return null;
        if (!value.IsArray)
            throw Wrong(key, "an array", value);
        return value.Count <= mostCount ? value : throw Wrong(key, $"at most {mostCount} elements", value);
    }

    public BadModelFileException Missing(string key) =>
        new($"{Path}: key {FileText.Quote(key)} is missing; the file was not made by a converter for this model family, or is damaged");

    public BadModelFileException MissingTensor(string name) => new($"{Path}: tensor {FileText.Quote(name)} is missing.");

    public BadModelFileException Wrong(string key, string expected, GgufValue found) =>
        new($"{Path}: key {FileText.Quote(key)}: expected {expected}, found {found.Describe()}");

    public void Dispose()
    {
        foreach (GgufPart part in _parts)
            part.Dispose();
    }

    private void OpenParts(string path)
    {
        GgufPart given = GgufPart.Open(path);
        _parts.Add(given);
        long partCount = OptionalInteger("split.count", 0, 99999) ?? 0;
        if (partCount > 1)
        {
            long givenNumber = Integer("split.no", 0, partCount - 1);
            Match spelling = PartName().Match(System.IO.Path.GetFileName(path));
            if (!spelling.Success || long.Parse(spelling.Groups[2].Value, CultureInfo.InvariantCulture) != givenNumber + 1
                || long.Parse(spelling.Groups[3].Value, CultureInfo.InvariantCulture) != partCount)
                throw new BadModelFileException($"{path}: this is part {givenNumber + 1} of {partCount}; its name must end in -{givenNumber + 1:d5}-of-{partCount:d5}.gguf so that the other parts can be found");
            string folder = System.IO.Path.GetDirectoryName(path) ?? "";
            string stem = spelling.Groups[1].Value;
            _parts.Clear();
            for (int i = 0; i < partCount; i++)
                _parts.Add(i == givenNumber ? given : OpenPart(System.IO.Path.Combine(folder, $"{stem}-{i + 1:d5}-of-{partCount:d5}.gguf"), i, partCount, given));
        }
        foreach (GgufPart part in _parts)
        {
            foreach (GgufTensor tensor in part.Tensors)
            {
                if (!_byName.TryAdd(tensor.Name, tensor))
                    throw new BadModelFileException($"{part.Path}: tensor {FileText.Quote(tensor.Name)} occurs twice" + (partCount > 1 ? " in this split set" : ""));
                _tensors.Add(tensor);
            }
        }
        if (partCount > 1 && OptionalInteger("split.tensors.count", 0, int.MaxValue) is long expected && expected != _tensors.Count)
            throw new BadModelFileException($"{Path}: key 'split.tensors.count' says {expected} tensors, the {partCount} parts hold {_tensors.Count}");
    }

    private static GgufPart OpenPart(string path, int number, long partCount, GgufPart given)
    {
        if (!File.Exists(path))
        {
            given.Dispose();
            throw new BadModelFileException($"{path}: part {number + 1} of {partCount} is missing; put all parts of the split model into one folder");
        }
        GgufPart? part = null;
        try
        {
            part = GgufPart.Open(path);
            if (Split(part, "split.no") != number || Split(part, "split.count") != partCount)
                throw new BadModelFileException($"{path}: expected part {number + 1} of {partCount} by its name, but its keys 'split.no' and 'split.count' say otherwise");
            return part;
        }
        catch
        {
            part?.Dispose();
            given.Dispose();
            throw;
        }
    }

    private static long Split(GgufPart part, string key) =>
        part.Metadata.TryGetValue(key, out GgufValue? value) && !value.IsArray && value.TryInteger(0, out long number) ? number : -1;

    [GeneratedRegex(@"^(.*)-(\d{5})-of-(\d{5})\.gguf$", RegexOptions.CultureInvariant)]
    private static partial Regex PartName();
}
