using System.Globalization;
using Qian.Inference;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Weights;

// Which files of a repository to fetch, and why.
internal sealed record FileChoice(IReadOnlyList<HubFile> Files, string? Reason)
{
    private static readonly string[] s_companions =
    [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt",
        "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json", "model.safetensors.index.json",
    ];

    public static bool IsSafetensorsFile(string path) => !path.Contains('/', StringComparison.Ordinal)
        && path.EndsWith(".safetensors", StringComparison.OrdinalIgnoreCase)
        && !path.StartsWith("consolidated", StringComparison.OrdinalIgnoreCase);

    // `memoryBytes`: what the model may take, for the choice among several types.
    public static FileChoice Of(HubListing listing, string? type, int contextLength, long memoryBytes)
    {
        Dictionary<string, HubFile> files = listing.Files.ToDictionary(file => file.Path, StringComparer.Ordinal);
        List<GgufSet> sets = GgufSet.Of(files.Keys);
        if (type is not null)
        {
            List<GgufSet> matching = GgufSet.Matching(sets, type);
            if (matching.Count == 1)
                return new FileChoice(Whole(listing, matching[0], files), null);
            throw new BadRequestException(matching.Count == 0
                ? $"{listing.Repo} has no GGUF file of the type {type}. It has: {Shown(sets, files)}"
                : $"{listing.Repo} has {matching.Count} GGUF files of the type {type}; give the whole name of one after the colon. They are: {Shown(matching, files)}");
        }

        if (files.ContainsKey("config.json") && files.Keys.Any(IsSafetensorsFile))
            return new FileChoice([.. listing.Files.Where(file => s_companions.Contains(file.Path) || IsSafetensorsFile(file.Path))], null);
        if (sets.Count == 0)
            throw new BadRequestException($"{listing.Repo} has neither GGUF files nor config.json with safetensors; there is nothing here that could be run.");
        return Largest(listing, sets, files, contextLength, memoryBytes);
    }

    private static FileChoice Largest(HubListing listing, List<GgufSet> sets, Dictionary<string, HubFile> files, int contextLength, long memoryBytes)
    {
        (long besides, string basis) = MemoryBesidesWeights(listing.Repo, contextLength);
        GgufSet? best = null;
        foreach (GgufSet set in sets)
        {
            if (set.IsWhole && Bytes(set, files) is { } bytes && bytes + besides <= memoryBytes && (best is null || bytes > Bytes(best, files)))
                best = set;
        }

        string room = string.Create(CultureInfo.InvariantCulture, $"{MemoryPlan.Format(memoryBytes)} of memory to use, {MemoryPlan.Format(besides)} of it for {contextLength} tokens of context ({basis})");
        if (best is null)
            throw new BadRequestException($"No GGUF file of {listing.Repo} fits this machine: {room}. Give a type to fetch it nevertheless, or a smaller --context. It has: {Shown(sets, files)}");
        return new FileChoice(Whole(listing, best, files), $"{best.Type ?? best.Stem}, {MemoryPlan.Format(Bytes(best, files)!.Value)}: the largest of {sets.Count} that fits; {room}");
    }

    // Keys and values, state and scratch of the published shape that the repository's name carries; for other names an allowance.
    private static (long Bytes, string Basis) MemoryBesidesWeights(string repo, int contextLength)
    {
        SynthShape? shape = SynthShape.All.Where(shape => shape.Title.StartsWith("Qwen", StringComparison.Ordinal) && repo.Contains(shape.Title, StringComparison.OrdinalIgnoreCase)).MaxBy(shape => shape.Title.Length);
        if (shape is null)
            return ((2L << 30) + contextLength * 65536L, "an allowance: the name tells no known shape");
        ModelConfig config = shape.ToConfig(null, withMtp: false, shape.VocabularySize);
        var range = LayerRange.All(config);
        KvShape kv = MemoryEstimate.CacheShape(config, range, mtp: false);
        long floats = new ScratchSizes(config, new EngineOptions().MaxBatchRows, false).TotalFloats + StateShape.Of(config, range).FloatCount;
        return (floats * sizeof(float) + kv.BlockBytes(KvType.F16) / kv.BlockTokens * contextLength, $"shape of {shape.Title}");
    }

    private static HubFile[] Whole(HubListing listing, GgufSet set, Dictionary<string, HubFile> files) => set.IsWhole
        ? [.. set.Paths.Select(path => files[path])]
        : throw new BadRequestException($"{listing.Repo}: {set.Stem} is a set of {set.PartCount} parts, of which {set.Paths.Count} are there.");

    private static long? Bytes(GgufSet set, Dictionary<string, HubFile> files)
    {
        long sum = 0;
        foreach (string path in set.Paths)
        {
            if (files[path].SizeBytes is not { } bytes)
                return null;
            sum += bytes;
        }

        return sum;
    }

    private static string Shown(IReadOnlyList<GgufSet> sets, Dictionary<string, HubFile> files)
    {
        const int most = 60;
        if (sets.Count == 0)
            return "no GGUF file of a model.";
        IEnumerable<string> names = sets.Take(most).Select(set => $"{set.Paths[0]}{(Bytes(set, files) is { } bytes ? $" ({MemoryPlan.Format(bytes)})" : "")}");
        return string.Join(", ", names) + (sets.Count > most ? $" and {sets.Count - most} more" : "");
    }
}
