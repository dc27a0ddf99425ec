using System.Text;
using Qian.Inference.Constraint;
using Qian.Inference.Text;

namespace Qian.Inference.Runtime;

// What happens between logits and a token on its way out: thinking budget, constraint, sampling, end of turn, text that is
// safe to show, stop strings, limits. One per request; it owns no state of the model.
internal sealed class TokenPicker
{
    private readonly SamplingOptions _options;
    private readonly Sampler _sampler;
    private readonly StreamingDetokenizer? _detokenizer;
    private readonly StopMatcher? _stops;
    private readonly ThinkingBudget? _thinking;
    private readonly TokenConstraint? _constraint;
    private readonly IReadOnlyCollection<int> _endIds;
    private readonly int _contextLength;
    private readonly StringBuilder _shown = new();
    private int _pickedCount;

    // `options` are complete (merged). Without a tokenizer there is no text and no stop string.
    public TokenPicker(SamplingOptions options, Sampler sampler, Tokenizer? tokenizer, ThinkingBudget? thinking, TokenConstraint? constraint, IReadOnlyCollection<int> endIds, int contextLength)
    {
        _options = options;
        _sampler = sampler;
        _thinking = thinking;
        _constraint = constraint;
        _endIds = options.IgnoreEos == true ? [] : endIds;
        _contextLength = contextLength;
        if (tokenizer is not null)
            _detokenizer = new StreamingDetokenizer(tokenizer, skipsControlTokens: true);
        if (options.StopStrings is { Count: > 0 } stops)
            _stops = new StopMatcher(stops);
    }

    // logits[vocabulary] of the next place, `tokenCount` tokens into the timeline.
    public GeneratedToken Pick(Span<float> logits, int tokenCount)
    {
        int id;
        if (_thinking is not null && _thinking.TryForce(out int forced))
        {
            id = forced;
            _sampler.Score(logits);
        }
        else
        {
            id = _sampler.Sample(logits, _constraint is null ? default : _constraint.Allowed);
        }

        _sampler.Accept(id);
        _thinking?.Observe(id);
        _constraint?.Accept(id);
        _pickedCount++;

        _shown.Clear();
        FinishReason? finish = EndOf(id, tokenCount + 1);
        if (finish is not null)
            ShowRest();
        string text = _shown.Length == 0 ? "" : _shown.ToString();
        if (_sampler.LogProbs is not { } logProbs)
            return new GeneratedToken(id, text, finish);
        return new GeneratedToken(id, text, finish, logProbs.LogProbOf(id), Alternatives(logProbs));
    }

    // Tokens that may still be picked, `tokenCount` tokens into the timeline.
    public int RemainingCount(int tokenCount) => Math.Min(_contextLength - tokenCount, (_options.MaxTokens ?? int.MaxValue) - _pickedCount);

    // Of these guesses for the next tokens, how many the constraint lets through, one after the other.
    public int CountAllowed(ReadOnlySpan<int> guesses) => _constraint?.CountAllowed(guesses) ?? guesses.Length;

    private FinishReason? EndOf(int id, int tokenCount)
    {
        // The token that ends a turn is not text.
        if (_endIds.Contains(id) || (_options.StopTokenIds?.Contains(id) ?? false))
            return FinishReason.Stop;
        if (_detokenizer is not null && Show(_detokenizer.Append(id)))
            return FinishReason.Stop;
        // Nothing may follow, and there is no token that would say so.
        if (_constraint is { IsComplete: true } && _endIds.Count == 0)
            return FinishReason.Stop;
        if (_options.MaxTokens is { } max && _pickedCount >= max)
            return FinishReason.Length;
        return tokenCount >= _contextLength ? FinishReason.ContextFull : null;
    }

    // True when a stop string is complete.
    private bool Show(ReadOnlySpan<char> text)
    {
        if (_stops is not null)
            return _stops.Feed(text, _shown);
        _shown.Append(text);
        return false;
    }

    // What is still held back when the reply ends: half a character, or the beginning of a stop string that did not come.
    private void ShowRest()
    {
        if (_detokenizer is null || _stops?.Match is not null)
            return;
        if (!Show(_detokenizer.Flush()))
            _stops?.Flush(_shown);
    }

    private static TokenLogProbability[] Alternatives(LogProbRecorder logProbs)
    {
        var alternatives = new TokenLogProbability[logProbs.Top.Length];
        for (int i = 0; i < alternatives.Length; i++)
            alternatives[i] = new TokenLogProbability(logProbs.Top[i].TokenId, logProbs.Top[i].LogProb);
        return alternatives;
    }
}
