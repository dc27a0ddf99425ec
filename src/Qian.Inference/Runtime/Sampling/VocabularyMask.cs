namespace Qian.Inference.Runtime;

// The rows of the output head that no token stands behind (padding of the vocabulary, holes between added tokens), as ranges,
// because they come in long runs. Built once per model, shared by all samplers; applying it costs the undefined ids, not the vocabulary.

internal sealed class VocabularyMask
{
    private readonly (int Start, int Count)[] _undefined;

    private VocabularyMask(int vocabularySize, (int Start, int Count)[] undefined)
    {
        VocabularySize = vocabularySize;
        _undefined = undefined;
    }

    public int VocabularySize { get; }

    /// <summary>From a bitmap of the defined ids: bit (id mod 64) of word (id div 64); ids past its end are undefined.</summary>
    public static VocabularyMask FromDefined(ReadOnlySpan<ulong> defined, int vocabularySize)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(vocabularySize);
        var ranges = new List<(int, int)>();
        int start = -1;
        for (int id = 0; id <= vocabularySize; id++)
        {
            bool undefined = id < vocabularySize && (id >> 6 >= defined.Length || (defined[id >> 6] >> (id & 63) & 1) == 0);
            if (undefined && start < 0)
                start = id;
            if (!undefined && start >= 0)
            {
                ranges.Add((start, id - start));
                start = -1;
            }
        }

        if (ranges.Count == 1 && ranges[0].Item2 == vocabularySize)
            throw new ArgumentException("No id is defined: nothing could ever be generated.", nameof(defined));
        return new VocabularyMask(vocabularySize, [.. ranges]);
    }

    /// <summary>A vocabulary in which every id is defined.</summary>
    public static VocabularyMask All(int vocabularySize) => new(vocabularySize, []);

    public bool IsDefined(int id)
    {
        foreach ((int start, int count) in _undefined)
        {
            if (id >= start && id - start < count)
                return false;
        }

        return id >= 0 && id < VocabularySize;
    }

    public void Apply(Span<float> logits)
    {
        foreach ((int start, int count) in _undefined)
            logits.Slice(start, count).Fill(float.NegativeInfinity);
    }
}
