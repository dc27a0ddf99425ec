using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Measurement;
using Qian.Kernels;

namespace Qian.Weights;

// What a plan needs to know of a machine: memory, how fast it reads, how fast it multiplies, and which share of either an engine
// gets. Measured here with the ceilings that the benchmark uses, or stated: by a preset of machines.json, or a file of that form.
internal sealed record Machine
{
    // What passes of this engine reached of the measured ceilings on the 27B (SPEED.md): reading in decode, 84 to 100 %; products in
    // prefill, 55 to 57 % where the emitted kernels are bound by their conversions, more of the lower ceiling of the others.
    internal const double MeasuredReadShare = 0.93;
    private const double EmittedProductShare = 0.55, ProductShareOfOthers = 0.7;

    private const long MeterBytes = 2L << 30;
    private const int Samples = 3;
    private const long LongestFile = 1 << 20;

    private static readonly JsonSerializerOptions s_options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    private static readonly string[] s_required = ["name", "title", "kind", "memory_gib", "usable_share", "read_gb_per_s", "read_share", "source"];
    private static readonly string[] s_optional = ["int8_tops", "product_share"];
    private static readonly Lazy<IReadOnlyList<Machine>> s_presets = new(ReadPresets);

    public required string Name { get; init; }

    public required string Title { get; init; }

    // cpu, gpu, unified, or this machine.
    public required string Kind { get; init; }

    // For a model.
    public required long UsableBytes { get; init; }

    public required double ReadGigabytesPerSecond { get; init; }

    public required double ReadShare { get; init; }

    // 8-bit multiply-accumulates; null where unknown.
    public double? ProductGmacsPerSecond { get; init; }

    public double ProductShare { get; init; } = 0.4;

    // Where the figures come from.
    public required string Source { get; init; }

    public static IReadOnlyList<Machine> Presets => s_presets.Value;

    // "auto" measures this machine for a second or two; else a preset's name, or a file. `usableBytes`: what the engine may take here.
    public static Machine Find(string name, int threadCount, long usableBytes)
    {
        if (name.Equals("auto", StringComparison.OrdinalIgnoreCase))
            return Measure(threadCount, usableBytes);
        foreach (Machine preset in Presets)
        {
            if (preset.Name.Equals(name, StringComparison.OrdinalIgnoreCase))
                return preset;
        }

        if (!File.Exists(name))
            throw new BadRequestException($"--machine {name}: no such file or preset; presets are {string.Join(", ", Presets.Select(preset => preset.Name))}, or auto for this machine");
        if (new FileInfo(name).Length > LongestFile)
            throw new BadRequestException($"--machine {name}: longer than {LongestFile} bytes; this is not such a file");
        return Read(JsonText(File.ReadAllBytes(name), name), name);
    }

    private static Machine Measure(int threadCount, long usableBytes)
    {
        using var team = new ThreadTeam(threadCount);
        using var meter = new CeilingMeter(team, Math.Min(MeterBytes, usableBytes), quick: false);
        ForeignLoad load = ForeignLoad.Start();
        for (int i = 1; i < Samples; i++)
            meter.Sample();
        string disturbed = load.Share() is > ForeignLoad.Disturbing and var share ? string.Create(CultureInfo.InvariantCulture, $", and too low: other programs had {share:P0} of the processors") : "";
        BenchCeilings ceilings = meter.Medians;
        return new Machine
        {
            Name = "auto",
            Title = $"this machine, {threadCount} threads",
            Kind = "this",
            UsableBytes = usableBytes,
            ReadGigabytesPerSecond = ceilings.ReadGigabytesPerSecond,
            ReadShare = MeasuredReadShare,
            ProductGmacsPerSecond = ceilings.Int8GmacsPerSecond,
            ProductShare = ProductShareOf(ceilings.Int8Form),
            Source = $"measured now{disturbed}; products by {ceilings.Int8Form}",
        };
    }

    internal static double ProductShareOf(string form) => form.StartsWith("vpdpbusd", StringComparison.Ordinal) ? EmittedProductShare : ProductShareOfOthers;

    private static List<Machine> ReadPresets()
    {
        using Stream stream = typeof(Machine).Assembly.GetManifestResourceStream("machines.json")!;
        using JsonDocument document = JsonDocument.Parse(stream);
        return [.. document.RootElement.GetProperty("machines").EnumerateArray().Select(entry => Read(entry, "machines.json"))];
    }

    private static JsonElement JsonText(byte[] bytes, string path)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(bytes, new JsonDocumentOptions { MaxDepth = 8 });
            return document.RootElement.Clone();
        }
        catch (JsonException error)
        {
            throw new BadRequestException($"--machine {path}: {error.Message}", error);
        }
    }

    private static Machine Read(JsonElement element, string path)
    {
        Stated stated;
        try
        {
            stated = element.Deserialize<Stated>(s_options) ?? throw new JsonException("expected an object, found null");
        }
        catch (JsonException error)
        {
            throw new BadRequestException($"--machine {path}: {Fault(element, error)}; expected an object with {string.Join(", ", s_required)}, and perhaps {string.Join(" and ", s_optional)}", error);
        }

        Require(stated.MemoryGib is > 0 and < 1 << 20, "memory_gib");
        Require(stated.UsableShare is > 0 and <= 1, "usable_share");
        Require(stated.ReadGbPerS is > 0 and < 1e6, "read_gb_per_s");
        Require(stated.ReadShare is > 0 and <= 1, "read_share");
        Require(stated.Int8Tops is null or (> 0 and < 1e7), "int8_tops");
        Require(stated.ProductShare is > 0 and <= 1, "product_share");
        return new Machine
        {
            Name = stated.Name,
            Title = stated.Title,
            Kind = stated.Kind,
            UsableBytes = (long)(stated.MemoryGib * stated.UsableShare * (1L << 30)),
            ReadGigabytesPerSecond = stated.ReadGbPerS,
            ReadShare = stated.ReadShare,
            ProductGmacsPerSecond = stated.Int8Tops * 500,
            ProductShare = stated.ProductShare,
            Source = stated.Source,
        };

        void Require(bool holds, string key)
        {
            if (!holds)
                throw new BadRequestException($"--machine {path}: {key} is out of range");
        }
    }

    private static string Fault(JsonElement element, JsonException error)
    {
        if (element.ValueKind != JsonValueKind.Object)
            return $"found {element.ValueKind.ToString().ToLowerInvariant()}";
        string[] given = [.. element.EnumerateObject().Select(property => property.Name)];
        string[] missing = [.. s_required.Except(given)], unknown = [.. given.Except(s_required).Except(s_optional)];
        string[] faults = [.. unknown.Take(1).Select(name => $"{FileText.Quote(name)} is not known"), .. missing.Take(1).Select(name => $"{name} is missing")];
        return faults.Length > 0 ? string.Join(" and ", faults) : $"{error.Path?.TrimStart('$', '.')} is of the wrong kind";
    }

    // An entry of the file.
    private sealed record Stated(string Name, string Title, string Kind, double MemoryGib, double UsableShare, double ReadGbPerS, double ReadShare, string Source, double? Int8Tops = null, double ProductShare = 0.4);
}
