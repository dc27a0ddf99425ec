namespace Qian.Inference.Formats;

// Whose layout the quantised tensors of a Hugging Face folder have.
internal enum QuantizationMethod
{
    None,
    Fp8,
    Awq,
    Gptq,
    CompressedTensors,
    ModelOpt,
}

// Rows and columns that share one multiplier.
internal readonly record struct Fp8Blocks(int Rows, int Columns);

// 4-bit codes: columns that share a scale (0: a whole row), and whether their zero point is the middle code.
internal readonly record struct Int4Scheme(int GroupSize, bool IsSymmetric);

// What config.json's quantization_config says of the weights. Which matrices are quantised at all is not here: the tensors say that,
// and lists of exceptions (modules_to_not_convert, ignore, dynamic) only repeat it.
internal sealed record QuantizationScheme(QuantizationMethod Method)
{
    public static QuantizationScheme None { get; } = new(QuantizationMethod.None);

    public Fp8Blocks? Fp8 { get; init; }

    // Several where layers differ.
    public IReadOnlyList<Int4Scheme> Int4 { get; init; } = [];

    public bool HasNvfp4 { get; init; }

    // GPTQ's first version: stored zero points are one too small.
    public bool ZerosLackOne { get; init; }

    // For people; null when nothing is quantised.
    public string? Describe()
    {
        if (Method == QuantizationMethod.None)
            return null;
        var parts = new List<string>();
        foreach (Int4Scheme scheme in Int4)
            parts.Add($"int4 in {(scheme.GroupSize == 0 ? "rows" : $"groups of {scheme.GroupSize}")}, {(scheme.IsSymmetric ? "symmetric" : "with zero points")}");
        if (HasNvfp4)
            parts.Add("NVFP4");
        if (Fp8 is { } blocks)
            parts.Add(Method == QuantizationMethod.Fp8 ? $"in blocks of {blocks.Rows} x {blocks.Columns}" : "FP8");
        return $"{Name(Method)} {string.Join("; ", parts)}";
    }

    private static string Name(QuantizationMethod method) => method switch
    {
        QuantizationMethod.Fp8 => "FP8",
        QuantizationMethod.Awq => "AWQ",
        QuantizationMethod.Gptq => "GPTQ",
        QuantizationMethod.CompressedTensors => "compressed-tensors",
        _ => "ModelOpt",
    };
}
