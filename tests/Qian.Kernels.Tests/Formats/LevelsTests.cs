using System.Runtime.Intrinsics;

namespace Qian.Kernels.Tests.Formats;

public class LevelsTests
{
    private static readonly float[] s_dense = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

    // Quarters meet every midpoint; there the lower level counts, and one float above it the upper.
    [Fact]
    public void The_nearest_dense_level_is_found_and_ties_fall_below()
    {
        for (float quarter = -140; quarter <= 140; quarter += 0.25f)
        {
            foreach (float value in new[] { MathF.BitDecrement(quarter), quarter, MathF.BitIncrement(quarter) })
                Assert.Equal(s_dense.MinBy(level => Math.Abs((double)level - value)), DenseCentre.Nearest(Vector256.Create(value))[0]);
        }

        Vector256<float> extremes = Vector256.Create(float.NegativeInfinity, float.MinValue, -0f, 0, float.Epsilon, float.MaxValue, float.PositiveInfinity, float.NaN);
        Assert.Equal(Vector256.Create(-127f, -127, 1, 1, 1, 113, 113, -127), DenseCentre.Nearest(extremes));
    }

    [Fact]
    public void The_tree_of_midpoints_finds_what_the_climb_finds()
    {
        var random = new Random(5);
        var values = new float[8];
        for (int round = 0; round < 20000; round++)
        {
            for (int lane = 0; lane < values.Length; lane++)
                values[lane] = BitConverter.Int32BitsToSingle(random.Next(int.MinValue, int.MaxValue));
            values[round % 8] = random.Next(-1200, 1200) / 8f;
            Vector256<float> eight = Vector256.Create(values);
            Assert.Equal(DenseCentre.Climbed(eight), DenseCentre.Nearest(eight));
        }
    }
}
