namespace Qian.Inference.Runtime;

// How many rows of prompts a pass may take beside requests that decode: so many that the pass takes at most twice the time of
// one that only decodes, by what passes cost lately. Rows are not equally dear (a few ride along with the reading of the weights),
// so the cost of a row is taken at about the number that the next pass will have.
internal sealed class PrefillPace
{
    private const int FirstGuess = 16;
    private const double Fading = 0.2;

    private double _decodeSeconds;   // of a pass that only decodes; 0 before the first
    private double _rowSeconds = -1; // what a prompt's row adds to it; negative before it is known
    private int _latestRows;

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

    public void ObserveDecode(double seconds) => _decodeSeconds = _decodeSeconds <= 0 ? seconds : _decodeSeconds + Fading * (seconds - _decodeSeconds);

    public void ObserveMixed(int promptRows, double seconds)
    {
        _latestRows = promptRows;
        if (_decodeSeconds <= 0)
            return;
        double row = Math.Max(0, seconds - _decodeSeconds) / promptRows;
        _rowSeconds = _rowSeconds < 0 ? row : _rowSeconds + Fading * (row - _rowSeconds);
    }
}
