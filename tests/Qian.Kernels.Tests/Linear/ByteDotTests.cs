using System.Runtime.Intrinsics;

namespace Qian.Kernels.Tests.Linear;

// Products of bytes by one instruction against those by several.
public sealed class ByteDotTests
{
    // Integer sums are exact and float operations the same, so the tier may stand in for the one it builds on.
    [Fact]
    public void AvxVnniGivesTheBitsOfAvx2()
    {
        if (!IsaTier.IsSupported(Isa.AvxVnni))
            return;
        const int Outputs = 37, Inputs = 768;
        using var team = new ThreadTeam(1);
        foreach (WeightType type in LinearSamples.Types)
        {
            using NativeBuffer bytes = LinearSamples.Weights(type, Outputs, Inputs, 21);
            float[] x = LinearSamples.Activations(135, Inputs, 22);
            foreach (WeightStorage storage in new[] { WeightStorage.Mapped, WeightStorage.Packed })
            {
                using WeightMatrix weight = LinearSamples.Matrix(type, Outputs, Inputs, bytes, storage, team);
                foreach (int rows in new[] { 1, 2, 3, 4, 7, 135 })
                {
                    float[] expected = LinearSamples.Project(Isa.Avx2, weight, x, rows, false, team);
                    float[] actual = LinearSamples.Project(Isa.AvxVnni, weight, x, rows, false, team);
                    for (int i = 0; i < expected.Length; i++)
                        Assert.True(BitConverter.SingleToInt32Bits(expected[i]) == BitConverter.SingleToInt32Bits(actual[i]), $"{type}, {storage}, {rows} rows: value {i} is {actual[i]:R}, not {expected[i]:R}");
                }
            }
        }
    }

    [Fact]
    public void EveryByteMeetsEveryByte()
    {
        if (IsaTier.IsSupported(Isa.AvxVnni))
            Check<VnniDot>();
        if (IsaTier.IsSupported(Isa.Arm64))
            Check<ArmDot>();
    }

    private static void Check<TDot>()
        where TDot : struct, IByteDot
    {
        byte[] weights = new byte[32];
        sbyte[] activations = new sbyte[32];
        for (int first = 0; first < 256; first++)
        {
            // -128 does not occur: activations are rounded to -127 .. 127.
            for (int second = -127; second < 128; second++)
            {
                for (int i = 0; i < 32; i++)
                {
                    weights[i] = (byte)(first + 7 * i);
                    activations[i] = (sbyte)((second + 5 * i + 127) % 255 - 127);
                }

                Vector256<int> sums = TDot.Add(Vector256.Create(1000 * second), Vector256.Create(weights), Vector256.Create(activations));
                for (int lane = 0; lane < 8; lane++)
                {
                    int expected = 1000 * second;
                    for (int i = 4 * lane; i < 4 * lane + 4; i++)
                        expected += (TDot.IsSigned ? (sbyte)weights[i] : weights[i]) * activations[i];
                    Assert.Equal(expected, sums[lane]);
                }
            }
        }
    }
}
