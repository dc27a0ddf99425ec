using System.Numerics;
using System.Runtime.InteropServices;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Text;
using Qian.Kernels;

namespace Qian.Inference.Verification;

// Do the value heads stand in the order that the file's format says? Hugging Face keeps the value heads of a key head side by
// side, GGUF spreads them; a file in the wrong order loads, computes, and talks nonsense. Nothing in a file says which order it
// is in, so this looks for evidence of two kinds and states it as a z score, positive where the file's order fits better:
//   by the weights: training aligns the value rows (and the gates' rows) of a head with the query and key rows that it works
//     with; compared are the squared cosines to the rows of its own key head and to those of the head it would have in the other order;
//   by a text: the loss on a built-in text in either order, token by token.
// Found so on a trained model of this architecture; random weights give no evidence, so only clear evidence against is a failure.
internal readonly record struct ValueHeadEvidence(double Score, string Detail)
{
    // A chance result reaches this less than once in ten thousand sound files.
    public const double Bound = 3.7;

    private const int RowsOfWideHead = 24;   // of each head, where the model is wide: enough rows, and seconds instead of minutes
    private const int WideHidden = 1024;

    // Evidence against, so that more is worse.
    public VerificationResult ToResult(string subject, string quantity) => new(subject, quantity, Math.Max(0, -Score), Bound, -Score <= Bound, $"({Detail})");

    // Both kinds together: independent scores of variance one.
    public ValueHeadEvidence With(ValueHeadEvidence other) => new((Score + other.Score) / Math.Sqrt(2), $"{Detail}; {other.Detail}");

    public static ValueHeadEvidence FromWeights(Checkpoint checkpoint, CancellationToken cancellation)
    {
        ModelConfig config = checkpoint.Config;
        if (config.LinearKeyHeads == 1 || config.LinearKeyHeads == config.LinearValueHeads)
            return new ValueHeadEvidence(0, "both orders are the same here");
        var kinds = new List<double>[8];
        for (int i = 0; i < kinds.Length; i++)
            kinds[i] = [];
        for (int layer = 0; layer < config.LayerCount; layer++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (!config.FullAttentionLayers[layer])
                AddLayer(checkpoint, layer, kinds);
        }

        // Each kind counts alike, whatever its spread; a head of a layer is one observation.
        var scores = new double[kinds[0].Count];
        foreach (List<double> kind in kinds)
        {
            double rms = Math.Sqrt(kind.Average(value => value * value));
            for (int i = 0; i < scores.Length && rms > 0; i++)
                scores[i] += kind[i] / rms;
        }

        double z = NormalScore(scores);
        return new ValueHeadEvidence(z, FormattableString.Invariant($"by the weights z = {z:0.0}"));
    }

    // `model` is read in the other order in between and left as it was.
    public static ValueHeadEvidence FromText(LoadedModel model, Tokenizer? tokenizer)
    {
        ModelConfig config = model.Config;
        if (tokenizer is null || config.LinearKeyHeads == 1 || config.LinearKeyHeads == config.LinearValueHeads)
            return new ValueHeadEvidence(0, tokenizer is null ? "no tokenizer, no text" : "both orders are the same here");
        List<double[]> stored = ProbeText.Losses(model, tokenizer), other;
        bool order = model.Network.ValueHeadsInterleaved;
        try
        {
            model.Network.ValueHeadsInterleaved = !order;
            other = ProbeText.Losses(model, tokenizer);
        }
        finally
        {
            model.Network.ValueHeadsInterleaved = order;
        }

        // How often a token is likelier in the file's order, less how often it is not: a few wild tokens cannot drown the rest.
        // Tokens of one answer resemble each other, so an answer is one observation.
        var gains = new double[stored.Count];
        for (int i = 0; i < gains.Length; i++)
        {
            for (int token = 0; token < stored[i].Length; token++)
                gains[i] += Math.Sign(other[i][token] - stored[i][token]) / (double)stored[i].Length;
        }

        double z = NormalScore(gains);
        return new ValueHeadEvidence(z, FormattableString.Invariant($"loss on a text {Mean(stored):0.00} nats, {Mean(other):0.00} in the other order, z = {z:0.0}"));

        static double Mean(List<double[]> losses) => losses.Average(answer => answer.Average());
    }

    private static void AddLayer(Checkpoint checkpoint, int layer, List<double>[] kinds)
    {
        ModelConfig c = checkpoint.Config;
        TensorSource qkv = checkpoint.Require(TensorRole.LinearQkv, layer), z = checkpoint.Require(TensorRole.LinearZ, layer);
        TensorSource a = checkpoint.Require(TensorRole.LinearA, layer), b = checkpoint.Require(TensorRole.LinearB, layer);
        bool isWide = c.HiddenSize > WideHidden;
        int keyRows = isWide ? Math.Min(RowsOfWideHead, c.LinearKeyDim) : c.LinearKeyDim, valueRows = isWide ? Math.Min(RowsOfWideHead, c.LinearValueDim) : c.LinearValueDim;
        int keyWidth = c.LinearKeyHeads * c.LinearKeyDim;
        var queries = new float[c.LinearKeyHeads][];
        var keys = new float[c.LinearKeyHeads][];
        for (int head = 0; head < c.LinearKeyHeads; head++)
        {
            queries[head] = UnitRows(qkv, head * c.LinearKeyDim, keyRows, c.LinearKeyDim / keyRows);
            keys[head] = UnitRows(qkv, keyWidth + head * c.LinearKeyDim, keyRows, c.LinearKeyDim / keyRows);
        }

        for (int head = 0; head < c.LinearValueHeads; head++)
        {
            int sideBySide = head / (c.LinearValueHeads / c.LinearKeyHeads), spread = head % c.LinearKeyHeads;
            if (sideBySide == spread)
                continue;
            (int own, int foreign) = c.ValueHeadsInterleaved ? (spread, sideBySide) : (sideBySide, spread);
            int stride = c.LinearValueDim / valueRows, kind = 0;
            foreach (float[] rows in (float[][])
            [
                UnitRows(qkv, 2 * keyWidth + head * c.LinearValueDim, valueRows, stride), UnitRows(z, head * c.LinearValueDim, valueRows, stride), UnitRows(a, head, 1, 1), UnitRows(b, head, 1, 1),
            ])
            {
                kinds[kind++].Add(Math.Log(Alignment(rows, queries[own], c.HiddenSize) / Alignment(rows, queries[foreign], c.HiddenSize)));
                kinds[kind++].Add(Math.Log(Alignment(rows, keys[own], c.HiddenSize) / Alignment(rows, keys[foreign], c.HiddenSize)));
            }
        }
    }

    // Rows first, first + stride, …, each scaled to length one.
    private static float[] UnitRows(TensorSource source, int first, int count, int stride)
    {
        int width = source.ColumnCount;
        var rows = new float[count * width];
        for (int i = 0; i < count; i++)
        {
            Span<float> row = rows.AsSpan(i * width, width);
            source.DecodeRows(first + i * stride, 1, row);
            float length = MathF.Sqrt(Dot(row, row));
            for (int j = 0; j < width && length > 0; j++)
                row[j] /= length;
        }

        return rows;
    }

    // Mean squared cosine between any row of one set and any of the other.
    private static double Alignment(float[] left, float[] right, int width)
    {
        double sum = 1e-30;
        for (int i = 0; i < left.Length; i += width)
        {
            for (int j = 0; j < right.Length; j += width)
            {
                double cosine = Dot(left.AsSpan(i, width), right.AsSpan(j, width));
                sum += cosine * cosine;
            }
        }

        return sum / ((double)(left.Length / width) * (right.Length / width));
    }

    private static float Dot(ReadOnlySpan<float> left, ReadOnlySpan<float> right)
    {
        ReadOnlySpan<Vector<float>> wideLeft = MemoryMarshal.Cast<float, Vector<float>>(left), wideRight = MemoryMarshal.Cast<float, Vector<float>>(right);
        Vector<float> sums = default;
        for (int i = 0; i < wideLeft.Length; i++)
            sums += wideLeft[i] * wideRight[i];
        float sum = Vector.Sum(sums);
        for (int i = wideLeft.Length * Vector<float>.Count; i < left.Length; i++)
            sum += left[i] * right[i];
        return sum;
    }

    // How far the mean is from zero, as a normal deviate: Student's t, made normal by the usual approximation for few observations.
    private static double NormalScore(ReadOnlySpan<double> values)
    {
        if (values.Length < 3)
            return 0;
        double mean = 0, squares = 0;
        foreach (double value in values)
            mean += value / values.Length;
        foreach (double value in values)
            squares += (value - mean) * (value - mean);
        double error = Math.Sqrt(squares / (values.Length - 1) / values.Length);
        if (!(error > 0))
            return 0;
        double t = mean / error, freedom = values.Length - 1;
        return t * (1 - 1 / (4 * freedom)) / Math.Sqrt(1 + t * t / (2 * freedom));
    }
}
