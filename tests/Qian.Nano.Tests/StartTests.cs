using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;
using Qian.Training.Vocabulary;

namespace Qian.Nano.Tests;

// The vocabulary and the untrained model: a folder that the engine loads, of the shape promised, that knows nothing yet.
public sealed class StartTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("qian-nano-start-").FullName;

    [Fact]
    public void TheUntrainedModelLoadsAndGuessesEvenly()
    {
        string data = Path.Combine(_folder, "data.jsonl");
        DataWriter.Write(data, 1, Split.Training, 8000, null);
        string vocabulary = Path.Combine(_folder, "vocabulary");
        BytePairTrainer.Train(VocabularyVerb.Texts(data, 8000), 4096).Write(vocabulary);
        string model = Path.Combine(_folder, "model");
        long count = StartVerb.Write(model, vocabulary, 1, WeightType.BF16);
        Assert.InRange(count, 12_000_000, 13_000_000);

        string again = Path.Combine(_folder, "again");
        StartVerb.Write(again, vocabulary, 1, WeightType.BF16);
        Assert.Equal(File.ReadAllBytes(Path.Combine(model, "model.safetensors")), File.ReadAllBytes(Path.Combine(again, "model.safetensors")));

        using LoadedModel loaded = LoadedModel.Load(Checkpoint.Open(model), new EngineOptions { LoadMtp = true, ExactArithmetic = true, MaxBatchRows = 128 }, contextLength: 512, maxBlocks: 16);
        ModelConfig config = loaded.Config;
        Assert.Equal((256, 8, 768, 4096, true, 1), (config.HiddenSize, config.LayerCount, config.IntermediateSize, config.VocabularySize, config.TiedEmbeddings, config.MtpLayerCount));
        Assert.Equal([false, false, false, true, false, false, false, true], config.FullAttentionLayers);
        Assert.Equal(Math.Log(config.VocabularySize), Loss(loaded), 0.15);

        // Everything is measurable before anything is learnt, and nothing passes.
        IReadOnlyList<Score> scores = MeasureVerb.Run(model, null, 1, 2, mostTokens: 40);
        Assert.Equal(9, scores.Count);
        Assert.All(scores.Take(6), score => Assert.Equal(0, score.Passed));
        Assert.True(scores[^1].Count > 0);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    // Mean over tokens of which the model cannot know the next.
    private static double Loss(LoadedModel model)
    {
        int[] tokens = [.. Enumerable.Range(0, 100).Select(i => i * 37 % 4000)];
        using SequenceState sequence = model.NewSequence();
        Assert.True(sequence.TryReserve(tokens.Length));
        var batch = new ForwardBatch(128);
        batch.Add(sequence, tokens);
        model.Network.Forward(batch);
        using NativeBuffer logits = NativeBuffer.AllocateFloats((long)tokens.Length * model.Config.VocabularySize);
        model.Network.Logits([.. Enumerable.Range(0, tokens.Length)], logits.AllFloats);
        double loss = 0;
        for (int i = 0; i + 1 < tokens.Length; i++)
        {
            Span<float> row = logits.AllFloats.Span.Slice(i * model.Config.VocabularySize, model.Config.VocabularySize);
            double sum = 0;
            foreach (float logit in row)
                sum += Math.Exp(logit);
            loss += Math.Log(sum) - row[tokens[i + 1]];
        }

        return loss / (tokens.Length - 1);
    }
}
