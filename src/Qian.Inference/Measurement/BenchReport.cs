namespace Qian.Inference.Measurement;

// What to measure. Zero-length lists leave a kind out.
internal sealed record BenchRequest
{
    public IReadOnlyList<int> PrefillCounts { get; init; } = [128, 512, 2048];

    public IReadOnlyList<int> Depths { get; init; } = [0, 4096, 32768];

    public IReadOnlyList<int> Batches { get; init; } = [1, 2, 4, 8];

    // Tokens that the MTP head guesses per pass, where the model has one.
    public IReadOnlyList<int> DraftCounts { get; init; } = [1, 2, 3];

    // A LoRA adapter that every token is computed with; what it reads and multiplies is not counted.
    public string? AdapterPath { get; init; }

    // Points whose estimate does not fit into what is left of this are left out.
    public double BudgetSeconds { get; init; } = 240;

    // Short windows and a small read buffer: shows that everything works, not what the machine can do.
    public bool Quick { get; init; }
}

internal enum BenchKind
{
    Prefill,
    Decode,

    // Decoding with drafts, of which as many are accepted as the measurement says, not the model.
    Drafted,
}

// One measured point; medians over its samples. Ceilings are those measured around its own samples.
internal sealed record BenchPoint
{
    public required BenchKind Kind { get; init; }

    // Tokens before the first computed one.
    public required int Depth { get; init; }

    // Prefill: tokens of the prompt. Decode: sequences, one token each. Drafted: drafts per pass.
    public required int Rows { get; init; }

    public required int SampleCount { get; init; }

    public required double TokensPerSecond { get; init; }

    public required double MillisecondsPerPass { get; init; }

    public required double GigabytesPerSecond { get; init; }

    public required double GmacsPerSecond { get; init; }

    public required double ReadCeiling { get; init; }        // GB/s

    public required double ProductCeiling { get; init; }     // GMAC/s of the kind of product the model uses

    // Largest share of the processors that others had in a sample that counts; null when unknown.
    public required double? ForeignShare { get; init; }

    // True when samples stayed disturbed after all repetitions.
    public required bool IsDisturbed { get; init; }

    public required double AllocatedBytesPerToken { get; init; }

    public double ReadShare => GigabytesPerSecond / ReadCeiling;

    public double ProductShare => GmacsPerSecond / ProductCeiling;

    public string Name => Kind switch
    {
        BenchKind.Prefill => $"prefill {Rows}",
        BenchKind.Drafted => $"decode at {Depth}, drafts {Rows}",
        _ => Rows == 1 ? $"decode at {Depth}" : $"decode at {Depth}, batch {Rows}",
    };
}

internal sealed record BenchCeilings(double ReadGigabytesPerSecond, double Int8GmacsPerSecond, string Int8Form, double Float32GmacsPerSecond, string Float32Form);

internal sealed record BenchReport
{
    public required string Model { get; init; }

    public string? Adapter { get; init; }

    public required int ThreadCount { get; init; }

    // Opening, and packing or mapping.
    public required double LoadSeconds { get; init; }

    public required long LoadedBytes { get; init; }

    // True when the packed weights came from a cache file.
    public bool IsMapped { get; init; }

    public IReadOnlyList<string> LoadNotes { get; init; } = [];

    public required long ReadBufferBytes { get; init; }

    // Medians over the whole run.
    public required BenchCeilings Ceilings { get; init; }

    // True where products run on 8 bits, so that their ceiling is the int8 one.
    public required bool UsesInt8 { get; init; }

    public required IReadOnlyList<BenchPoint> Points { get; init; }

    // What was asked for and not measured, with the reason.
    public required IReadOnlyList<string> LeftOut { get; init; }

    public required long NativeBytes { get; init; }

    public required long PeakBytes { get; init; }
}
