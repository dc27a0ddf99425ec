namespace Qian.Nano;

// So many of so many items, with the Wilson interval at 95 %.
internal sealed record Score(string Name, int Passed, int Count, string Note = "")
{
    private const double Z = 1.959963984540054;

    public double Share => Count == 0 ? 0 : (double)Passed / Count;

    public (double Low, double High) Interval
    {
        get
        {
            if (Count == 0)
                return (0, 1);
            double n = Count;
            double middle = (Share + Z * Z / (2 * n)) / (1 + Z * Z / n);
            double half = Z / (1 + Z * Z / n) * Math.Sqrt(Share * (1 - Share) / n + Z * Z / (4 * n * n));
            return (Math.Max(0, middle - half), Math.Min(1, middle + half));
        }
    }
}
