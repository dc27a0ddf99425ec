namespace Qian.Kernels;

/// <summary>
/// Cosines and sines of the rotary embedding for rows with three positions (time, height, width). Angles are taken in double:
/// positions reach a million, where a float angle is off by 0.02 rad. The axes share the frequencies in turns
/// (t h w t h w …): frequency i belongs to h when i mod 3 = 1 and i &lt; 3·sections[1], to w when i mod 3 = 2 and
/// i &lt; 3·sections[2], else to t. Text gives all three axes one position, which is ordinary rotary.
/// </summary>
public sealed unsafe class RopeTable
{
    private readonly double[] _frequencies;
    private readonly byte[] _axes;
    private readonly double _amplitude = 1;

    /// <summary>A table of rotaryDim/2 frequencies θ^(−2i/rotaryDim).</summary>
    /// <param name="rotaryDim">Rotated dimensions per head, even.</param>
    /// <param name="theta">Base of the frequencies.</param>
    /// <param name="sections">Frequencies of t, h and w ([rotaryDim/2, 0, 0] for a model without images).</param>
    /// <param name="yarn">Stretching of the context, or null.</param>
    /// <exception cref="ArgumentException">An impossible size or scaling.</exception>
    public RopeTable(int rotaryDim, double theta, ReadOnlySpan<int> sections, YarnScaling? yarn = null)
    {
        if (rotaryDim < 0 || rotaryDim % 2 != 0)
            throw new ArgumentException($"rotary dimension {rotaryDim}: expected an even number", nameof(rotaryDim));
        if (!(theta > 1) || !double.IsFinite(theta))
            throw new ArgumentException($"rope theta {theta}: expected a finite number above 1", nameof(theta));
        if (sections.Length != 3 || sections[0] < 0 || sections[1] < 0 || sections[2] < 0)
            throw new ArgumentException("rope sections: expected three counts (t, h, w), none negative", nameof(sections));

        RotaryDim = rotaryDim;
        int count = rotaryDim / 2;
        _frequencies = new double[count];
        _axes = new byte[count];
        for (int i = 0; i < count; i++)
        {
            _frequencies[i] = Math.Pow(theta, -2.0 * i / rotaryDim);
            int turn = i % 3;
            _axes[i] = (byte)(turn != 0 && i < 3L * sections[turn] ? turn : 0);
        }

        if (yarn is { } scaling)
        {
            scaling.Stretch(_frequencies, theta);
            _amplitude = scaling.Amplitude;
        }
    }

    /// <summary>Rotated dimensions per head.</summary>
    public int RotaryDim { get; }

    /// <summary>
    /// Fills <paramref name="cosSin"/> [rowCount, rotaryDim]: per row rotaryDim/2 cosines, then rotaryDim/2 sines.
    /// </summary>
    /// <param name="positions">[3, rowCount]: all t, then all h, then all w.</param>
    /// <param name="rowCount">Number of rows.</param>
    /// <param name="cosSin">Where the table goes.</param>
    /// <exception cref="ArgumentException">Positions or table are too short.</exception>
    public void Fill(ReadOnlySpan<int> positions, int rowCount, FloatView cosSin)
    {
        Expect.AtLeast(rowCount, 0);
        if (positions.Length < 3L * rowCount)
            throw new ArgumentException($"positions: expected 3 x {rowCount}, found {positions.Length}", nameof(positions));
        Expect.Floats(cosSin, (long)rowCount * RotaryDim);

        int half = RotaryDim / 2;
        for (int row = 0; row < rowCount; row++)
        {
            float* cos = cosSin.Pointer + (long)row * RotaryDim;
            float* sin = cos + half;
            for (int i = 0; i < half; i++)
            {
                (double s, double c) = Math.SinCos(positions[_axes[i] * rowCount + row] * _frequencies[i]);
                cos[i] = (float)(c * _amplitude);
                sin[i] = (float)(s * _amplitude);
            }
        }
    }
}

/// <summary>
/// YaRN (Peng et al., 2023): frequencies that turn more than <paramref name="BetaFast"/> times within the original context stay,
/// those that turn less than <paramref name="BetaSlow"/> times are divided by <paramref name="Factor"/>, a ramp lies between.
/// </summary>
/// <param name="Factor">How many times longer the context becomes.</param>
/// <param name="OriginalContext">Positions the model was trained on.</param>
/// <param name="BetaFast">Turns above which a frequency is kept.</param>
/// <param name="BetaSlow">Turns below which a frequency is fully interpolated.</param>
/// <param name="AttentionFactor">Factor on cosines and sines; null for 0.1·ln(factor) + 1.</param>
public readonly record struct YarnScaling(
    double Factor, int OriginalContext, double BetaFast = 32, double BetaSlow = 1, double? AttentionFactor = null)
{
    internal double Amplitude => AttentionFactor ?? (Factor > 1 ? 0.1 * Math.Log(Factor) + 1 : 1);

    internal void Stretch(Span<double> frequencies, double theta)
    {
        if (!(Factor > 0) || !double.IsFinite(Factor) || OriginalContext <= 0 || !(BetaFast > 0) || !(BetaSlow > 0))
            throw new ArgumentException($"YaRN: factor {Factor}, original context {OriginalContext}, beta {BetaFast} and {BetaSlow}: expected positive numbers");

        int rotaryDim = 2 * frequencies.Length;
        double low = Math.Max(Math.Floor(IndexTurning(BetaFast, rotaryDim, theta)), 0);
        double high = Math.Min(Math.Ceiling(IndexTurning(BetaSlow, rotaryDim, theta)), rotaryDim - 1);
        // A ramp of no width would divide by zero.
        if (low == high)
            high += 0.001;
        for (int i = 0; i < frequencies.Length; i++)
        {
            double ramp = Math.Clamp((i - low) / (high - low), 0, 1);
            frequencies[i] *= ramp / Factor + (1 - ramp);
        }
    }

    // The (fractional) frequency index that makes the given number of turns within the original context.
    private double IndexTurning(double turns, int rotaryDim, double theta) =>
        rotaryDim * Math.Log(OriginalContext / (turns * 2 * Math.PI)) / (2 * Math.Log(theta));
}
