namespace Qian.Inference.Runtime;

// Notices that a reply repeats itself: its latest tokens are one span, again and again. The measure is how far back each token
// equals the one a period before it, for all periods at once: a counter per period, one comparison each per token. Long spans
// need fewer repeats, but never fewer than so many tokens: tables and code repeat themselves too, and come to an end.
internal sealed class LoopGuard
{
    public const int LongestPeriod = 192;

    private const int LeastRepeats = 12;
    private const int LeastTokens = 384;

    private readonly int[] _recent = new int[LongestPeriod];
    private readonly int[] _runs = new int[LongestPeriod + 1];   // by period: latest tokens that equal those a period before
    private int _count;

    // Takes in the next token; true when the text is a loop.
    public bool Observe(int token)
    {
        bool loops = false;
        int periods = Math.Min(_count, LongestPeriod);
        int place = _count % LongestPeriod;
        for (int period = 1; period <= periods; period++)
        {
            int before = place - period;
            int run = _recent[before < 0 ? before + LongestPeriod : before] == token ? _runs[period] + 1 : 0;
            _runs[period] = run;
            loops |= run >= Math.Max(LeastTokens, LeastRepeats * period) - period;
        }

        _recent[place] = token;
        _count++;
        return loops;
    }

    // What was said so far is no longer held against it.
    public void Forgive()
    {
        _count = 0;
        Array.Clear(_runs);
    }
}
