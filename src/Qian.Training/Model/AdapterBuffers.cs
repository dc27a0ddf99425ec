using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Training.Model;

// What frozen matrices and adapters need besides the chain's own buffers.
internal readonly record struct AdapterSizes(long DecodedFloats, int DecodedRows, int Rank, int KeptColumns)
{
    // Decoded rows at once: 64 MiB.
    private const long MostDecodedFloats = 16L << 20;

    public static AdapterSizes Of(ModelConfig config, LoraOptions options)
    {
        long largest = 0, mostRows = 0;
        int widest = 0;
        foreach (TensorRole role in Enum.GetValues<TensorRole>())
        {
            if (TensorShapes.IsVector(role) || TensorShapes.IsMtp(role) || role == TensorRole.LinearConv)
                continue;
            (int rows, int columns) = TensorShapes.Of(config, role);
            if (rows == 0 || columns == 0)
                continue;
            largest = Math.Max(largest, (long)rows * columns);
            mostRows = Math.Max(mostRows, Math.Min(rows, Math.Max(1, MostDecodedFloats / columns)));
            widest = Math.Max(widest, columns);
        }

        return new AdapterSizes(Math.Max(Math.Min(largest, MostDecodedFloats), widest), (int)mostRows, options.Rank, options.Dropout > 0 ? widest : 0);
    }
}

internal sealed class AdapterBuffers(FloatArena arena, AdapterSizes sizes, long rows)
{
    public FloatView Decoded { get; } = arena.Take(sizes.DecodedFloats);            // rows of a frozen matrix

    public FloatView Reduced { get; } = arena.Take(rows * sizes.Rank);              // [T, rank]: scale · A x

    public FloatView DReduced { get; } = arena.Take(rows * sizes.Rank);

    public FloatView Kept { get; } = arena.Take(rows * sizes.KeptColumns);          // [T, widest input] behind dropout

    public int[] RowIndices { get; } = new int[sizes.DecodedRows];
}
