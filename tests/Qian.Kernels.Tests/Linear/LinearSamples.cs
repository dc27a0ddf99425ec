namespace Qian.Kernels.Tests;

// Weights and activations for the tests of Linear. Quantised blocks are random bytes, so every code and every odd scale occurs.
internal static class LinearSamples
{
    // Every type, spelled out so that a new one must be added here to be trusted.
    public static readonly WeightType[] Types = Array.FindAll(Enum.GetValues<WeightType>(), WeightFormat.IsDefined);

    public static readonly WeightType[] PackedTypes = Array.FindAll(Types, WeightMatrix.HasPackedLayout);

    public static TheoryData<WeightType, Isa> TypesAndTiers()
    {
        var data = new TheoryData<WeightType, Isa>();
        foreach (WeightType type in Types)
        {
            foreach (Isa isa in IsaTier.Offered)
                data.Add(type, isa);
        }

        return data;
    }

    public static TheoryData<Isa> Tiers()
    {
        var data = new TheoryData<Isa>();
        foreach (Isa isa in IsaTier.Offered)
            data.Add(isa);
        return data;
    }

    public static float[] Activations(int rowCount, int stride, int seed)
    {
        var random = new Random(seed);
        var values = new float[rowCount * stride];
        for (int i = 0; i < values.Length; i++)
            values[i] = (random.NextSingle() - 0.5f) * (i % 97 == 0 ? 20 : 1);
        return values;
    }

    // Exactly the bytes of the matrix, so that a read past the end leaves the buffer.
    public static NativeBuffer Weights(WeightType type, int rowCount, int columnCount, int seed)
    {
        var random = new Random(seed);
        int rowBytes = (int)WeightFormat.RowBytes(type, columnCount);
        NativeBuffer buffer = NativeBuffer.Allocate((long)rowCount * rowBytes);
        for (int row = 0; row < rowCount; row++)
            FillRow(type, buffer.Span<byte>((long)row * rowBytes, rowBytes), columnCount, random);
        return buffer;
    }

    private static void FillRow(WeightType type, Span<byte> row, int columnCount, Random random)
    {
        if (!WeightFormat.IsQuantized(type))
        {
            var values = new float[columnCount];
            for (int i = 0; i < columnCount; i++)
                values[i] = (random.NextSingle() + random.NextSingle() - 1) * 0.1f;
            WeightFormat.Encode(type, values, row);
            return;
        }

        // A block of random bytes may claim a scale that no model has; draw again until its values are of a size.
        int blockBytes = WeightFormat.BlockBytes(type);
        var decoded = new float[WeightFormat.BlockValues(type)];
        for (int at = 0; at < row.Length; at += blockBytes)
        {
            do
            {
                random.NextBytes(row.Slice(at, blockBytes));
                WeightFormat.Decode(type, row.Slice(at, blockBytes), decoded);
            }
            while (!Array.TrueForAll(decoded, v => MathF.Abs(v) < 1) || Array.TrueForAll(decoded, v => MathF.Abs(v) < 1e-3f));
        }
    }

    public static WeightMatrix Matrix(WeightType type, int rowCount, int columnCount, NativeBuffer weights, WeightStorage storage, ThreadTeam team) =>
        WeightMatrix.Create(type, rowCount, columnCount, ByteView.Of(weights), storage, team);

    // Runs one projection; x has no slack after its last row, and the output is surrounded by canaries.
    public static float[] Project(Isa isa, WeightMatrix weight, float[] x, int rowCount, bool exact, ThreadTeam team, int slack = 0)
    {
        const int Guard = 32;
        const float Canary = 12345;
        int inputs = weight.ColumnCount;
        int outputs = weight.RowCount;
        int stride = outputs + slack;
        using NativeBuffer input = NativeBuffer.AllocateFloats(rowCount * inputs);
        x.AsSpan(0, rowCount * inputs).CopyTo(input.AllFloats.Span);
        int length = (rowCount - 1) * stride + outputs;
        using NativeBuffer output = NativeBuffer.AllocateFloats(length + 2 * Guard);
        output.AllFloats.Span.Fill(Canary);
        using var scratch = new LinearScratch(rowCount, inputs, team.ThreadCount);
        Projection[] projections = [new(weight, output.Floats(Guard, length), stride)];
        Qian.Kernels.Linear.Project(isa, input.AllFloats, inputs, rowCount, projections, scratch, exact, team);

        var result = new float[rowCount * outputs];
        ReadOnlySpan<float> all = output.AllFloats.Span;
        for (int i = 0; i < all.Length; i++)
        {
            int at = i - Guard;
            if (at >= 0 && at < length && at % stride < outputs)
                result[at / stride * outputs + at % stride] = all[i];
            else
                Assert.True(all[i] == Canary, $"float {at} outside the output was overwritten");
        }

        return result;
    }

    // Largest difference relative to |x| |w|, the size that rounding errors have.
    public static double Distance(float[] actual, float[] expected, float[] x, WeightMatrix weight)
    {
        int inputs = weight.ColumnCount;
        int outputs = weight.RowCount;
        double[] norms = new double[outputs];
        var row = new float[inputs];
        for (int r = 0; r < outputs; r++)
        {
            weight.DecodeRow(r, row);
            norms[r] = Norm(row);
        }

        double worst = 0;
        for (int i = 0; i < actual.Length; i++)
        {
            double size = norms[i % outputs] * Norm(x.AsSpan(i / outputs * inputs, inputs));
            double difference = Math.Abs(actual[i] - (double)expected[i]);
            worst = Math.Max(worst, difference == 0 ? 0 : double.IsNaN(difference) ? double.PositiveInfinity : difference / size);
        }

        return worst;
    }

    private static double Norm(ReadOnlySpan<float> values)
    {
        double sum = 0;
        foreach (float value in values)
            sum += (double)value * value;
        return Math.Sqrt(sum);
    }
}
