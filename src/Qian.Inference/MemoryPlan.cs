namespace Qian.Inference;

/// <summary>
/// What a model takes in memory, in closed form and before anything is loaded (sizes: MODEL.md, "State"). All in bytes.
/// </summary>
public sealed record MemoryPlan
{
    /// <summary>Weights repacked or converted into memory of the engine's own.</summary>
    public required long OwnedWeightBytes { get; init; }

    /// <summary>Weights used where they lie in the mapped file; they need as much of the page cache.</summary>
    public required long MappedWeightBytes { get; init; }

    /// <summary>Buffers of a pass.</summary>
    public required long ScratchBytes { get; init; }

    /// <summary>Recurrent state and convolution windows of one sequence, whatever its length.</summary>
    public required long SequenceStateBytes { get; init; }

    /// <summary>Keys and values of one token.</summary>
    public required long KvBytesPerToken { get; init; }

    /// <summary>
    /// What states that are kept for prompts to come may take at most (<see cref="EngineOptions.PrefixCacheBytes"/>), their keys and
    /// values included. It is part of the room for keys and values and makes way for requests that need it.
    /// </summary>
    public long PrefixCacheBytes { get; init; }

    /// <summary>What the engine may take.</summary>
    public required long AvailableBytes { get; init; }

    /// <summary>Everything but keys and values, with <paramref name="sequenceCount"/> sequences.</summary>
    public long FixedBytes(int sequenceCount) => OwnedWeightBytes + MappedWeightBytes + ScratchBytes + sequenceCount * SequenceStateBytes;

    /// <summary>Everything, for one sequence of <paramref name="contextLength"/> tokens.</summary>
    public long TotalBytes(int contextLength) => FixedBytes(1) + contextLength * KvBytesPerToken;

    /// <summary>Longest context of one sequence that fits; 0 when the weights alone do not.</summary>
    public long LargestContext => Math.Max(0, AvailableBytes - FixedBytes(1)) / Math.Max(1, KvBytesPerToken);

    internal static string Format(long bytes) => bytes switch
    {
        >= 1L << 30 => FormattableString.Invariant($"{bytes / (double)(1L << 30):0.00} GiB"),
        >= 1L << 20 => FormattableString.Invariant($"{bytes / (double)(1L << 20):0.0} MiB"),
        _ => FormattableString.Invariant($"{bytes / 1024.0:0.0} KiB"),
    };
}
