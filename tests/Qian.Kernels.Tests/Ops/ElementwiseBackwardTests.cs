namespace Qian.Kernels.Tests.Ops;

public class ElementwiseBackwardTests
{
    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void SwiGluIsTheDifference(Isa isa)
    {
        using var team = new ThreadTeam(1);
        foreach (int count in new[] { 1, 16, 43 })
        {
            using var arena = new Arena(count);
            FloatView gate = arena.Random(count, 6), up = arena.Random(count), dy = arena.Random(count), dGate = arena.Zeros(count), dUp = arena.Zeros(count);
            double[] gates = gate.Doubles(), ups = up.Doubles(), dys = dy.Doubles();
            double Loss()
            {
                double loss = 0;
                for (int i = 0; i < count; i++)
                    loss += dys[i] * Slope.Silu(gates[i]) * ups[i];
                return loss;
            }

            SwiGlu.Backward(isa, gate, up, dy, dGate, dUp, count, team);
            Near.Scaled(Slope.Of(gates, Loss), dGate.Span, 2e-6, "gate");
            Near.Scaled(Slope.Of(ups, Loss), dUp.Span, 2e-6, "up");

            SwiGlu.Backward(isa, gate, up, dy, gate, up, count, team);
            Near.Bits(dGate.Span, gate.Span, "in place");
            Near.Bits(dUp.Span, up.Span, "in place");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void OutputGateIsTheDifferenceInTheGateHalves(Isa isa)
    {
        using var team = new ThreadTeam(1);
        foreach ((int rows, int heads, int headDim) in new[] { (1, 1, 1), (2, 3, 5), (2, 2, 19) })
        {
            using var arena = new Arena(headDim);
            int count = rows * heads * headDim;
            FloatView attention = arena.Random(count, 2), qGate = arena.Random(2 * count, 4), dy = arena.Random(count);
            FloatView dAttention = arena.Zeros(count), dQGate = arena.Random(2 * count);
            double[] attentions = attention.Doubles(), gates = qGate.Doubles(), dys = dy.Doubles();
            double Loss()
            {
                double loss = 0;
                for (int i = 0; i < count; i++)
                    loss += dys[i] * attentions[i] * Slope.Sigmoid(gates[(i / headDim * 2 + 1) * headDim + i % headDim]);
                return loss;
            }

            float[] expected = Slope.Of(gates, Loss);
            for (int i = 0; i < 2 * count; i++)
                expected[i] = i / headDim % 2 == 0 ? dQGate.Span[i] : expected[i];
            OutputGate.Backward(isa, attention, qGate, dy, dAttention, dQGate, rows, heads, headDim, team);
            Near.Scaled(Slope.Of(attentions, Loss), dAttention.Span, 2e-6, "attention");
            Near.Scaled(expected, dQGate.Span, 2e-6, "gate");

            OutputGate.Backward(isa, attention, qGate, dy, dy, qGate, rows, heads, headDim, team);
            Near.Bits(dAttention.Span, dy.Span, "in place");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void DeltaGatesAreTheDifference(Isa isa)
    {
        using var team = new ThreadTeam(1);
        foreach ((int rows, int heads) in new[] { (1, 1), (5, 6), (3, 19) })
        {
            using var arena = new Arena(heads);
            int count = rows * heads;
            FloatView alpha = arena.Random(count, 4), b = arena.Random(count, 4), decay = arena.Random(heads, 3), bias = arena.Random(heads, 2);
            FloatView dg = arena.Random(count), dbeta = arena.Random(count), dAlpha = arena.Zeros(count), db = arena.Zeros(count);
            FloatView dDecay = arena.Random(heads), dBias = arena.Random(heads);
            double[] alphas = alpha.Doubles(), bs = b.Doubles(), decays = decay.Doubles(), biases = bias.Doubles(), dgs = dg.Doubles(), dbetas = dbeta.Doubles();
            double Loss()
            {
                double loss = 0;
                for (int i = 0; i < count; i++)
                {
                    int h = i % heads;
                    loss += dgs[i] * decays[h] * Math.Log(1 + Math.Exp(alphas[i] + biases[h])) + dbetas[i] * Slope.Sigmoid(bs[i]);
                }

                return loss;
            }

            float[] decayBefore = dDecay.Span.ToArray(), biasBefore = dBias.Span.ToArray();
            DeltaGates.Backward(isa, alpha, b, decay, bias, dg, dbeta, dAlpha, db, dDecay, dBias, rows, heads, team);
            Near.Scaled(Slope.Of(alphas, Loss), dAlpha.Span, 2e-6, "alpha");
            Near.Scaled(Slope.Of(bs, Loss), db.Span, 2e-6, "b");
            Near.Scaled(Slope.Of(decays, Loss), Slope.Gained(decayBefore, dDecay), 2e-6, "decay");
            Near.Scaled(Slope.Of(biases, Loss), Slope.Gained(biasBefore, dBias), 2e-6, "bias");

            DeltaGates.Backward(isa, alpha, b, decay, bias, dg, dbeta, dg, dbeta, default, default, rows, heads, team);
            Near.Bits(dAlpha.Span, dg.Span, "in place");
            Near.Bits(db.Span, dbeta.Span, "in place");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void RouterIsTheDifferenceThroughChoiceAndSum(Isa isa)
    {
        using var team = new ThreadTeam(1);
        foreach ((int rows, int experts, int k, int width) in new[] { (1, 1, 1, 1), (3, 5, 2, 7), (2, 20, 8, 37) })
        {
            using var arena = new Arena(width);
            FloatView logits = arena.Random(rows * experts, 3), shared = arena.Random(rows * width), gate = arena.Random(rows, 3), dy = arena.Random(rows * width);
            FloatView output = arena.Random(rows * k * width), weights = arena.Zeros(rows * k);
            int[] indices = new int[rows * k];
            Router.TopK(isa, logits, rows, experts, k, indices, weights, default);
            double[] logit = logits.Doubles(), shareds = shared.Doubles(), gates = gate.Doubles(), outputs = output.Doubles(), dys = dy.Doubles();
            double Loss()
            {
                double loss = 0;
                for (int t = 0; t < rows; t++)
                {
                    // The definition: softmax over all, then the chosen ones over their sum.
                    double[] p = [.. Enumerable.Range(0, experts).Select(e => Math.Exp(logit[t * experts + e]))];
                    double all = p.Sum(), chosen = indices.Skip(t * k).Take(k).Sum(e => p[e] / all);
                    for (int i = 0; i < width; i++)
                    {
                        double y = Slope.Sigmoid(gates[t]) * shareds[t * width + i];
                        for (int j = 0; j < k; j++)
                            y += p[indices[t * k + j]] / all / chosen * outputs[(t * k + j) * width + i];
                        loss += dys[t * width + i] * y;
                    }
                }

                return loss;
            }

            FloatView dOutput = arena.Zeros(rows * k * width), dWeights = arena.Zeros(rows * k), dShared = arena.Zeros(rows * width), dGate = arena.Zeros(rows);
            FloatView dLogits = arena.Random(rows * experts);
            Router.CombineBackward(isa, output, weights, shared, gate, dy, dOutput, dWeights, dShared, dGate, rows, k, width, team);
            Router.TopKBackward(indices, weights, dWeights, dLogits, rows, experts, k);
            Near.Scaled(Slope.Of(outputs, Loss), dOutput.Span, 2e-6, "experts");
            Near.Scaled(Slope.Of(shareds, Loss), dShared.Span, 2e-6, "shared");
            Near.Scaled(Slope.Of(gates, Loss), dGate.Span, 2e-6, "shared gate");
            Near.Each(Slope.Of(logit, Loss), dLogits.Span, 3e-6, 1, "logits");

            Router.CombineBackward(isa, output, weights, shared, gate, dy, output, dWeights, dy, dGate, rows, k, width, team);
            Near.Bits(dOutput.Span, output.Span, "in place");
            Near.Bits(dShared.Span, dy.Span, "in place");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.FastTiers), MemberType = typeof(Arena))]
    public void FastTiersAreTheScalarOne(Isa isa)
    {
        using var team = new ThreadTeam(2);
        foreach ((int rows, int heads, int headDim) in new[] { (1, 1, 1), (7, 3, 17), (700, 6, 16), (20, 8, 256) })
        {
            using var arena = new Arena(headDim);
            int count = rows * heads * headDim, gateCount = rows * heads;
            FloatView a = arena.Random(count, 10), b = arena.Random(count, 3), dy = arena.Random(count), qGate = arena.Random(2 * count, 10);
            FloatView expected = arena.Zeros(count), expected2 = arena.Zeros(2 * count), x = arena.Zeros(count), x2 = arena.Zeros(2 * count);
            SwiGlu.Backward(Isa.Scalar, a, b, dy, expected, expected2, count, team);
            SwiGlu.Backward(isa, a, b, dy, x, x2, count, team);
            Near.Scaled(expected.Span, x.Span, 1e-6, "swiglu gate");
            Near.Scaled(expected2.Span, x2.Span, 1e-6, "swiglu up");

            OutputGate.Backward(Isa.Scalar, b, qGate, dy, expected, expected2, rows, heads, headDim, team);
            OutputGate.Backward(isa, b, qGate, dy, x, x2, rows, heads, headDim, team);
            Near.Scaled(expected.Span, x.Span, 1e-6, "attention");
            Near.Scaled(expected2.Span, x2.Span, 1e-6, "output gate");

            FloatView decay = arena.Random(heads, 3), bias = arena.Random(heads, 2);
            FloatView sums = arena.Zeros(heads), sums2 = arena.Zeros(heads), expectedSums = arena.Zeros(heads), expectedSums2 = arena.Zeros(heads);
            DeltaGates.Backward(Isa.Scalar, a, b, decay, bias, dy, dy, expected, expected2, expectedSums, expectedSums2, rows, heads, team);
            DeltaGates.Backward(isa, a, b, decay, bias, dy, dy, x, x2, sums, sums2, rows, heads, team);
            Near.Scaled(expected.Slice(0, gateCount).Span, x.Slice(0, gateCount).Span, 1e-6, "alpha");
            Near.Scaled(expected2.Slice(0, gateCount).Span, x2.Slice(0, gateCount).Span, 1e-6, "b");
            Near.Scaled(expectedSums.Span, sums.Span, 3e-6, "decay");
            Near.Scaled(expectedSums2.Span, sums2.Span, 3e-6, "bias");
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void ThreadsChangeNoBit(Isa isa)
    {
        // 9,000 rows are several blocks of the gates' sums.
        const int Rows = 9_000, Heads = 6, K = 3, Width = 18, GateDim = 2;
        const int Count = Rows * Width;
        using var arena = new Arena();
        FloatView a = arena.Random(Count, 4), b = arena.Random(Count), dy = arena.Random(Count), qGate = arena.Random(2 * Count), bias = arena.Random(Heads);
        float[] alone = Results(1);
        Near.Bits(alone, Results(2));
        Near.Bits(alone, Results(3));

        float[] Results(int threads)
        {
            using var inner = new Arena();
            using var team = new ThreadTeam(threads);
            var results = new List<float>();
            FloatView x = inner.Zeros(Count), y = inner.Zeros(2 * Count), sums = inner.Zeros(Heads), sums2 = inner.Zeros(Heads);
            SwiGlu.Backward(isa, a, b, dy, x, y, Count, team);
            results.AddRange([.. x.Span, .. y.Span]);
            OutputGate.Backward(isa, a, qGate, dy, x, y, Rows, Width / GateDim, GateDim, team);
            results.AddRange([.. x.Span, .. y.Span]);
            DeltaGates.Backward(isa, a, b, bias, bias, dy, dy, x, y, sums, sums2, Rows, Heads, team);
            results.AddRange([.. x.Span, .. y.Span, .. sums.Span, .. sums2.Span]);
            FloatView weights = inner.Zeros(Rows), gates = inner.Zeros(Rows);
            Router.CombineBackward(isa, a, b, dy, b, dy, x, weights, y, gates, Rows / K, K, Width, team);
            results.AddRange([.. x.Span, .. y.Span, .. weights.Span, .. gates.Span]);
            return [.. results];
        }
    }

    [Theory]
    [MemberData(nameof(Arena.Tiers), MemberType = typeof(Arena))]
    public void SaturatedGatesHaveNoSlope(Isa isa)
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView gate = arena.Of(-1e4f, 1e4f, 0, float.NaN), ones = arena.Of(1, 1, 1, 1), dGate = arena.Zeros(4), dUp = arena.Zeros(4);
        SwiGlu.Backward(isa, gate, ones, ones, dGate, dUp, 4, team);
        Assert.Equal([0, 1, 0.5f, float.NaN], dGate.Span.ToArray());
        Assert.Equal([0, 1e4f, 0, float.NaN], dUp.Span.ToArray().Select(v => v + 0f));
    }

    [Fact]
    public void BadArgumentsAreRefused()
    {
        using var arena = new Arena();
        using var team = new ThreadTeam(1);
        FloatView four = arena.Zeros(4), eight = arena.Zeros(8), three = arena.Zeros(3);
        ArgumentException error = Assert.Throws<ArgumentException>(() => SwiGlu.Backward(four, four, four, four, three, 4, team));
        Assert.StartsWith("dUp: expected at least 4 floats, found 3", error.Message);
        error = Assert.Throws<ArgumentException>(() => OutputGate.Backward(four, eight, four, four, four, 1, 2, 2, team));
        Assert.StartsWith("dQGate: expected at least 8 floats, found 4", error.Message);
        error = Assert.Throws<ArgumentException>(() => DeltaGates.Backward(four, four, four, four, four, four, four, four, three, four, 1, 4, team));
        Assert.StartsWith("dDecay: expected at least 4 floats, found 3", error.Message);
        error = Assert.Throws<ArgumentException>(() => Router.TopKBackward([0, 4], four, four, four, 1, 4, 2));
        Assert.StartsWith("indices: 4 at 1: expected 0 to 3", error.Message);
        Assert.Throws<ArgumentException>(() => Router.TopKBackward([0], four, four, four, 1, 4, 2));
        error = Assert.Throws<ArgumentException>(() => Router.CombineBackward(eight, four, four, four, four, four, four, four, four, 1, 2, 4, team));
        Assert.StartsWith("dExpertOutput: expected at least 8 floats, found 4", error.Message);
    }
}
