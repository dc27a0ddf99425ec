using Qian.Inference;
using Qian.Kernels;

namespace Qian.Weights;

// What to compare on which text.
internal sealed record QualityRequest
{
    public const int MostPieceTokens = 4096;

    // The model that is taken for right; null when its predictions were saved before.
    public string? ReferencePath { get; init; }

    // Predictions saved earlier, in place of the model.
    public string? ReferenceLogitsPath { get; init; }

    // Null when the reference's predictions are only saved.
    public string? CandidatePath { get; init; }

    // Where to save the reference's predictions.
    public string? SaveLogitsPath { get; init; }

    public IReadOnlyList<string> TextPaths { get; init; } = [];

    public int PieceTokens { get; init; } = 512;

    // Of the candidate; the reference keeps f16, or f32 where it is exact.
    public KvType KvType { get; init; } = KvType.F16;

    // LoRA adapter that the candidate runs with.
    public string? AdapterPath { get; init; }

    // Tool prompts; null for the shipped ones.
    public string? ToolPromptsPath { get; init; }

    // Float32 arithmetic in both, so that only the weights differ; or in the reference alone.
    public bool Exact { get; init; }

    public bool ExactReference { get; init; }

    public int? ThreadCount { get; init; }

    public EngineOptions ReferenceOptions => new()
    {
        ThreadCount = ThreadCount,
        ExactArithmetic = Exact || ExactReference,
        KvType = Exact || ExactReference ? KvType.F32 : KvType.F16,
    };

    public EngineOptions CandidateOptions => new() { ThreadCount = ThreadCount, ExactArithmetic = Exact, KvType = KvType };
}
