using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Weights;

// One tensor to make up: what it is for, its size (`Rows` of one expert; ExpertCount 1 where there are none), and how widely its
// values spread. Knows no file format: names, types and orders of axes are the writers' business.
internal sealed record SynthTensor(TensorRole Role, int Layer, int Rows, int Columns, int ExpertCount, double Deviation)
{
    // Logits of about this deviation: sharp enough to have a favourite, far from certain.
    private const double OutputGain = 3;

    // What the projection to the decay adds to the bias: little, so that every token keeps most of the state.
    private const double DecayGain = 0.25;

    public long ValueCount => (long)Rows * Columns * ExpertCount;

    // All tensors of the model, layer by layer, the MTP layer last.
    public static List<SynthTensor> List(ModelConfig config)
    {
        var tensors = new List<SynthTensor>();
        for (int layer = -1; layer < config.LayerCount + config.MtpLayerCount; layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (!TensorShapes.Occurs(config, role, layer) || (role == TensorRole.Output && config.TiedEmbeddings))
                    continue;
                (int rows, int columns) = TensorShapes.Of(config, role);
                tensors.Add(new SynthTensor(role, layer, rows, columns, TensorShapes.IsExpert(role) ? config.ExpertCount : 1, DeviationOf(role, columns, config)));
            }
        }

        return tensors;
    }

    // The values of a vector; `zeroCentred` as Hugging Face stores norms. Decay per token is between about 0.9 and 0.999.
    public float[] Vector(ulong key, bool zeroCentred, bool logDecay)
    {
        var uniform = new float[Columns];
        var bytes = new byte[4 * Columns];
        new RandomBytes(key).Fill(bytes);
        for (int index = 0; index < uniform.Length; index++)
        {
            double share = (BitConverter.ToUInt32(bytes, 4 * index) + 0.5) / 4294967296.0;
            uniform[index] = (float)(Role switch
            {
                TensorRole.LinearDecay => logDecay ? LogUniform(share, 0.5, 2, log: true) : -LogUniform(share, 0.5, 2, log: false),
                TensorRole.LinearDtBias => InverseSoftplus(LogUniform(share, 0.004, 0.04, log: false)),
                _ => (zeroCentred && TensorShapes.IsZeroCentredNorm(Role) ? 0 : 1) + 0.4 * (share - 0.5),
            });
        }

        return uniform;
    }

    private static double LogUniform(double share, double least, double most, bool log)
    {
        double logarithm = Math.Log(least) + share * Math.Log(most / least);
        return log ? logarithm : Math.Exp(logarithm);
    }

    // softplus of the result is `value`.
    private static double InverseSoftplus(double value) => Math.Log(Math.Exp(value) - 1);

    // An input of order one keeps that order; what is added to the residual stream shrinks with the number of additions.
    private static double DeviationOf(TensorRole role, int columns, ModelConfig config)
    {
        double perInput = 1 / Math.Sqrt(columns);
        return role switch
        {
            TensorRole.TokenEmbedding => config.TiedEmbeddings ? OutputGain * perInput : 1,
            TensorRole.Output => OutputGain * perInput,
            TensorRole.AttentionOutput or TensorRole.LinearOutput or TensorRole.FfnDown or TensorRole.ExpertDown or TensorRole.SharedDown =>
                perInput / Math.Sqrt(2.0 * config.LayerCount),
            TensorRole.LinearA => DecayGain * perInput,
            _ => perInput,
        };
    }
}
