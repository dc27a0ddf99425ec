using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;
using Qian.Training.Model;
using Qian.Training.Optimization;

namespace Qian.Training.Run;

// What a run takes, from headers alone: the buffers of a pass are laid out without memory behind them, parameters are declared
// and not read.
internal sealed record TrainingMemory(long ParameterCount, long TrainedCount, long FrozenBytes, long TrainedBytes, long OptimizerBytes, long PassBytes)
{
    public static TrainingMemory OfFull(Checkpoint checkpoint, TrainingModelOptions options, OptimizerOptions optimizer)
    {
        bool mtp = options.MtpLossWeight > 0 && checkpoint.Config.MtpLayerCount > 0;
        List<Parameter> parameters = Parameters(checkpoint, mtp);
        long count = parameters.Sum(parameter => parameter.Length);
        return new TrainingMemory(count, count, 0, 2 * ParameterStore.CountFloats(parameters) * sizeof(float), OptimizerState.Bytes(parameters, optimizer), PassBytesOf(checkpoint.Config, options, mtp));
    }

    private static long PassBytesOf(ModelConfig config, TrainingModelOptions options, bool mtp)
    {
        FloatArena count = FloatArena.Counting();
        _ = new TrainingBuffers(count, config, options, mtp);
        return count.FloatCount * sizeof(float);
    }

    // Every expert counts as a matrix of its own, whether the file stacks them or not.
    private static List<Parameter> Parameters(Checkpoint checkpoint, bool mtp)
    {
        ModelConfig config = checkpoint.Config;
        var parameters = new List<Parameter>();
        for (int layer = -1; layer < config.LayerCount + (mtp ? 1 : 0); layer++)
        {
            foreach (TensorRole role in Enum.GetValues<TensorRole>())
            {
                if (!TensorShapes.Occurs(config, role, layer) || (role == TensorRole.Output && config.TiedEmbeddings))
                    continue;
                (int rows, int columns) = TensorShapes.Of(config, role);
                for (int expert = 0; expert < (TensorShapes.IsExpert(role) ? config.ExpertCount : 1); expert++)
                {
                    parameters.Add(new Parameter
                    {
                        Name = checkpoint.Require(role, layer, TensorShapes.IsExpert(role) ? expert : -1).Name,
                        Sizes = [rows, columns],
                        Rows = rows,
                        Columns = columns,
                        StoredType = SafetensorsType.F32,
                        IsMatrix = !TensorShapes.IsVector(role) && role != TensorRole.LinearConv,
                    });
                }
            }
        }

        return parameters;
    }
}
