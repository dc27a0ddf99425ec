using Qian.Kernels;

namespace Qian.Inference.Formats;

// An adapter as llama.cpp keeps it: a GGUF file of type adapter, tensors named after the base's with .lora_a [in, rank] and
// .lora_b [rank, out] behind (sizes contiguous axis first), one alpha for all, value heads in GGUF's order.
internal static class GgufAdapter
{
    public const string TypeKey = "general.type";
    public const string AdapterTypeKey = "adapter.type";
    public const string AlphaKey = "adapter.lora.alpha";
    public const string EndingA = ".lora_a";
    public const string EndingB = ".lora_b";

    public static bool IsAdapter(GgufFile file) => file.OptionalText(TypeKey) == "adapter";

    public static AdapterFile Open(string path)
    {
        GgufFile file = GgufFile.Open(path);
        try
        {
            return Read(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static AdapterFile Read(GgufFile file)
    {
        if (!IsAdapter(file))
            throw new BadModelFileException($"{file.Path}: key '{TypeKey}': expected 'adapter', found {FileText.Quote(file.OptionalText(TypeKey) ?? "nothing")}; this is no adapter.");
        string kind = file.Text(AdapterTypeKey);
        if (kind != "lora")
            throw new BadModelFileException($"{file.Path}: key '{AdapterTypeKey}': expected 'lora', found {FileText.Quote(kind)}.");
        if (file.OptionalArray("adapter.alora.invocation_tokens", int.MaxValue) is { Count: > 0 })
            throw new BadModelFileException($"{file.Path}: key 'adapter.alora.invocation_tokens': adapters that begin at given tokens are not supported.");
        double alpha = file.OptionalNumber(AlphaKey, -1e9, 1e9) ?? 0;
        var entries = new List<AdapterEntry>();
        int visionCount = 0;
        foreach (GgufTensor tensor in file.Tensors)
        {
            bool isA = tensor.Name.EndsWith(EndingA, StringComparison.Ordinal);
            if (!isA && !tensor.Name.EndsWith(EndingB, StringComparison.Ordinal))
                throw Wrong(file, tensor, $"expected names that end in {EndingA} or {EndingB}");
            string name = tensor.Name[..^EndingA.Length];
            GgufTensor other = file.Find(name + (isA ? EndingB : EndingA)) ?? throw Wrong(file, tensor, $"its other half {FileText.Quote(name + (isA ? EndingB : EndingA))} is missing");
            if (!isA)
                continue;
            if (TensorNames.IsVision(name))
                visionCount++;
            else if (AdapterNames.TryParseGguf(name, out TensorRole role, out int layer))
                entries.Add(Entry(file, name, role, layer, alpha, tensor, other));
            else
                throw Wrong(file, tensor, AdapterNames.Refusal(name));
        }

        if (entries.Count == 0)
            throw new BadModelFileException($"{file.Path}: no pair of low-rank matrices ({EndingA}, {EndingB}) in {file.Tensors.Count} tensors.");
        return new AdapterFile(file.Path, file)
        {
            Name = file.OptionalText("general.name") is { Length: > 0 } given ? given : Path.GetFileNameWithoutExtension(file.Path),
            IsGguf = true,
            UsesRsLora = false,
            Architecture = file.Text("general.architecture"),
            BaseModel = file.OptionalText("general.base_model.0.name"),
            Entries = entries,
            VisionCount = visionCount,
        };
    }

    private static AdapterEntry Entry(GgufFile file, string name, TensorRole role, int layer, double alpha, GgufTensor a, GgufTensor b)
    {
        foreach (GgufTensor tensor in (ReadOnlySpan<GgufTensor>)[a, b])
        {
            if (tensor.Sizes.Length != 2)
                throw Wrong(file, tensor, $"expected a matrix, found {FileText.Shape(tensor.Sizes)}");
        }

        if (a.RowCount > AdapterFile.MostRank)
            throw Wrong(file, a, $"expected a rank of at most {AdapterFile.MostRank}, found {a.RowCount}");
        if (b.ColumnCount != a.RowCount)
            throw Wrong(file, b, $"expected [{a.RowCount}, …] as {FileText.Quote(a.Name)} has that many rows, found {FileText.Shape(b.Sizes)}");
        // The format's rule: no alpha, or 0, leaves the product as it is.
        return new AdapterEntry(name, role, layer, alpha == 0 ? a.RowCount : alpha, Source(a), Source(b));
    }

    private static StoredTensor Source(GgufTensor tensor) => new(tensor.Type, tensor.Data) { Name = tensor.Name, RowCount = tensor.RowCount, ColumnCount = tensor.ColumnCount };

    private static BadModelFileException Wrong(GgufFile file, GgufTensor tensor, string what) => new($"{file.Path}: tensor {FileText.Quote(tensor.Name)}: {what}.");
}
