using Qian.Inference.Formats;

namespace Qian.Inference.Model;

// Which matrices a layer range is made of, for adding up memory before anything is loaded.
internal static class MatrixRoles
{
    private static readonly TensorRole[] s_attention = [TensorRole.AttentionQ, TensorRole.AttentionK, TensorRole.AttentionV, TensorRole.AttentionOutput];
    private static readonly TensorRole[] s_deltaNet = [TensorRole.LinearQkv, TensorRole.LinearZ, TensorRole.LinearB, TensorRole.LinearA, TensorRole.LinearOutput];
    private static readonly TensorRole[] s_mlp = [TensorRole.FfnGate, TensorRole.FfnUp, TensorRole.FfnDown];
    private static readonly TensorRole[] s_shared = [TensorRole.RouterGate, TensorRole.SharedGate, TensorRole.SharedUp, TensorRole.SharedDown, TensorRole.SharedExpertGate];
    private static readonly TensorRole[] s_expert = [TensorRole.ExpertGate, TensorRole.ExpertUp, TensorRole.ExpertDown];

    // IsLookup: rows are looked up, never multiplied, so the matrix stays where it is.
    public static IEnumerable<(TensorSource Source, bool IsLookup)> Of(Checkpoint checkpoint, LayerRange range, bool mtp)
    {
        ModelConfig config = checkpoint.Config;
        if (range.Embedding)
            yield return (checkpoint.Require(TensorRole.TokenEmbedding), !config.TiedEmbeddings);
        if (range.Head && !config.TiedEmbeddings)
            yield return (checkpoint.Require(TensorRole.Output), false);
        for (int layer = range.First; layer < range.End; layer++)
        {
            foreach (TensorSource source in Layer(checkpoint, layer, config.FullAttentionLayers[layer]))
                yield return (source, false);
        }

        if (!mtp)
            yield break;
        yield return (checkpoint.Require(TensorRole.MtpProjection, config.LayerCount), false);
        foreach (TensorSource source in Layer(checkpoint, config.LayerCount, fullAttention: true))
            yield return (source, false);
    }

    private static IEnumerable<TensorSource> Layer(Checkpoint checkpoint, int layer, bool fullAttention)
    {
        foreach (TensorRole role in fullAttention ? s_attention : s_deltaNet)
            yield return checkpoint.Require(role, layer);
        if (!checkpoint.Config.IsMoe)
        {
            foreach (TensorRole role in s_mlp)
                yield return checkpoint.Require(role, layer);
            yield break;
        }

        foreach (TensorRole role in s_shared)
            yield return checkpoint.Require(role, layer);
        for (int expert = 0; expert < checkpoint.Config.ExpertCount; expert++)
        {
            foreach (TensorRole role in s_expert)
                yield return checkpoint.Require(role, layer, expert);
        }
    }
}
