using Qian.Inference.Formats;
using Qian.Kernels;
using Qian.Training.Model;
using Qian.Training.Optimization;

namespace Qian.Training.Tests.Optimization;

public sealed class OptimizerTests : IDisposable
{
    private readonly ThreadTeam _team = new(2);

    public void Dispose() => _team.Dispose();

    [Fact]
    public void TheNormIsThatOfAllGradientsTogether()
    {
        using ParameterStore store = Store(("a", 2, 3, true), ("b", 1, 2, false));
        store.Parameters[0].Gradient.Span.Fill(2);
        store.Parameters[1].Gradient.Span.Fill(-3);
        double norm = Clipping.GlobalNorm(store.Parameters, _team);
        Assert.Equal(Math.Sqrt(6 * 4 + 2 * 9), norm, 1e-12);
        Assert.Equal(1f, Clipping.Factor(norm, 0));
        Assert.Equal(1f, Clipping.Factor(norm, 2 * norm));
        Assert.Equal(0.5, Clipping.Factor(norm, norm / 2), 1e-6);
        store.Parameters[1].Gradient.Span[1] = float.NaN;
        Assert.True(double.IsNaN(Clipping.GlobalNorm(store.Parameters, _team)));
    }

    // Without a gradient only decay moves a value: of matrices, and of all where it is asked for.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void OnlyMatricesDecayUnlessAllAreAskedFor(bool decayAll)
    {
        foreach (OptimizerKind kind in Enum.GetValues<OptimizerKind>())
        {
            using ParameterStore store = Store(("a", 4, 4, true), ("b", 1, 4, false));
            foreach (Parameter parameter in store.Parameters)
                parameter.Value.Span.Fill(1);
            using var optimizer = new OptimizerState(store.Parameters, new OptimizerOptions { Kind = kind, WeightDecay = 0.5, DecayAll = decayAll }, MatmulPrecision.Float32, _team);
            optimizer.Step(0.1, 1, 1);
            Assert.All(store.Parameters[0].Value.Span.ToArray(), value => Assert.Equal(0.95, value, 1e-6));
            Assert.All(store.Parameters[1].Value.Span.ToArray(), value => Assert.Equal(decayAll ? 0.95 : 1, value, 1e-6));
        }
    }

    // The direction of a step is near to a matrix with orthonormal rows (columns, where it is tall), times 0.2 sqrt(longer side).
    [Theory]
    [InlineData(24, 40)]
    [InlineData(40, 24)]
    [InlineData(32, 32)]
    public void MuonStepsAlongAnOrthonormalMatrix(int rows, int columns)
    {
        using ParameterStore store = Store(("a", rows, columns, true));
        Parameter parameter = store.Parameters[0];
        var random = new Random(rows);
        foreach (ref float value in parameter.Gradient.Span)
            value = (float)(random.NextDouble() - 0.5);
        using var optimizer = new OptimizerState(store.Parameters, new OptimizerOptions { Kind = OptimizerKind.Muon }, MatmulPrecision.Float32, _team);
        optimizer.Step(1, 1, 1);
        float[] step = [.. parameter.Value.Span.ToArray().Select(value => (float)(value / (-0.2 * Math.Sqrt(Math.Max(rows, columns)))))];
        double[] singular = SingularValues(step, rows, columns);
        // Five steps with these coefficients bring every singular value that was not tiny near to 1, and not onto it.
        Assert.InRange(singular.Max(), 0.9, 1.3);
        Assert.InRange(singular.Order().ElementAt(singular.Length / 4), 0.6, 1.3);
        double along = 0;
        for (int i = 0; i < step.Length; i++)
            along += (double)step[i] * parameter.Gradient.Span[i];
        Assert.True(along > 0);
    }

    [Fact]
    public void MuonLeavesTheEmbeddingTheHeadAndVectorsToAdamW()
    {
        Assert.True(Muon.Takes(Declared("model.layers.0.mlp.up_proj.weight", 8, 4, true)));
        Assert.False(Muon.Takes(Declared("model.embed_tokens.weight", 8, 4, true)));
        Assert.False(Muon.Takes(Declared("lm_head.weight", 8, 4, true)));
        Assert.False(Muon.Takes(Declared("model.norm.weight", 1, 4, false)));
        Assert.False(Muon.Takes(Declared("model.layers.0.mlp.shared_expert_gate.weight", 1, 4, true)));
    }

    [Fact]
    public void AStepIsTheSameForAnyNumberOfThreads()
    {
        foreach (OptimizerKind kind in Enum.GetValues<OptimizerKind>())
        {
            float[]? first = null;
            foreach (int threads in (int[])[1, 3])
            {
                using var team = new ThreadTeam(threads);
                using ParameterStore store = Store(("a", 300, 200, true), ("b", 1, 70000, false));
                var random = new Random(1);
                foreach (ref float value in store.Gradients.Span)
                    value = (float)(random.NextDouble() - 0.5);
                using var optimizer = new OptimizerState(store.Parameters, new OptimizerOptions { Kind = kind, WeightDecay = 0.1 }, MatmulPrecision.BFloat16, team);
                for (int step = 1; step <= 3; step++)
                    optimizer.Step(1e-2, Clipping.Factor(Clipping.GlobalNorm(store.Parameters, team), 1), step);
                float[] values = store.Values.Span.ToArray();
                Assert.Equal(first ?? values, values);
                first = values;
            }
        }
    }

    // Square roots of the eigenvalues of the smaller Gram matrix, by Jacobi's rotations.
    private static double[] SingularValues(float[] matrix, int rows, int columns)
    {
        int n = Math.Min(rows, columns);
        var gram = new double[n, n];
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                for (int k = 0; k < Math.Max(rows, columns); k++)
                    gram[i, j] += rows <= columns ? (double)matrix[i * columns + k] * matrix[j * columns + k] : (double)matrix[k * columns + i] * matrix[k * columns + j];
            }
        }

        for (int sweep = 0; sweep < 30; sweep++)
        {
            for (int p = 0; p < n; p++)
            {
                for (int q = p + 1; q < n; q++)
                    Rotate(gram, p, q, n);
            }
        }

        return [.. Enumerable.Range(0, n).Select(i => Math.Sqrt(Math.Max(0, gram[i, i])))];
    }

    private static void Rotate(double[,] gram, int p, int q, int n)
    {
        if (Math.Abs(gram[p, q]) < 1e-15)
            return;
        double angle = 0.5 * Math.Atan2(2 * gram[p, q], gram[q, q] - gram[p, p]), c = Math.Cos(angle), s = Math.Sin(angle);
        for (int k = 0; k < n; k++)
            (gram[k, p], gram[k, q]) = (c * gram[k, p] - s * gram[k, q], s * gram[k, p] + c * gram[k, q]);
        for (int k = 0; k < n; k++)
            (gram[p, k], gram[q, k]) = (c * gram[p, k] - s * gram[q, k], s * gram[p, k] + c * gram[q, k]);
    }

    private static ParameterStore Store(params (string Name, int Rows, int Columns, bool IsMatrix)[] parameters) =>
        new(parameters.Select(declared => Declared(declared.Name, declared.Rows, declared.Columns, declared.IsMatrix)));

    private static Parameter Declared(string name, int rows, int columns, bool isMatrix) =>
        new() { Name = name, Sizes = [rows, columns], Rows = rows, Columns = columns, StoredType = SafetensorsType.F32, IsMatrix = isMatrix };
}
