namespace Qian.Inference.Runtime;

// Counts the tokens between <think> and </think> and, when they reach the budget, says which tokens to emit instead of sampling: a
// sentence that closes thinking in the model's own voice, so that the answer that follows is written from what was thought so far.
// Forced tokens go through the network and Observe like any other. Knows ids only; who builds it supplies the closing text's.

internal sealed class ThinkingBudget
{
    /// <summary>Words that end the thinking; holds the closing tag.</summary>
    public const string DefaultClosingText = "\n\nThat is all the thinking I can spend here; I will answer now with what I have worked out.\n</think>\n\n";

    private readonly int _budget, _openId, _closeId;
    private readonly int[] _closing;
    private bool _inside;
    private int _forcedIndex = -1;

    /// <param name="budgetTokenCount">Thinking tokens before closing is forced; 0 closes at once.</param>
    /// <param name="openId">Id of the tag that opens thinking.</param>
    /// <param name="closeId">Id of the tag that closes it.</param>
    /// <param name="closingTokenIds">What is forced, <paramref name="closeId"/> among it.</param>
    /// <param name="startsInside">True when the prompt ends inside thinking.</param>
    public ThinkingBudget(int budgetTokenCount, int openId, int closeId, ReadOnlySpan<int> closingTokenIds, bool startsInside)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(budgetTokenCount);
        if (!closingTokenIds.Contains(closeId))
            throw new ArgumentException($"The closing tokens do not hold token {closeId}, which closes thinking.", nameof(closingTokenIds));
        _budget = budgetTokenCount;
        _openId = openId;
        _closeId = closeId;
        _closing = closingTokenIds.ToArray();
        _inside = startsInside;
        ForceIfSpent();
    }

    /// <summary>Thinking tokens so far, tags and the forced closing not counted.</summary>
    public int ThinkingCount { get; private set; }

    /// <summary>True once closing was forced.</summary>
    public bool Exhausted { get; private set; }

    /// <summary>Whether the next token is dictated, and which it is. Asking changes nothing; <see cref="Observe"/> moves on.</summary>
    public bool TryForce(out int tokenId)
    {
        tokenId = _forcedIndex >= 0 ? _closing[_forcedIndex] : -1;
        return _forcedIndex >= 0;
    }

    /// <summary>Takes in every output token, in order.</summary>
    /// <exception cref="InvalidOperationException">Another token than the dictated one.</exception>
    public void Observe(int tokenId)
    {
        if (_forcedIndex >= 0)
        {
            if (tokenId != _closing[_forcedIndex])
                throw new InvalidOperationException($"Token {_closing[_forcedIndex]} was to be forced, token {tokenId} was emitted.");
            if (++_forcedIndex == _closing.Length)
                _forcedIndex = -1;
            return;
        }

        if (tokenId == _openId)
            _inside = true;
        else if (tokenId == _closeId)
            _inside = false;
        else if (_inside)
            ThinkingCount++;
        ForceIfSpent();
    }

    /// <summary>Closes thinking from the next token on, whatever is left of the budget; false outside of thinking.</summary>
    public bool CloseNow()
    {
        if (!_inside)
            return _forcedIndex >= 0;
        _inside = false;
        _forcedIndex = 0;
        Exhausted = true;
        return true;
    }

    private void ForceIfSpent()
    {
        if (!_inside || ThinkingCount < _budget)
            return;
        _inside = false;
        _forcedIndex = 0;
        Exhausted = true;
    }
}
