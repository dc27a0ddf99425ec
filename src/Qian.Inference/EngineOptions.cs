using Qian.Kernels;

namespace Qian.Inference;

/// <summary>Where drafts come from: tokens that are guessed, then verified several in one pass.</summary>
public enum Speculation
{
    /// <summary>From the checkpoint's MTP head, when it has one and memory allows, and from repetitions in the context.</summary>
    Auto,

    /// <summary>From repetitions in the context only; the MTP head is not loaded for it.</summary>
    PromptLookup,

    /// <summary>No drafts: one token per pass and sequence, and no memory set aside for more.</summary>
    Off,
}

/// <summary>How to run a model. What to run is in the file; what to ask for is in <see cref="SamplingOptions"/>.</summary>
public sealed record EngineOptions
{
    /// <summary>Threads that compute; null for one per processor.</summary>
    public int? ThreadCount { get; init; }

    /// <summary>Tokens that one sequence may hold; null for as many as the model was trained for and memory allows.</summary>
    public int? ContextLength { get; init; }

    /// <summary>Storage type of attention keys and values.</summary>
    public KvType KvType { get; init; } = KvType.F16;

    /// <summary>
    /// Float32 arithmetic on the stored weights, without rounding activations to 8 bits: slow, the reference for everything
    /// faster. Quantised weights stay mapped and are decoded as they are used.
    /// </summary>
    public bool ExactArithmetic { get; init; }

    /// <summary>Type to convert float (and FP8) matrices to while loading; null keeps what the file holds.</summary>
    public WeightType? LoadAs { get; init; }

    /// <summary>Most rows of one pass. Larger passes prefill faster and take more scratch memory; a multiple of 64.</summary>
    public int MaxBatchRows { get; init; } = 512;

    /// <summary>Position scaling in place of the file's.</summary>
    public YarnScaling? Yarn { get; init; }

    /// <summary>
    /// Whether later tokens are guessed and verified several at a time. It never changes what is generated, only when; how far
    /// ahead is decided live from what the guesses bring and cost. <see cref="SamplingOptions.DraftTokens"/> decides per request.
    /// </summary>
    public Speculation Speculation { get; init; } = Speculation.Auto;

    /// <summary>Loads the MTP head when the checkpoint has one.</summary>
    public bool LoadMtp { get; init; }

    /// <summary>The MTP head's own file, where it is not part of the model's.</summary>
    public string? MtpPath { get; init; }

    /// <summary>Bytes that the engine may take; null for what the machine has free.</summary>
    public long? MemoryLimitBytes { get; init; }

    /// <summary>
    /// Bytes that model states may take which are kept so that a prompt is not read twice: after messages, after replies. Null for
    /// half of what is free beside the model, at most 8 GiB; 0 keeps none. Requests that need the memory get it first.
    /// </summary>
    public long? PrefixCacheBytes { get; init; }

    /// <summary>
    /// Folder in which such states outlive the process, made where there is none; null keeps them in memory only. It holds what was
    /// said to the model, as model state and tokens: keep it where nobody else can read.
    /// </summary>
    public string? PrefixDirectory { get; init; }

    /// <summary>Most bytes of <see cref="PrefixDirectory"/> for one model; the states that were used least recently make room.</summary>
    public long PrefixDirectoryBytes { get; init; } = 32L << 30;

    /// <summary>
    /// Where to keep the weights as they stand in memory, so that the next start maps them instead of packing them again: <c>on</c> for a file beside the
    /// model, or a file or folder; null for nowhere. It takes about as much disk as the model, is written at the first start, and anew
    /// whenever it is damaged or the model or the options behind it have changed; see <see cref="Engine.LoadNotes"/>.
    /// </summary>
    public string? PackedCache { get; init; }

    internal void Validate()
    {
        Require(ThreadCount is null or (>= 1 and <= 1024), nameof(ThreadCount), "1 to 1024", ThreadCount);
        Require(ContextLength is null or (>= 1 and <= 1 << 24), nameof(ContextLength), "1 to 16777216", ContextLength);
        Require(MaxBatchRows is >= 64 and <= 1 << 16 && MaxBatchRows % 64 == 0, nameof(MaxBatchRows), "a multiple of 64 from 64 to 65536", MaxBatchRows);
        Require(MemoryLimitBytes is null or > 0, nameof(MemoryLimitBytes), "more than 0", MemoryLimitBytes);
        Require(PrefixCacheBytes is null or >= 0, nameof(PrefixCacheBytes), "0 or more", PrefixCacheBytes);
        Require(PrefixDirectoryBytes >= 0, nameof(PrefixDirectoryBytes), "0 or more", PrefixDirectoryBytes);
        Require(PrefixDirectory is not "", nameof(PrefixDirectory), "a folder", "nothing");
        Require(PackedCache is null || !string.IsNullOrWhiteSpace(PackedCache), nameof(PackedCache), "'on', a file or a folder", "an empty text");
        Require(Enum.IsDefined(Speculation), nameof(Speculation), "auto, prompt lookup or off", Speculation);
        Require(Enum.IsDefined(KvType), nameof(KvType), "f32, f16, bf16 or q8_0", KvType);
        Require(LoadAs is null || WeightFormat.CanEncode(LoadAs.Value), nameof(LoadAs), "a type that can be encoded, such as q8_0, q4_k, bf16 or f32", LoadAs);
        if (Yarn is { } yarn)
            Require(yarn.Factor is >= 1 and <= 64 && yarn.OriginalContext > 0, nameof(Yarn), "a factor from 1 to 64", yarn.Factor);
    }

    private static void Require(bool holds, string name, string expected, object? found)
    {
        if (!holds)
            throw new BadRequestException($"{nameof(EngineOptions)}.{name}: expected {expected}, found {found}.");
    }
}
