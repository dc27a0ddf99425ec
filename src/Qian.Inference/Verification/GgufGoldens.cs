using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Verification;

// GGUF files that other engines read too: exact arithmetic against float32 on the dequantised weights, and the path with
// 8-bit activations against the same, at the distance of the best of the others.
internal static class GgufGoldens
{
    private const double ExactMaxAbsolute = 1e-3;    // float32 against float32 (K and V rounded to F16 on their side: 6e-4)
    private const double FloatFileMaxAbsolute = 0.02; // F16 file, F16 K and V on their side
    private const double QuantizedRms = 0.065;       // the best of the other engines

    public static List<VerificationResult> Run(string folder, string subject)
    {
        var results = new List<VerificationResult>();
        using GoldenTensors outputs = GoldenTensors.Open(Path.Combine(folder, "outputs.safetensors"));
        int[] ids = outputs.Ids("input_ids");
        foreach (string path in Directory.GetFiles(folder, "*.gguf").Order(StringComparer.Ordinal))
        {
            string type = Path.GetFileNameWithoutExtension(path);
            if (outputs.Has($"{type}.logits_exact"))
            {
                float[] reference = outputs.Floats($"{type}.logits_exact");
                Add($"{type}: exact arithmetic, logits", Compare.MaxAbsolute(Logits(path, ids, exact: true), reference), ExactMaxAbsolute);
                Add($"{type}: 8-bit activations, rms of logits", Compare.Rms(Logits(path, ids, exact: false), reference), QuantizedRms);
            }
            else if (outputs.Has($"{type}.logits_llamacpp"))
            {
                Add($"{type}: logits against llama.cpp", Compare.MaxAbsolute(Logits(path, ids, exact: true), outputs.Floats($"{type}.logits_llamacpp")), FloatFileMaxAbsolute);
            }
        }

        return results;

        void Add(string quantity, double value, double bound) => results.Add(new VerificationResult(subject, quantity, value, bound, value <= bound, ""));
    }

    private static float[] Logits(string path, int[] ids, bool exact)
    {
        int rows = (ids.Length + Network.BlockTokens) / Network.BlockTokens * Network.BlockTokens;
        var options = new EngineOptions { ExactArithmetic = exact, KvType = KvType.F32, MaxBatchRows = Math.Max(128, rows) };
        using LoadedModel model = LoadedModel.Load(Checkpoint.Open(path), options, rows, maxBlocks: rows / Network.BlockTokens + 1);
        using SequenceState sequence = model.NewSequence();
        sequence.TryReserve(ids.Length);
        var batch = new ForwardBatch(model.Network.MaxRows);
        batch.Add(sequence, ids);
        model.Network.Forward(batch);
        using NativeBuffer logits = NativeBuffer.AllocateFloats((long)ids.Length * model.Config.VocabularySize);
        model.Network.Logits([.. Enumerable.Range(0, ids.Length)], logits.AllFloats);
        return logits.AllFloats.Span.ToArray();
    }
}
