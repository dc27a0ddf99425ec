using Qian.Kernels;

namespace Qian.Training.Model;

// Mixture of experts: the k most probable experts of each row, weighted, and a shared expert behind a sigmoid. Rows are grouped
// by expert, so that each chosen expert's weights are multiplied once per pass. The choice has no gradient; its weights have.
internal sealed class ExpertLayer
{
    public required LinearWeight Router { get; init; }        // [experts, hidden]

    public required MlpLayer[] Experts { get; init; }

    public required MlpLayer Shared { get; init; }

    public required LinearWeight SharedGate { get; init; }    // [1, hidden]

    // residual [T, hidden] += experts(normed)
    public void Forward(FloatView normed, FloatView residual, ExpertActivations a, TrainingPass pass)
    {
        ExpertBuffers s = pass.Scratch.Experts!;
        int rows = pass.RowCount, hidden = pass.Config.HiddenSize, chosen = pass.Config.ExpertsPerToken;
        Shared.Forward(normed, a.SharedOutput, accumulate: false, rows, a.Shared.Gate, a.Shared.Up, pass.Scratch.Mlp, pass);
        SharedGate.Forward(normed, a.SharedLogits, rows, accumulate: false, pass);
        Router.Forward(normed, a.RouterLogits, rows, accumulate: false, pass);
        Kernels.Router.TopK(a.RouterLogits, rows, Experts.Length, chosen, a.Chosen, a.Weights, default);
        Group(a, rows * chosen, chosen);
        for (int expert = 0; expert < Experts.Length; expert++)
        {
            (int first, int count) = GroupOf(a, expert);
            if (count == 0)
                continue;
            Rows.Gather(normed, hidden, a.GroupedRow.AsSpan(first, count), s.GroupInput);
            Experts[expert].Forward(s.GroupInput, s.GroupOutput, accumulate: false, count, GroupRows(a.Routed.Gate, first, expert), GroupRows(a.Routed.Up, first, expert), s.Routed, pass);
            Rows.Scatter(s.GroupOutput, hidden, a.GroupedSlot.AsSpan(first, count), a.SlotOutput);
        }

        Kernels.Router.Combine(a.SlotOutput, a.Weights, a.SharedOutput, a.SharedLogits, s.Output, rows, chosen, hidden, pass.Team);
        Residual.Add(residual, s.Output, (long)rows * hidden, pass.Team);
    }

    // dNormed [T, hidden] = gradient, from that of the residual stream. Outputs that were kept become their own gradients.
    public void Backward(FloatView normed, FloatView dResidual, FloatView dNormed, ExpertActivations a, TrainingPass pass)
    {
        ExpertBuffers s = pass.Scratch.Experts!;
        int rows = pass.RowCount, hidden = pass.Config.HiddenSize, chosen = pass.Config.ExpertsPerToken;
        Kernels.Router.CombineBackward(
            a.SlotOutput, a.Weights, a.SharedOutput, a.SharedLogits, dResidual, a.SlotOutput, s.DWeights, a.SharedOutput, s.DSharedLogits, rows, chosen, hidden, pass.Team);
        Shared.Backward(normed, a.SharedOutput, dNormed, accumulate: false, rows, a.Shared.Gate, a.Shared.Up, pass.Scratch.Mlp, pass);
        SharedGate.Backward(normed, s.DSharedLogits, dNormed, rows, accumulate: true, pass);
        Kernels.Router.TopKBackward(a.Chosen, a.Weights, s.DWeights, s.DRouterLogits, rows, Experts.Length, chosen);
        Router.Backward(normed, s.DRouterLogits, dNormed, rows, accumulate: true, pass);
        for (int expert = 0; expert < Experts.Length; expert++)
        {
            (int first, int count) = GroupOf(a, expert);
            if (count == 0)
                continue;
            ReadOnlySpan<int> groupRows = a.GroupedRow.AsSpan(first, count);
            Rows.Gather(normed, hidden, groupRows, s.GroupInput);
            Rows.Gather(a.SlotOutput, hidden, a.GroupedSlot.AsSpan(first, count), s.GroupOutput);
            Experts[expert].Backward(s.GroupInput, s.GroupOutput, s.DGroupInput, accumulate: false, count, GroupRows(a.Routed.Gate, first, expert), GroupRows(a.Routed.Up, first, expert), s.Routed, pass);
            // A row is in a group once; the groups come in one order, so the sum is the same every time.
            Embedding.ScatterAdd(groupRows, s.DGroupInput, dNormed, hidden, rows, pass.Team);
        }
    }

    private FloatView GroupRows(FloatView buffer, int first, int expert) => buffer.Slice((long)first * Experts[expert].Width);

    private static (int First, int Count) GroupOf(ExpertActivations a, int expert) => (a.GroupStart[expert], a.GroupStart[expert + 1] - a.GroupStart[expert]);

    // Counting sort of the slots by expert.
    private static void Group(ExpertActivations a, int slotCount, int chosen)
    {
        int[] start = a.GroupStart;
        Array.Clear(start);
        for (int slot = 0; slot < slotCount; slot++)
            start[a.Chosen[slot] + 1]++;
        for (int expert = 1; expert < start.Length; expert++)
            start[expert] += start[expert - 1];
        for (int slot = 0; slot < slotCount; slot++)
        {
            int place = start[a.Chosen[slot]]++;
            (a.GroupedRow[place], a.GroupedSlot[place]) = (slot / chosen, slot);
        }

        // Placing moved every start to its group's end: shift back by one.
        for (int expert = start.Length - 1; expert > 0; expert--)
            start[expert] = start[expert - 1];
        start[0] = 0;
    }
}
