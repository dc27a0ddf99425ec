namespace Qian.Kernels;

/// <summary>Where samples laid end to end begin: sample s takes rows borders[s] to borders[s + 1] − 1.</summary>
internal static class SampleBorders
{
    /// <summary>Rows of all samples.</summary>
    /// <exception cref="ArgumentException">The borders do not begin with 0 or go backwards.</exception>
    public static int RowCount(ReadOnlySpan<int> borders)
    {
        if (borders.IsEmpty || borders[0] != 0)
            throw new ArgumentException("borders: expected to begin with 0", nameof(borders));
        for (int i = 1; i < borders.Length; i++)
        {
            if (borders[i] < borders[i - 1])
                throw new ArgumentException($"borders: {borders[i]} at {i} comes after {borders[i - 1]}", nameof(borders));
        }

        return borders[^1];
    }
}
