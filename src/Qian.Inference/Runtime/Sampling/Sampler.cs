using System.Security.Cryptography;

namespace Qian.Inference.Runtime;

// Chooses the next token of one sequence. The order of things, which is part of the contract:
//   undefined ids -> (log-probabilities) -> repetition, presence and frequency, DRY -> bias -> allowed ids
//   -> temperature -> top-k -> top-p -> min-p -> draw.
// One pass over the vocabulary finds the maximum of each block of 128; top-k then reads only the blocks that can hold the k greatest.
// The number drawn is a function of (seed, index of the output token): nothing else that runs can change it, and a sequence whose
// tokens are replayed through Begin and Accept goes on as it would have. It does not know text, end of text, or who shares the batch.
// Memory is reserved at creation for what the options need; a token allocates nothing. Scratch may be shared by the samplers of a thread.

internal sealed class Sampler
{
    // +infinity as a bias, without the NaN that two infinities can make: far above any logit, far below overflow.
    private const float ForcingBias = 1e30f;

    private const float LeastTemperature = 1e-5f;

    private readonly VocabularyMask _vocabulary;
    private readonly SamplingScratch _scratch;
    private readonly bool _greedy;
    private readonly float _temperature, _inverseTemperature, _topP, _minP, _presence, _frequency, _repetition;
    private readonly int _topK;
    private readonly (int Token, float Bias)[] _bias;
    private readonly TokenCounts? _generated;
    private readonly TokenCounts? _seen;
    private readonly DryPenalty? _dry;
    private readonly LogProbRecorder? _logProbs;

    /// <param name="options">Options of the request, merged; fields that are not set take the built-in defaults.</param>
    /// <param name="vocabulary">Which rows of the output head are tokens.</param>
    /// <param name="maxTokenCount">Tokens that prompt and output can ever hold together; bounds the memory of DRY and of the repetition window.</param>
    /// <param name="scratch">Working memory of the thread that samples, or null for one of its own.</param>
    /// <param name="dryBreakerIds">The tokens that contain one of the options' DRY sequence breakers.</param>
    /// <exception cref="BadRequestException">An option is out of range.</exception>
    public Sampler(SamplingOptions options, VocabularyMask vocabulary, int maxTokenCount, SamplingScratch? scratch = null, ReadOnlySpan<int> dryBreakerIds = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maxTokenCount);
        options.Validate();
        options = SamplingOptions.Merge(options);
        int size = vocabulary.VocabularySize;
        _vocabulary = vocabulary;
        _scratch = scratch ?? new SamplingScratch(size);
        _temperature = options.Temperature!.Value;
        _greedy = _temperature < LeastTemperature;
        _inverseTemperature = _greedy ? 0 : 1 / _temperature;
        _topK = options.TopK!.Value == 0 ? size : Math.Min(options.TopK.Value, size);
        _topP = options.TopP!.Value;
        _minP = options.MinP!.Value;
        _presence = options.PresencePenalty!.Value;
        _frequency = options.FrequencyPenalty!.Value;
        _repetition = options.RepetitionPenalty!.Value;
        _bias = BiasOf(options, size);
        if (_presence != 0 || _frequency != 0)
            _generated = new TokenCounts(size);
        if (_repetition != 1)
        {
            int window = options.RepetitionWindow!.Value;
            _seen = new TokenCounts(size, window >= maxTokenCount ? 0 : window);
        }

        if (options.Dry is { Multiplier: > 0 })
            _dry = new DryPenalty(options.Dry, size, maxTokenCount, dryBreakerIds);
        if (options.LogProbs is { } topCount)
            _logProbs = new LogProbRecorder(size, topCount, _scratch);
        Seed = options.Seed ?? BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8));
    }

    /// <summary>The seed in use: the request's, or the one drawn for it.</summary>
    public ulong Seed { get; }

    /// <summary>Output tokens so far; the index at which the next random number is taken.</summary>
    public long OutputCount { get; private set; }

    /// <summary>Log-probabilities of the latest position, or null when the options do not ask for them.</summary>
    public LogProbRecorder? LogProbs => _logProbs;

    /// <summary>Takes in the prompt, for the penalties that look at it. Call once, before the first token.</summary>
    public void Begin(ReadOnlySpan<int> prompt)
    {
        if (_seen is null && _dry is null)
            return;
        foreach (int token in prompt)
        {
            _seen?.Add(token);
            _dry?.Add(token);
        }
    }

    /// <summary>Takes in an output token, sampled here or forced from outside.</summary>
    public void Accept(int token)
    {
        OutputCount++;
        _generated?.Add(token);
        _seen?.Add(token);
        _dry?.Add(token);
    }

    /// <summary>Chooses a token, without accepting it.</summary>
    /// <param name="logits">[vocabulary], changed in place.</param>
    /// <param name="allowed">Bit per id, 1 where a grammar allows it; empty allows all.</param>
    /// <exception cref="InvalidOperationException">A logit is NaN or infinite, or no token is possible.</exception>
    public int Sample(Span<float> logits, ReadOnlySpan<ulong> allowed = default)
    {
        CheckLength(logits);
        _vocabulary.Apply(logits);
        _logProbs?.Record(logits);
        ApplyPenalties(logits);
        foreach ((int token, float bias) in _bias)
            logits[token] += bias;
        if (!allowed.IsEmpty)
            ApplyAllowed(logits, allowed);
        float max = LogitScan.BlockMaxima(logits, _scratch.BlockMaxima);
        if (_greedy || _topK == 1)
            return LogitScan.IndexOfMax(logits, _scratch.BlockMaxima, max);
        double uniform = CounterRandom.Uniform(Seed, OutputCount);
        if (_topK == logits.Length && _topP >= 1 && _minP == 0)
            return DrawFromAll(logits, max, uniform);
        return DrawFromCandidates(SelectCandidates(logits, max), uniform);
    }

    /// <summary>For a token forced from outside: records the log-probabilities of its position, if the options ask for them.</summary>
    public void Score(Span<float> logits)
    {
        CheckLength(logits);
        _vocabulary.Apply(logits);
        _logProbs?.Record(logits);
    }

    private void CheckLength(ReadOnlySpan<float> logits)
    {
        if (logits.Length != _vocabulary.VocabularySize)
            throw new ArgumentException($"Expected {_vocabulary.VocabularySize} logits, found {logits.Length}.", nameof(logits));
    }

    private static (int Token, float Bias)[] BiasOf(SamplingOptions options, int vocabularySize)
    {
        if (options.LogitBias is not { Count: > 0 } biases)
            return [];
        var result = new List<(int, float)>(biases.Count);
        foreach ((int token, float bias) in biases)
        {
            if (token >= vocabularySize)
                throw SamplingOptions.Bad($"{nameof(SamplingOptions.LogitBias)} key", $"a token id below {vocabularySize}", token);
            result.Add((token, Math.Min(bias, ForcingBias)));
        }

        return [.. result];
    }

    private void ApplyPenalties(Span<float> logits)
    {
        if (_seen is not null)
        {
            foreach (TokenCounts.Entry entry in _seen.Entries)
            {
                ref float logit = ref logits[entry.Token];
                logit = logit > 0 ? logit / _repetition : logit * _repetition;
            }
        }

        if (_generated is not null)
        {
            foreach (TokenCounts.Entry entry in _generated.Entries)
                logits[entry.Token] -= _presence + (_frequency * entry.Count);
        }

        _dry?.Apply(logits);
    }

    private static void ApplyAllowed(Span<float> logits, ReadOnlySpan<ulong> allowed)
    {
        for (int word = 0; word * 64 < logits.Length; word++)
        {
            ulong bits = word < allowed.Length ? allowed[word] : 0;
            if (bits == ulong.MaxValue)
                continue;
            Span<float> part = logits.Slice(word * 64, Math.Min(64, logits.Length - (word * 64)));
            if (bits == 0)
            {
                part.Fill(float.NegativeInfinity);
                continue;
            }

            for (int i = 0; i < part.Length; i++)
            {
                if ((bits >> i & 1) == 0)
                    part[i] = float.NegativeInfinity;
            }
        }
    }

    // Temperature, top-k, top-p, min-p; leaves candidates with weights in the scratch.
    private int SelectCandidates(ReadOnlySpan<float> logits, float max)
    {
        int count;
        if (_topK < logits.Length)
        {
            count = Weigh(_scratch.GatherTop(logits, _topK), max);
            if (_topP < 1)
                count = _scratch.Keep(count, _topP * _scratch.WeightSum(count));
        }
        else if (_topP < 1)
        {
            count = SelectNucleus(logits, max);
        }
        else
        {
            // A bound a little low; the exact comparison follows.
            float threshold = max + ((MathF.Log(_minP) - 0.01f) * _temperature);
            count = Weigh(_scratch.Gather(logits, Math.Max(threshold - (MathF.Abs(max) * 1e-6f), float.MinValue)), max);
        }

        return _minP > 0 ? _scratch.KeepWeighty(count, _minP) : count;
    }

    private int Weigh(int count, float max)
    {
        LogitScan.Weights(_scratch.Values.AsSpan(0, count), max, _inverseTemperature, _scratch.Weights);
        return count;
    }

    // Top-p over the whole vocabulary: the total first, then candidates from ever deeper below the maximum until they hold the share.
    private int SelectNucleus(ReadOnlySpan<float> logits, float max)
    {
        double target = _topP * LogitScan.BlockExpSums(logits, _scratch.BlockMaxima, max, _inverseTemperature, _scratch.BlockSums);
        for (float depth = 6; ; depth *= 2)
        {
            float threshold = depth > 100 ? float.MinValue : Math.Max(max - (depth * _temperature), float.MinValue);
            int count = Weigh(_scratch.Gather(logits, threshold), max);
            if (depth > 100 || _scratch.WeightSum(count) >= target)
                return _scratch.Keep(count, target);
        }
    }

    private int DrawFromCandidates(int count, double uniform)
    {
        double left = uniform * _scratch.WeightSum(count);
        int chosen = 0;
        for (int i = 0; i < count; i++)
        {
            float weight = _scratch.Weights[i];
            if (weight == 0)
                continue;
            // Also the answer when rounding leaves a rest after the last one.
            chosen = i;
            left -= weight;
            if (left < 0)
                break;
        }

        return _scratch.Ids[chosen];
    }

    private int DrawFromAll(ReadOnlySpan<float> logits, float max, double uniform)
    {
        Span<float> sums = _scratch.BlockSums;
        double left = uniform * LogitScan.BlockExpSums(logits, _scratch.BlockMaxima, max, _inverseTemperature, sums);
        int block = 0;
        for (int i = 0; i < sums.Length; i++)
        {
            if (sums[i] == 0)
                continue;
            block = i;
            if (left < sums[i])
                break;
            left -= sums[i];
        }

        ReadOnlySpan<float> values = LogitScan.Block(logits, block);
        LogitScan.Weights(values, max, _inverseTemperature, _scratch.Weights);
        int chosen = 0;
        for (int i = 0; i < values.Length; i++)
        {
            float weight = _scratch.Weights[i];
            if (weight == 0)
                continue;
            chosen = i;
            left -= weight;
            if (left < 0)
                break;
        }

        return (block * LogitScan.BlockSize) + chosen;
    }
}
