using System.Runtime.InteropServices;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Tests.Formats;
using Qian.Kernels;

namespace Qian.Inference.Tests;

// Adapters of random values for any model, and the same thing merged into its weights by hand.
internal static class AdapterSamples
{
    public static string Reference { get; } = Path.Combine(GoldenFolders.Data, "adapters", "dense-tiny");

    // Over every projection that an adapter may have, in Hugging Face's order; large enough that each of them shows in the logits.
    public static AdapterWeights Random(ModelConfig config, int seed, int rank = 4, double alpha = 8, bool usesRsLora = false, Func<TensorRole, int, bool>? keeps = null)
    {
        var random = new Random(seed);
        var targets = new List<AdapterTarget>();
        for (int layer = -1; layer < config.LayerCount + config.MtpLayerCount; layer++)
        {
            foreach (TensorRole role in AdapterNames.Roles)
            {
                if (!TensorShapes.Occurs(config, role, layer) || (role == TensorRole.Output && config.TiedEmbeddings) || keeps?.Invoke(role, layer) == false)
                    continue;
                (int rows, int columns) = TensorShapes.Of(config, role);
                targets.Add(new AdapterTarget(role, layer, rank, alpha, Values(rank * columns, 0.1), Values(rows * rank, 0.01)));
            }
        }

        return new AdapterWeights { Name = $"random-{seed}", BaseModel = "tiny", UsesRsLora = usesRsLora, Targets = [.. targets.OrderBy(target => (target.Layer, target.Role))] };

        float[] Values(int count, double scale) => [.. Enumerable.Range(0, count).Select(_ => (float)((random.NextDouble() * 2 - 1) * scale))];
    }

    // A Hugging Face folder whose stored weights are W + scale · B A, summed in double and kept as F32. It knows nothing of GGUF.
    public static void Merge(string source, AdapterWeights adapter, string target)
    {
        using Checkpoint checkpoint = Checkpoint.Open(source);
        var targets = adapter.Targets.ToDictionary(t => checkpoint.Require(t.Role, t.Layer).Name);
        ModelFolders.Rewrite(source, target, stored =>
        {
            if (!targets.Remove(stored.Name, out AdapterTarget? change))
                return [stored];
            var values = new float[stored.Sizes.Aggregate((a, b) => a * b)];
            WeightFormat.Decode(stored.Type.AsWeightType()!.Value, stored.Bytes, values);
            int columns = change.InputCount;
            for (int i = 0; i < values.Length; i++)
            {
                double sum = 0;
                for (int k = 0; k < change.Rank; k++)
                    sum += (double)change.B[i / columns * change.Rank + k] * change.A[k * columns + i % columns];
                values[i] = (float)(values[i] + adapter.Scale(change) * sum);
            }

            return [stored with { Type = SafetensorsType.F32, Bytes = MemoryMarshal.AsBytes<float>(values).ToArray() }];
        });
        Assert.Empty(targets);
    }

    public static AdapterWeights Read(string path, ModelConfig config)
    {
        using AdapterFile file = AdapterFile.Open(path);
        return file.Read(config);
    }

    public static void AssertSame(AdapterWeights expected, AdapterWeights actual)
    {
        Assert.Equal(expected.Targets.Select(t => (t.Role, t.Layer, t.Rank)), actual.Targets.Select(t => (t.Role, t.Layer, t.Rank)));
        foreach ((AdapterTarget left, AdapterTarget right) in expected.Targets.Zip(actual.Targets))
        {
            Assert.Equal(expected.Scale(left), actual.Scale(right), 1e-6 * Math.Abs(expected.Scale(left)));
            Assert.Equal(left.A, right.A);
            Assert.Equal(left.B, right.B);
        }
    }
}

// A loaded model whose logits are asked for with and without adapters. In float32 unless told otherwise.
internal sealed class AdaptedModel : IDisposable
{
    private readonly LoadedModel _model;
    private readonly ForwardBatch _batch;

    public AdaptedModel(string path, bool exact = true, bool mtp = false)
    {
        var options = new EngineOptions { ExactArithmetic = exact, KvType = KvType.F32, MaxBatchRows = 256, LoadMtp = mtp, ThreadCount = 2 };
        _model = LoadedModel.Load(Checkpoint.Open(path), options, 1024, maxBlocks: 64);
        _batch = new ForwardBatch(options.MaxBatchRows);
    }

    public ModelConfig Config => _model.Config;

    public Network Network => _model.Network;

    public static int[] Prompt(int count, int seed = 1)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => random.Next(300))];
    }

    public LowRankAdapter Load(AdapterWeights weights) => new(weights, Config, Network.MaxRows);

    public SequenceState NewSequence(LowRankAdapter? adapter = null) => _model.NewSequence(adapter);

    public void Pass(params ReadOnlySpan<(SequenceState Sequence, int[] Tokens)> runs)
    {
        _batch.Clear();
        foreach ((SequenceState sequence, int[] tokens) in runs)
        {
            Assert.True(sequence.TryReserve(sequence.TokenCount + tokens.Length));
            _batch.Add(sequence, tokens);
        }

        Network.Forward(_batch);
    }

    public float[] Logits(params int[] rows) => Values(rows.Length, view => Network.Logits(rows, view));

    public float[] Next(params SequenceState[] sequences) => Values(sequences.Length, view => Network.NextLogits([.. sequences.Select(sequence => new LogitRow(sequence, null))], view));

    // [tokens, vocabulary] of the whole prompt in one pass; the MTP head's behind, where it is loaded.
    public float[] Run(AdapterWeights? weights, int[] prompt)
    {
        using LowRankAdapter? adapter = weights is null ? null : Load(weights);
        using SequenceState sequence = NewSequence(adapter);
        Pass((sequence, prompt));
        int[] rows = [.. Enumerable.Range(0, prompt.Length)];
        float[] logits = Logits(rows);
        if (!Network.HasMtp)
            return logits;
        _batch.Clear();
        _batch.AddMtp(sequence, 0, [.. prompt.Skip(1), 5]);
        Network.MtpForward(_batch, Network.Hidden);
        return [.. logits, .. Values(rows.Length, view => Network.MtpLogits(rows, view))];
    }

    public void Dispose() => _model.Dispose();

    private float[] Values(int rowCount, Action<FloatView> compute)
    {
        using NativeBuffer buffer = NativeBuffer.AllocateFloats((long)rowCount * Config.VocabularySize);
        compute(buffer.AllFloats);
        return buffer.AllFloats.Span.ToArray();
    }
}
