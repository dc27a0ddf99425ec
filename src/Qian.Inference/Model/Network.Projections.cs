using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// Every product with weights goes through here: W x for all rows at once, then B (A x) for the rows whose sequence has an adapter
// of that projection. The weights stay as they are, so sequences of different adapters, and of none, share a pass, and a pass
// without adapters is the same arithmetic as if there were no such thing.
internal sealed partial class Network
{
    private readonly AdapterRuns _trunkRuns;    // of the last Forward; its rows can still be asked for logits
    private readonly AdapterRuns _mtpRuns;      // of the last MtpForward
    private readonly AdapterRuns _headRuns;     // of the rows that the head is computed for
    private readonly AdapterRuns _noRuns = new(0);

    // `roles` names the projections one by one.
    private void Project(
        AdapterRuns runs, int layerIndex, FloatView x, int xStride, int rowCount, ReadOnlySpan<Projection> projections, ReadOnlySpan<TensorRole> roles)
    {
        Linear.Project(x, xStride, rowCount, projections, _scratch.Linear, _exact, _team);
        foreach (ref readonly AdapterRun run in runs.All)
        {
            FloatView input = x.Slice((long)run.FirstRow * xStride);
            for (int i = 0; i < roles.Length; i++)
            {
                if (!run.Adapter.TryFind(layerIndex, roles[i], out LowRankFactors factors))
                    continue;
                (_, FloatView output, int stride) = projections[i];
                LowRank.Apply(factors, input, xStride, output.Slice((long)run.FirstRow * stride), stride, run.RowCount, run.Adapter.Inner, _team);
            }
        }
    }
}
