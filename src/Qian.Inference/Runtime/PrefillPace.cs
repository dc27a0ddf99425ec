namespace Qian.Inference.Runtime;

// How many rows of prompts a pass may take beside requests that decode: so many that the pass takes at most twice the time of
// one that only decodes, by what passes cost lately. Rows are not equally dear (a few ride along with the reading of the weights),
// so the cost of a row is taken at about the number that the next pass will have.
internal sealed class PrefillPace
{
    private const int FirstGuess = 16;
    private const double Fading = 0.2;
    private const int KeptPasses = 5;

    // What decoding costs changes while a long prompt is read: requests come, end and grow. So a pass in so many only decodes.
    private const int MixedPassesInARow = 16;

    private readonly double[] _decodes = new double[KeptPasses];
    private int _decodeCount, _nextDecode;
    private double _decodeSeconds;   // of a pass that only decodes; 0 before the first
    private double _rowSeconds = -1; // what a prompt's row adds to it; negative before it is known
    private int _latestRows;
    private int _mixedCount;

    // Whether it is time to see again what a pass costs that only decodes.
    public bool WantsDecode => _mixedCount >= MixedPassesInARow;

    // Rows of prompts in a pass where others decode.
    public int RowLimit
    {
        get
        {
            if (_decodeSeconds <= 0 || _rowSeconds < 0)
                return FirstGuess;
            double rows = _rowSeconds > 0 ? _decodeSeconds / _rowSeconds : double.MaxValue;
            // Growing step by step keeps the estimate near what was measured.
            return (int)Math.Clamp(rows, 1, Math.Max(FirstGuess, 2.0 * _latestRows));
        }
    }

    // The median of the latest: the pass before a prompt comes shares the processors with whoever reads its body.
    public void ObserveDecode(double seconds)
    {
        _mixedCount = 0;
        _decodes[_nextDecode] = seconds;
        _nextDecode = (_nextDecode + 1) % KeptPasses;
        _decodeCount = Math.Min(_decodeCount + 1, KeptPasses);
        Span<double> sorted = stackalloc double[KeptPasses];
        sorted = sorted[.._decodeCount];
        _decodes.AsSpan(0, sorted.Length).CopyTo(sorted);
        sorted.Sort();
        _decodeSeconds = sorted[sorted.Length / 2];
    }

    public void ObserveMixed(int promptRows, double seconds)
    {
        _mixedCount++;
        _latestRows = promptRows;
        if (_decodeSeconds <= 0)
            return;
        double row = Math.Max(0, seconds - _decodeSeconds) / promptRows;
        _rowSeconds = _rowSeconds < 0 ? row : _rowSeconds + Fading * (row - _rowSeconds);
    }
}
