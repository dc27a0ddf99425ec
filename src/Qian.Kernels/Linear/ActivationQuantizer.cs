using System.Runtime.CompilerServices;

namespace Qian.Kernels;

/// <summary>
/// Rounds rows of activations to signed bytes, one scale (max|x| / 127) per 32 values, into <see cref="ActivationTiles"/>. Every
/// tier computes the same bits: the maximum is exact, one multiplication, one rounding to even. A group with a NaN or
/// infinity gets scale NaN, so the damage stays visible in the output; a group below 1e-35 counts as zero.
/// </summary>
internal static unsafe partial class ActivationQuantizer
{
    private const float SmallestMaximum = 1e-35f;

    public static void Quantize(Isa isa, float* x, long stride, in ActivationTiles tiles, ThreadTeam team)
    {
        var job = new Job { Isa = isa, X = x, Stride = stride, Tiles = tiles };
        if (tiles.TileCount == 1)
            job.Run(0);
        else
            team.Run(ref job, tiles.TileCount);
    }

    // One tile. Rows that pad the tile to its width are zero.
    private struct Job : IChunkedJob
    {
        public Isa Isa;
        public float* X;
        public long Stride;
        public ActivationTiles Tiles;

        public readonly void Run(int tile)
        {
            int width = Tiles.WidthOf(tile);
            int rows = Tiles.RowsIn(tile);
            for (int group = 0; group < Tiles.GroupCount; group += PanelLayout.BlockGroups)
            {
                float* destination = Tiles.Group(tile, group);
                float* source = X + tile * (long)Tiles.Width * Stride + group * PanelLayout.GroupColumns;
                int count = Math.Min(PanelLayout.BlockGroups, Tiles.GroupCount - group);
                for (int row = 0; row < rows; row++, source += Stride)
                {
                    if (Isa == Isa.Avx512)
                        RowAvx512(source, destination + row, width, count);
                    else if (Isa is Isa.Avx2 or Isa.AvxVnni or Isa.Arm64)
                        Row256(source, destination + row, width, count);
                    else
                        RowScalar(source, destination + row, width, count);
                }

                for (int row = rows; row < width; row++)
                    Clear(destination + row, width, count);
            }
        }
    }

    private static void Clear(float* destination, int width, int groupCount)
    {
        for (long i = 0; i < (long)groupCount * ActivationTiles.GroupDwords; i++)
            destination[i * width] = 0;
    }

    private static void RowScalar(float* x, float* destination, int width, int groupCount)
    {
        sbyte* quants = stackalloc sbyte[32];
        for (int group = 0; group < groupCount; group++, x += 32, destination += ActivationTiles.GroupDwords * width)
        {
            int bits = 0;
            for (int i = 0; i < 32; i++)
                bits = Math.Max(bits, BitConverter.SingleToInt32Bits(x[i]) & 0x7fffffff);
            float inverse = Scales(bits, out float scale);
            int first = 0, second = 0;
            for (int i = 0; i < 32; i++)
            {
                quants[i] = inverse == 0 ? (sbyte)0 : (sbyte)MathF.Round(x[i] * inverse);
                first += i < 16 ? quants[i] : 0;
                second += i < 16 ? 0 : quants[i];
            }

            Store(destination, width, scale, first, second, (int*)quants);
        }
    }

    // The largest magnitude arrives as bits: as integers, finite < infinity < NaN. Returns 0 where nothing is to be rounded.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static float Scales(int largestBits, out float scale)
    {
        float largest = BitConverter.Int32BitsToSingle(largestBits);
        if (largestBits >= 0x7f800000)
        {
            scale = float.NaN;
            return 0;
        }

        if (largest < SmallestMaximum)
        {
            scale = 0;
            return 0;
        }

        scale = largest / 127;
        return 127 / largest;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(float* destination, int width, float scale, int first, int second, int* dwords)
    {
        destination[0] = scale;
        destination[width] = scale * (first + second);
        destination[2 * width] = scale * first;
        destination[3 * width] = scale * second;
        int* biases = (int*)destination + ActivationTiles.FirstBias * width;
        biases[0] = -ActivationTiles.Bias * first;
        biases[width] = -ActivationTiles.Bias * second;
        int* steps = (int*)destination + ActivationTiles.FirstStep * width;
        for (int step = 0; step < 8; step++)
            steps[step * width] = dwords[step];
    }
}
