using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Verification;

// The parts of ModelGoldens that look inside: intermediate activations, the MTP head, and embedding rows with positions.
internal sealed partial class ModelGoldens
{
    // Inside layer 0 (a DeltaNet layer) and the first attention layer, first tokens. q and k come repeated to the value heads.
    private void CompareIntermediates(ActivationTap tap, string path)
    {
        using GoldenTensors golden = GoldenTensors.Open(path);
        if (Config.ValueHeadsInterleaved)
            return;
        const string linear = "layer0.linear_attn.";
        (string Name, string Tap)[] pairs = [("in_proj_qkv", "in_proj_qkv"), ("in_proj_z", "in_proj_z"), ("g", "g"), ("beta", "beta"), ("core_out", "delta_output"), ("gated_norm_out", "gated_norm")];
        foreach ((string name, string tapped) in pairs)
            CompareActivation(linear + name, golden, tap.Get(tapped, 0));

        int keyWidth = Config.LinearKeyHeads * Config.LinearKeyDim, channels = Config.ConvChannels;
        float[] conv = tap.Get("conv_silu", 0);
        int rows = (int)golden.Shape(linear + "v_after_conv_silu")[0];
        CompareActivation(linear + "q_after_conv_silu_repeated", golden, Repeated(conv, rows, channels, 0));
        CompareActivation(linear + "k_after_conv_silu_repeated", golden, Repeated(conv, rows, channels, keyWidth));
        CompareActivation(linear + "v_after_conv_silu", golden, Columns(conv, rows, channels, 2 * keyWidth, channels - 2 * keyWidth));

        for (int layer = 0; layer < Config.LayerCount; layer++)
        {
            string attention = $"layer{layer}.self_attn.";
            if (!golden.Has(attention + "q_proj"))
                continue;
            CompareActivation(attention + "q_proj", golden, tap.Get("q_proj", layer));
            CompareActivation(attention + "gated_attn_before_o_proj", golden, tap.Get("gated_attention", layer));
        }
    }

    private void CompareActivation(string name, GoldenTensors golden, float[] ours)
    {
        float[] reference = golden.Floats(name);
        Add(name, Compare.RelativeL2(ours.AsSpan(0, reference.Length), reference), _tolerance.HiddenRelativeL2);
    }

    private float[] Repeated(float[] rows, int rowCount, int stride, int offset)
    {
        int heads = Config.LinearValueHeads, dim = Config.LinearKeyDim, repeat = heads / Config.LinearKeyHeads;
        var result = new float[rowCount * heads * dim];
        for (int t = 0; t < rowCount; t++)
        {
            for (int h = 0; h < heads; h++)
                rows.AsSpan(t * stride + offset + h / repeat * dim, dim).CopyTo(result.AsSpan((t * heads + h) * dim));
        }

        return result;
    }

    private static float[] Columns(float[] rows, int rowCount, int stride, int offset, int width)
    {
        var result = new float[rowCount * width];
        for (int t = 0; t < rowCount; t++)
            rows.AsSpan(t * stride + offset, width).CopyTo(result.AsSpan(t * width));
        return result;
    }

    // Rows i = 0 … T - 1 pair the trunk's hidden row i with token i + 1 (the last with the trunk's own next token), then a
    // chain of drafts feeds the head its own hidden row.
    private void CompareMtp(int[] prompt)
    {
        using SequenceState sequence = _model.NewSequence();
        int width = Config.HiddenSize, count = prompt.Length;
        int[] drafts = _outputs.Ids("draft_tokens");
        Forward(sequence, prompt);
        CompareLogits("trunk logits", AllLogits(count), _outputs.Floats("main_logits"));
        float[] hidden = _model.Network.Hidden.Slice(0, (long)count * width).Span.ToArray();
        Add("trunk hidden rows after the final norm", Compare.RelativeL2(hidden, _outputs.Floats("main_hidden_post_final_norm")), _tolerance.HiddenRelativeL2);

        int[] next = _outputs.Ids("mtp_input_ids");
        int own = Compare.ArgMax(LastLogits());
        Add("next token differs", own == next[^1] ? 0 : 1, 0);
        if (!sequence.TryReserve(count + drafts.Length + 1))
            throw new InvalidOperationException("the KV pool of the verification is too small");
        var batch = new ForwardBatch(_model.Network.MaxRows);
        batch.AddMtp(sequence, 0, next);
        _model.Network.MtpForward(batch, _model.Network.Hidden);
        float[] mtpHidden = _model.Network.MtpHidden.Slice(0, (long)count * width).Span.ToArray();
        Add("MTP hidden rows", Compare.RelativeL2(mtpHidden, _outputs.Floats("mtp_hidden")), _tolerance.HiddenRelativeL2);
        CompareLogits("MTP logits", Logits([.. Enumerable.Range(0, count)], mtp: true), _outputs.Floats("mtp_logits"));
        (float[] k, float[] v) = ReadCache(sequence, Config.FullAttentionLayerCount, count);
        Add("MTP keys", Compare.RelativeL2(k, _outputs.Floats("mtp_k")), _tolerance.StateRelativeL2);
        Add("MTP values", Compare.RelativeL2(v, _outputs.Floats("mtp_v")), _tolerance.StateRelativeL2);

        // Draft s + 1 takes the embedding of draft s and the head's own normed hidden row.
        var logits = new float[drafts.Length * Config.VocabularySize];
        int wrong = 0, row = count - 1, draft = Compare.ArgMax(Logits([row], mtp: true));
        using NativeBuffer lastHidden = NativeBuffer.AllocateFloats(width);
        for (int s = 0; s < drafts.Length; s++)
        {
            Logits([row], mtp: true).CopyTo(logits.AsSpan(s * Config.VocabularySize));
            wrong += draft == drafts[s] ? 0 : 1;
            lastHidden.AllFloats.CopyFrom(_model.Network.MtpHidden.Slice((long)row * width, width));
            batch.Clear();
            batch.AddMtp(sequence, count + s, [drafts[s]]);
            _model.Network.MtpForward(batch, lastHidden.AllFloats);
            row = 0;
            draft = Compare.ArgMax(Logits([0], mtp: true));
        }

        Add($"draft tokens that differ, of {drafts.Length}", wrong, 0);
        CompareLogits("draft logits", logits, _outputs.Floats("draft_logits"));
    }

    // Rows that are embeddings (images already merged in), three positions per row, and a continuation whose positions run
    // behind the token count.
    private void CompareEmbeddings()
    {
        using SequenceState sequence = _model.NewSequence();
        float[] embeddings = _outputs.Floats("inputs_embeds");
        int[] positions = _outputs.Ids("position_ids");
        int count = positions.Length / 3;
        using NativeBuffer rows = NativeBuffer.AllocateFloats(embeddings.Length);
        embeddings.CopyTo(rows.AllFloats.Span);
        sequence.PositionDelta = _outputs.Ids("rope_delta")[0];
        if (!sequence.TryReserve(count))
            throw new InvalidOperationException("the KV pool of the verification is too small");
        var batch = new ForwardBatch(_model.Network.MaxRows);
        batch.AddEmbeddings(sequence, rows.AllFloats, positions);
        using (var tap = new ActivationTap(_model.Network))
        {
            _model.Network.Forward(batch);
            _rowCount = count;
            CompareLogits("logits from embedding rows and positions", AllLogits(count), _outputs.Floats("logits"));
            Add("last layer's hidden rows", Compare.RelativeL2(tap.Get("layer_output", Config.LayerCount - 1), _outputs.Floats("last_layer_hidden")), _tolerance.HiddenRelativeL2);
        }

        // The reference takes its argmax over all but the last 16 ids: those are special.
        int[] greedy = _outputs.Ids("greedy_tokens");
        float[] reference = _outputs.Floats("greedy_step_logits");
        int textIds = Config.VocabularySize - 16, wrong = 0;
        var steps = new float[reference.Length];
        int next = Compare.ArgMax(LastLogits().AsSpan(0, textIds));
        for (int s = 0; s < greedy.Length; s++)
        {
            wrong += next == greedy[s] ? 0 : 1;
            Forward(sequence, [greedy[s]]);
            float[] logits = LastLogits();
            logits.CopyTo(steps.AsSpan(s * Config.VocabularySize));
            next = Compare.ArgMax(logits.AsSpan(0, textIds));
        }

        Add($"greedy tokens that differ, of {greedy.Length}", wrong, 0);
        CompareLogits("logits of greedy steps", steps, reference);
    }
}

// Copies every tapped activation of a pass; the latest wins.
internal sealed class ActivationTap : IDisposable
{
    private readonly Dictionary<(string Name, int Layer), float[]> _rows = [];
    private readonly Network _network;

    public ActivationTap(Network network)
    {
        _network = network;
        network.Tap = (name, layer, rows) => _rows[(name, layer)] = rows.Span.ToArray();
    }

    public float[] Get(string name, int layer) => _rows[(name, layer)];

    public void Dispose() => _network.Tap = null;
}
