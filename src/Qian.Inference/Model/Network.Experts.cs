using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Inference.Model;

// Mixture of experts (MODEL.md, "Experts"): softmax over all experts in float32, the top k renormalised, plus a shared
// expert behind a sigmoid. Rows are grouped by expert, so that each chosen expert is read once per pass and no other is.
internal sealed partial class Network
{
    private void Experts(MoeWeights w, int layerIndex, int rows, AdapterRuns runs)
    {
        ForwardScratch s = _scratch;
        int hidden = _config.HiddenSize, experts = _config.ExpertCount, chosen = _config.ExpertsPerToken;

        // The shared expert first: it uses the Gate and Up buffers as the others do, and its output has a buffer of its own.
        Mlp(w.Shared, s.Normed, rows, s.SharedOutput, runs, layerIndex, [TensorRole.SharedGate, TensorRole.SharedUp, TensorRole.SharedDown]);
        Project(
            runs, layerIndex, s.Normed, hidden, rows,
            [new Projection(w.Router, s.RouterLogits, experts), new Projection(w.SharedGate, s.SharedLogits, 1)],
            [TensorRole.RouterGate, TensorRole.SharedExpertGate]);
        Span<int> chosenExperts = s.ChosenExperts.AsSpan(0, rows * chosen);
        Tap?.Invoke("router_logits", layerIndex, FirstRows(s.RouterLogits, rows, experts));
        Router.TopK(s.RouterLogits, rows, experts, chosen, chosenExperts, s.RouterWeights, default);
        Tap?.Invoke("router_weights", layerIndex, FirstRows(s.RouterWeights, rows, chosen));
        GroupByExpert(chosenExperts, chosen);

        for (int expert = 0; expert < experts; expert++)
        {
            int start = s.ExpertFill[expert], count = s.ExpertFill[expert + 1] - start;
            if (count == 0)
                continue;
            Rows.Gather(s.Normed, hidden, s.ExpertRows.AsSpan(start, count), s.ExpertInput);
            // Its rows are not the batch's, and no adapter has targets here.
            Mlp(w.Experts[expert], s.ExpertInput, count, s.ExpertDown, _noRuns, layerIndex, [TensorRole.ExpertGate, TensorRole.ExpertUp, TensorRole.ExpertDown]);
            Rows.Scatter(s.ExpertDown, hidden, s.ExpertSlots.AsSpan(start, count), s.ExpertOutput);
        }

        Router.Combine(s.ExpertOutput, s.RouterWeights, s.SharedOutput, s.SharedLogits, s.MixerOutput, rows, chosen, hidden, _team);
    }

    // Counting sort of (row, choice) pairs by expert; ExpertFill[e] … ExpertFill[e + 1] are expert e's entries.
    private void GroupByExpert(ReadOnlySpan<int> chosenExperts, int chosen)
    {
        int[] fill = _scratch.ExpertFill;
        Array.Clear(fill);
        foreach (int expert in chosenExperts)
            fill[expert + 1]++;
        for (int e = 1; e < fill.Length; e++)
            fill[e] += fill[e - 1];
        for (int i = 0; i < chosenExperts.Length; i++)
        {
            int place = fill[chosenExperts[i]]++;
            _scratch.ExpertRows[place] = i / chosen;
            _scratch.ExpertSlots[place] = i;
        }

        // The fill pass moved every start to its end: shift back by one.
        for (int e = fill.Length - 1; e > 0; e--)
            fill[e] = fill[e - 1];
        fill[0] = 0;
    }
}
