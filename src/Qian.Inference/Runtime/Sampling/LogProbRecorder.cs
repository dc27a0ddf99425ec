namespace Qian.Inference.Runtime;

/// <summary>A token and the natural logarithm of its probability.</summary>
internal readonly record struct TokenLogProb(int TokenId, float LogProb);

// Log-probabilities of one position: of the model's own distribution over the defined tokens, at temperature 1, before penalties,
// bias, grammar and filters. They tell what the model thinks, not what the request made of it, and compare across requests.

internal sealed class LogProbRecorder
{
    private readonly SamplingScratch _scratch;
    private readonly TokenLogProb[] _top;
    private readonly float[] _logits;
    private double _logTotal;

    public LogProbRecorder(int vocabularySize, int topCount, SamplingScratch scratch)
    {
        _scratch = scratch;
        _top = new TokenLogProb[Math.Min(topCount, vocabularySize)];
        _logits = new float[vocabularySize];
    }

    /// <summary>The most probable tokens of the latest position, best first, the lower id on a tie; fewer when fewer are possible.</summary>
    public ReadOnlySpan<TokenLogProb> Top => _top.AsSpan(0, TopCount);

    private int TopCount { get; set; }

    /// <summary>Takes the logits of a position, undefined ids already at -infinity.</summary>
    public void Record(ReadOnlySpan<float> logits)
    {
        // The sampler goes on to change the logits in place.
        logits.CopyTo(_logits);
        float max = LogitScan.BlockMaxima(_logits, _scratch.BlockMaxima);
        _logTotal = max + Math.Log(LogitScan.BlockExpSums(_logits, _scratch.BlockMaxima, max, 1, _scratch.BlockSums));
        TopCount = 0;
        if (_top.Length == 0)
            return;
        int count = _scratch.GatherTop(_logits, _top.Length);
        for (int i = 0; i < count; i++)
            Insert(_scratch.Ids[i]);
    }

    /// <summary>Of the latest position; -infinity for an undefined token.</summary>
    public float LogProbOf(int token) => (float)(_logits[token] - _logTotal);

    // Candidates come by rising id, so a strict comparison leaves the lower id first.
    private void Insert(int token)
    {
        int at = TopCount++;
        for (; at > 0 && _logits[_top[at - 1].TokenId] < _logits[token]; at--)
            _top[at] = _top[at - 1];
        _top[at] = new TokenLogProb(token, LogProbOf(token));
    }
}
