using Qian.Kernels;

namespace Qian.Inference.Verification;

// What each GGUF block type stands for: random blocks with the values that the format's own package decodes from them.
internal static class BlockGoldens
{
    public static List<VerificationResult> Run(string folder, string subject)
    {
        var results = new List<VerificationResult>();
        using GoldenTensors golden = GoldenTensors.Open(Path.Combine(folder, "blocks.safetensors"));
        foreach (string name in golden.Names)
        {
            if (!name.EndsWith(".blocks", StringComparison.Ordinal))
                continue;
            string typeName = name[..^".blocks".Length];
            if (!WeightFormat.TryParse(typeName, out WeightType type))
            {
                results.Add(new VerificationResult(subject, typeName, double.PositiveInfinity, 0, false, "this type is not known"));
                continue;
            }

            float[] expected = golden.Floats($"{typeName}.values");
            var values = new float[expected.Length];
            WeightFormat.Decode(type, golden.Bytes(name), values);

            // Equal to within one float32 rounding of the value.
            double worst = 0;
            for (int i = 0; i < values.Length; i++)
            {
                double difference = Math.Abs((double)values[i] - expected[i]) / Math.Max(Math.Abs(expected[i]), float.Epsilon);
                if (!(difference <= worst))
                    worst = double.IsNaN(difference) ? double.PositiveInfinity : difference;
            }

            results.Add(new VerificationResult(subject, $"{typeName}: relative error of {values.Length} values", worst, 1.2e-7, worst <= 1.2e-7, ""));
        }

        return results;
    }
}
