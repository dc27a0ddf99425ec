using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Qian.Inference;

namespace Qian.Training;

// What the samples were, for the user to read.
internal sealed record SampleStatistics
{
    public int TrainingCount { get; init; }

    public long TrainingTokenCount { get; init; }

    public long TrainingTargetCount { get; init; }

    public int HeldOutCount { get; init; }

    public long HeldOutTokenCount { get; init; }

    public long HeldOutTargetCount { get; init; }

    // Samples left out because an earlier one has the same tokens and targets.
    public int DuplicateCount { get; init; }

    // Source files left out because an earlier one is nearly the same.
    public int NearDuplicateCount { get; init; }

    // Texts without anything to learn.
    public int EmptyCount { get; init; }

    // Lines and files that could not be read, and what was wrong with the first of them.
    public int SkippedCount { get; init; }

    public IReadOnlyList<string> SkippedReasons { get; init; } = [];
}

// All samples of a run, each once, parted into those to train on and those held out to measure. Which side a sample falls on depends
// on the seed and its own content alone, so adding data moves nothing that was there before, and no copy of a held-out sample is
// ever trained on. Order is the order of reading.
internal sealed class SampleSet
{
    private SampleSet(IReadOnlyList<Sample> training, IReadOnlyList<Sample> heldOut, SampleStatistics statistics)
    {
        Training = training;
        HeldOut = heldOut;
        Statistics = statistics;
    }

    public IReadOnlyList<Sample> Training { get; }

    public IReadOnlyList<Sample> HeldOut { get; }

    public SampleStatistics Statistics { get; }

    // heldOut: samples of files that were given for measuring; they join what the fraction of the others yields.
    // found: what reading them has counted already.
    public static SampleSet Create(
        IEnumerable<Sample> samples, double heldOutFraction = 0, ulong seed = 0, IEnumerable<Sample>? heldOut = null, SampleStatistics? found = null)
    {
        if (!(heldOutFraction is >= 0 and < 1))
            throw new BadRequestException($"The held-out fraction is {heldOutFraction}; expected 0 or more and less than 1.");
        var training = new List<Sample>();
        var measured = new List<Sample>();
        var seen = new HashSet<UInt128>();
        int duplicateCount = 0;
        // The held-out files first, so that a copy among the others is the one that goes.
        foreach (Sample sample in heldOut ?? [])
            Add(sample, measured);
        foreach (Sample sample in samples)
            Add(sample, IsHeldOut(sample, heldOutFraction, seed) ? measured : training);
        return new SampleSet(training, measured, (found ?? new SampleStatistics()) with
        {
            TrainingCount = training.Count,
            TrainingTokenCount = training.Sum(sample => (long)sample.Tokens.Length),
            TrainingTargetCount = training.Sum(sample => (long)sample.TargetCount),
            HeldOutCount = measured.Count,
            HeldOutTokenCount = measured.Sum(sample => (long)sample.Tokens.Length),
            HeldOutTargetCount = measured.Sum(sample => (long)sample.TargetCount),
            DuplicateCount = duplicateCount,
        });

        void Add(Sample sample, List<Sample> side)
        {
            if (seen.Add(HashOf(sample)))
                side.Add(sample);
            else
                duplicateCount++;
        }
    }

    // A seeded hash of the content, read as a number in [0, 1), lies below the fraction.
    private static bool IsHeldOut(Sample sample, double fraction, ulong seed)
    {
        if (fraction == 0)
            return false;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(MemoryMarshal.AsBytes(new ReadOnlySpan<ulong>(in seed)));
        hash.AppendData(sample.SplitKey is { } key ? Encoding.UTF8.GetBytes(key) : MemoryMarshal.AsBytes(sample.Tokens.AsSpan()));
        Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
        hash.GetHashAndReset(digest);
        return (MemoryMarshal.Read<ulong>(digest) >> 11) * (1.0 / (1UL << 53)) < fraction;
    }

    // The labels belong to it: of two samples with the same tokens, one may teach another turn.
    private static UInt128 HashOf(Sample sample)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(MemoryMarshal.AsBytes(sample.Tokens.AsSpan()));
        hash.AppendData(MemoryMarshal.AsBytes(sample.Labels.AsSpan()));
        Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
        hash.GetHashAndReset(digest);
        return MemoryMarshal.Read<UInt128>(digest);
    }
}
