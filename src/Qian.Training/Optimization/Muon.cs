using System.Numerics;
using Qian.Kernels;
using Qian.Training.Model;

namespace Qian.Training.Optimization;

// Muon: the momentum of a matrix, brought near to the closest matrix with orthonormal rows by five Newton-Schulz steps, is the
// direction of the step (K. Jordan and others, 2024). With the factor 0.2 sqrt(max(rows, columns)) its steps are as large as
// AdamW's, so that learning rate and weight decay of one serve the other (J. Liu and others, 2025).
//
// The quintic X <- aX + (bA + cAA)X with A = XXᵀ becomes three products without element-wise passes over X: the terms bI and aI
// go into the diagonals of the small square matrices, X <- ((cA + bI)A + aI) X. Wide matrices are taken as they are, tall ones
// transposed, which costs nothing here: the first product reads through the strides.
internal sealed class Muon : IDisposable
{
    private const float A = 3.4445f, B = -4.7750f, C = 2.0315f;
    private const int StepCount = 5;
    private const double Guard = 1e-7;

    private readonly MatmulPrecision _precision;
    private readonly ThreadTeam _team;
    private readonly MatmulScratch _scratch;
    private readonly NativeBuffer _buffer;

    public Muon(IEnumerable<Parameter> parameters, MatmulPrecision precision, ThreadTeam team)
    {
        _precision = precision;
        _team = team;
        _scratch = new MatmulScratch(team.ThreadCount);
        _buffer = NativeBuffer.AllocateFloats(ScratchFloats(parameters.Select(SliceOf)));
    }

    // Matrices that map one hidden space to another. Rows of the embedding and of the head are vectors of their own.
    public static bool Takes(Parameter parameter) =>
        parameter.IsMatrix
        && SliceOf(parameter) is { Rows: > 1, Columns: > 1 }
        && !parameter.Name.EndsWith("embed_tokens.weight", StringComparison.Ordinal)
        && !parameter.Name.EndsWith("lm_head.weight", StringComparison.Ordinal);

    // What the largest of these matrices needs.
    public static long ScratchFloats(IEnumerable<(int Rows, int Columns)> shapes)
    {
        long most = 0;
        foreach ((int rows, int columns) in shapes)
        {
            long small = Math.Min(rows, columns);
            most = Math.Max(most, 2L * rows * columns + 2 * small * small);
        }

        return most;
    }

    // momentum <- beta * momentum + g; the direction is made from g + beta * momentum (Nesterov).
    public void Step(Parameter parameter, FloatView momentum, float rate, float decay, float beta, float gradientFactor)
    {
        (int rows, int columns) = SliceOf(parameter);
        long length = (long)rows * columns;
        float scale = rate * 0.2f * MathF.Sqrt(Math.Max(rows, columns));
        for (long at = 0; at < parameter.Length; at += length)
        {
            FloatView direction = _buffer.Floats(0, length);
            var mix = new MomentumJob { Gradient = parameter.Gradient.Slice(at, length), Momentum = momentum.Slice(at, length), Direction = direction, Beta = beta, Factor = gradientFactor };
            _team.Run(ref mix, Chunks(length));
            FloatView orthogonal = Orthogonalise(direction, rows, columns);
            var step = new StepJob { Value = parameter.Value.Slice(at, length), Direction = orthogonal, Keep = 1 - rate * decay, Scale = -scale };
            _team.Run(ref step, Chunks(length));
        }
    }

    public void Dispose()
    {
        _scratch.Dispose();
        _buffer.Dispose();
    }

    // The matrices that a stack of experts is made of, otherwise the whole.
    private static (int Rows, int Columns) SliceOf(Parameter parameter) =>
        parameter.Sizes.Length == 3 ? (parameter.Rows / (int)parameter.Sizes[0], parameter.Columns) : (parameter.Rows, parameter.Columns);

    // `matrix` is the first part of the buffer; what comes back is the first or the second.
    private FloatView Orthogonalise(FloatView matrix, int rows, int columns)
    {
        double norm = Math.Sqrt(SquaredSum.Of(matrix, _team));
        var normalise = new StepJob { Value = matrix, Direction = matrix, Keep = (float)(1 / (norm + Guard)), Scale = 0 };
        _team.Run(ref normalise, Chunks(matrix.Length));
        int small = Math.Min(rows, columns);
        bool isTall = rows > columns;
        FloatView from = matrix, to = _buffer.Floats(matrix.Length, matrix.Length);
        FloatView square = _buffer.Floats(2 * matrix.Length, (long)small * small), other = _buffer.Floats(2 * matrix.Length + (long)small * small, (long)small * small);
        MatrixView squareRows = MatrixView.Rows(square, small, small), otherRows = MatrixView.Rows(other, small, small);
        for (int i = 0; i < StepCount; i++)
        {
            MatrixView x = MatrixView.Rows(from, rows, columns);
            if (isTall)
                Multiply(x.Transposed, x, squareRows);
            else
                Multiply(x, x.Transposed, squareRows);
            Polynomial(square, other, small);
            // The next X is not there yet: its place takes the product that may not lie over its own factors.
            FloatView factor = to.Slice(0, other.Length);
            MatrixView factorRows = MatrixView.Rows(factor, small, small);
            Multiply(otherRows, squareRows, factorRows);
            square.CopyFrom(factor);
            AddDiagonal(square.Span, small, A);
            if (isTall)
                Multiply(x, squareRows, MatrixView.Rows(to, rows, columns));
            else
                Multiply(squareRows, x, MatrixView.Rows(to, rows, columns));
            (from, to) = (to, from);
        }

        return from;
    }

    private void Multiply(in MatrixView a, in MatrixView b, in MatrixView c) => Matmul.Multiply(a, b, c, accumulate: false, _precision, _scratch, _team);

    // to = C · from + B on the diagonal.
    private static void Polynomial(FloatView from, FloatView to, int size)
    {
        Span<float> source = from.Span, target = to.Span;
        var factor = new Vector<float>(C);
        int i = 0;
        for (; i <= source.Length - Vector<float>.Count; i += Vector<float>.Count)
            (new Vector<float>(source[i..]) * factor).CopyTo(target[i..]);
        for (; i < source.Length; i++)
            target[i] = source[i] * C;
        AddDiagonal(target, size, B);
    }

    private static void AddDiagonal(Span<float> square, int size, float value)
    {
        for (int i = 0; i < size; i++)
            square[i * size + i] += value;
    }

    private const int ChunkFloats = 16 << 10;

    private static int Chunks(long length) => checked((int)((length + ChunkFloats - 1) / ChunkFloats));

    private static FloatView Part(FloatView all, int chunkIndex)
    {
        long first = (long)chunkIndex * ChunkFloats;
        return all.Slice(first, Math.Min(ChunkFloats, all.Length - first));
    }

    private struct MomentumJob : IChunkedJob
    {
        public FloatView Gradient, Momentum, Direction;
        public float Beta, Factor;

        public readonly void Run(int chunkIndex)
        {
            Span<float> gradient = Part(Gradient, chunkIndex).Span, momentum = Part(Momentum, chunkIndex).Span, direction = Part(Direction, chunkIndex).Span;
            int i = 0;
            for (; i <= gradient.Length - Vector<float>.Count; i += Vector<float>.Count)
            {
                Vector<float> g = new Vector<float>(gradient[i..]) * Factor;
                Vector<float> m = new Vector<float>(momentum[i..]) * Beta + g;
                m.CopyTo(momentum[i..]);
                (m * Beta + g).CopyTo(direction[i..]);
            }

            for (; i < gradient.Length; i++)
            {
                float g = gradient[i] * Factor;
                momentum[i] = momentum[i] * Beta + g;
                direction[i] = momentum[i] * Beta + g;
            }
        }
    }

    // value <- Keep * value + Scale * direction
    private struct StepJob : IChunkedJob
    {
        public FloatView Value, Direction;
        public float Keep, Scale;

        public readonly void Run(int chunkIndex)
        {
            Span<float> value = Part(Value, chunkIndex).Span, direction = Part(Direction, chunkIndex).Span;
            int i = 0;
            for (; i <= value.Length - Vector<float>.Count; i += Vector<float>.Count)
                (new Vector<float>(value[i..]) * Keep + new Vector<float>(direction[i..]) * Scale).CopyTo(value[i..]);
            for (; i < value.Length; i++)
                value[i] = value[i] * Keep + direction[i] * Scale;
        }
    }
}
