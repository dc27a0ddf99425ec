using System.Globalization;
using System.Numerics;

namespace Qian.Inference.Constraint.Json;

// Numbers within bounds, and multiples of a step, as states over their digits. A state knows how the digits so far compare with the digits of each
// bound (which number is longer decides first), and their remainder by the step. No exponents; up to 18 digits before and 17 after the point.
internal sealed class NumberTerm
{
    private const int MostWholeDigits = 18;
    private const int MostFractionDigits = 17;
    private const int GreatestStep = 2000;
    private const int MostStates = 80_000;

    private readonly bool _isInteger;
    private readonly int _step;            // 0: any
    private readonly int _stepDigits;      // digits after the point that the step is counted in
    private readonly Dictionary<Digits, int> _known = [];
    private readonly List<(Digits State, Range Range)> _states = [];
    private readonly List<Term.Edge> _edges = [];
    private readonly List<int> _accepting = [];

    private NumberTerm(bool isInteger, decimal? step)
    {
        _isInteger = isInteger;
        if (step is not { } given)
            return;
        int digits = 0;
        while (given != decimal.Truncate(given))
        {
            given *= 10;
            digits++;
        }

        if (given > GreatestStep || digits > MostFractionDigits)
            throw new BadRequestException($"multipleOf: steps of at most {GreatestStep} (its digits without the point) are supported");
        _step = (int)given;
        _stepDigits = digits;
    }

    private enum Phase : byte
    {
        Zero,
        Whole,
        Point,
        Fraction,
    }

    public static Term Of(bool isInteger, Limit? low, Limit? high, decimal? step)
    {
        var term = new NumberTerm(isInteger, step);
        // Of numbers at or above zero, and of the magnitudes of those below.
        var up = new Range(Bound.Of(low is { Value: >= 0 } ? low : null), Bound.Of(high));
        var down = new Range(Bound.Of(high is { Value: < 0 } ? high.Value.Negated : new Limit(0, true)), Bound.Of(low?.Negated));
        term._states.Add((default, default));
        if (high is not { Value: < 0 })
            term.AddFirstDigits(0, up, isNegative: false);
        if (low is not { Value: >= 0 })
        {
            int behindSign = term._states.Count;
            term._states.Add((default, default));
            term._edges.Add(new Term.Edge(0, (byte)'-', (byte)'-', behindSign));
            term.AddFirstDigits(behindSign, down, isNegative: true);
        }

        for (int state = 0; state < term._states.Count; state++)
        {
            if (term._states[state].State.Count > 0)
                term.Expand(state);
        }

        return new Term.Graph(term._states.Count, term._edges, term._accepting);
    }

    private void AddFirstDigits(int from, Range range, bool isNegative)
    {
        for (int digit = 0; digit <= 9; digit++)
        {
            var start = new Digits(isNegative, digit == 0 ? Phase.Zero : Phase.Whole, 0, 0, 0, 0);
            AddEdge(from, digit, Read(start, range, digit, start.Phase), range);
        }
    }

    private void Expand(int index)
    {
        (Digits state, Range range) = _states[index];
        if (state.Phase != Phase.Point && IsWithin(state, range))
            _accepting.Add(index);
        switch (state.Phase)
        {
            case Phase.Whole when state.Count < MostWholeDigits:
                AddDigits(index, state, range, Phase.Whole);
                break;
            case Phase.Point:
            case Phase.Fraction when state.Count < FractionRoom:
                AddDigits(index, state, range, Phase.Fraction);
                break;
        }

        if (!_isInteger && FractionRoom > 0 && state.Phase is (Phase.Zero or Phase.Whole))
        {
            int to = StateOf(AtPoint(state, range), range);
            _edges.Add(new Term.Edge(index, (byte)'.', (byte)'.', to));
        }
    }

    private int FractionRoom => _step > 0 ? _stepDigits : MostFractionDigits;

    private void AddDigits(int index, Digits state, Range range, Phase phase)
    {
        for (int digit = 0; digit <= 9; digit++)
            AddEdge(index, digit, Read(state, range, digit, phase), range);
    }

    private void AddEdge(int from, int digit, Digits to, Range range) =>
        _edges.Add(new Term.Edge(from, (byte)('0' + digit), (byte)('0' + digit), StateOf(to, range)));

    private int StateOf(Digits state, Range range)
    {
        if (_known.TryGetValue(state, out int index))
            return index;
        if (_states.Count >= MostStates)
            ConstraintLimits.ThrowTooLarge();
        _known.Add(state, _states.Count);
        _states.Add((state, range));
        return _states.Count - 1;
    }

    private Digits Read(Digits state, Range range, int digit, Phase phase)
    {
        bool isWhole = phase is Phase.Zero or Phase.Whole;
        int place = state.Phase == Phase.Point ? 0 : state.Count;
        return new Digits(
            state.IsNegative,
            phase,
            place + 1,
            Compare(state.Low, range.Low, isWhole, place, digit),
            Compare(state.High, range.High, isWhole, place, digit),
            _step == 0 ? 0 : ((10 * state.Remainder) + digit) % _step);
    }

    // The first digit that differs decides.
    private static int Compare(int before, Bound? bound, bool isWhole, int place, int digit)
    {
        if (before != 0 || bound is not { } known)
            return before;
        string digits = isWhole ? known.Whole : known.Fraction;
        if (place < digits.Length)
            return digit.CompareTo(digits[place] - '0');
        // Beyond a bound's whole digits the count of digits decides, at the point.
        return isWhole ? 0 : digit.CompareTo(0);
    }

    private Digits AtPoint(Digits state, Range range) => state with
    {
        Phase = Phase.Point,
        Count = 1,
        Low = AtEndOfWhole(state.Low, range.Low, state.Count),
        High = AtEndOfWhole(state.High, range.High, state.Count),
    };

    private static int AtEndOfWhole(int before, Bound? bound, int count) => bound is not { } known ? 0
        : count != known.Whole.Length ? count.CompareTo(known.Whole.Length)
        : before;

    private bool IsWithin(Digits state, Range range)
    {
        bool isWhole = state.Phase is Phase.Zero or Phase.Whole;
        int fractionCount = isWhole ? 0 : state.Count;
        int low = Final(state.Low, range.Low), high = Final(state.High, range.High);
        if (range.Low is { } atLeast && (low < 0 || (low == 0 && atLeast.IsExclusive)))
            return false;
        if (range.High is { } atMost && (high > 0 || (high == 0 && atMost.IsExclusive)))
            return false;
        // The digits are those of the number times 10^fractionCount; in units of the step's last digit some zeros follow.
        return _step == 0 || BigInteger.Remainder(state.Remainder * BigInteger.Pow(10, _stepDigits - fractionCount), _step).IsZero;

        int Final(int compared, Bound? bound)
        {
            if (bound is not { } known)
                return 0;
            if (isWhole)
                compared = AtEndOfWhole(compared, bound, state.Count);
            return compared == 0 && fractionCount < known.Fraction.Length ? -1 : compared;
        }
    }

    internal readonly record struct Limit(decimal Value, bool IsExclusive)
    {
        public Limit Negated => new(-Value, IsExclusive);
    }

    // The digits of a bound that is not negative, without zeros that say nothing.
    private readonly record struct Bound(string Whole, string Fraction, bool IsExclusive)
    {
        public static Bound? Of(Limit? limit)
        {
            if (limit is not { } known)
                return null;
            string[] parts = known.Value.ToString("0.############################", CultureInfo.InvariantCulture).Split('.');
            return new Bound(parts[0], parts.Length > 1 ? parts[1] : "", known.IsExclusive);
        }
    }

    private readonly record struct Range(Bound? Low, Bound? High);

    // Low and High: how the digits so far compare with the bound's. Count: digits of the phase; at least 1 in every state that was read.
    private readonly record struct Digits(bool IsNegative, Phase Phase, int Count, int Low, int High, int Remainder);
}
