using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Inference.Verification;

// Runs a golden model folder (a checkpoint with reference numbers beside it) through the network in exact arithmetic and
// compares everything the folder holds: logits, hidden states, intermediate activations, caches, greedy continuations.
// It recognises what to compare by the tensors present and takes bounds from the folder's info.json.
internal sealed partial class ModelGoldens
{
    private readonly LoadedModel _model;
    private readonly GoldenTensors _outputs;
    private readonly GoldenTolerance _tolerance;
    private readonly string _subject;
    private readonly List<VerificationResult> _results = [];

    private ModelGoldens(string subject, LoadedModel model, GoldenTensors outputs, GoldenTolerance tolerance)
    {
        _subject = subject;
        _model = model;
        _outputs = outputs;
        _tolerance = tolerance;
    }

    private ModelConfig Config => _model.Config;

    // `checkpointPath` is the folder itself, or a GGUF written from it (its value heads then stand in another order, so
    // states are compared only in the folder's own order).
    public static List<VerificationResult> Run(string folder, string checkpointPath, string subject)
    {
        GoldenTolerance tolerance = GoldenTolerance.Read(Path.Combine(folder, "info.json"));
        using GoldenTensors inputs = GoldenTensors.Open(Path.Combine(folder, "inputs.safetensors"));
        using GoldenTensors outputs = GoldenTensors.Open(Path.Combine(folder, "outputs.safetensors"));
        int[] prompt = inputs.Ids("input_ids");
        int maxRows = (prompt.Length + Network.BlockTokens) / Network.BlockTokens * Network.BlockTokens;
        var options = new EngineOptions { ExactArithmetic = true, KvType = KvType.F32, LoadMtp = true, MaxBatchRows = Math.Max(128, maxRows) };
        using LoadedModel model = LoadedModel.Load(Checkpoint.Open(checkpointPath), options, contextLength: maxRows + 128, maxBlocks: 1024);
        var goldens = new ModelGoldens(subject, model, outputs, tolerance);
        if (outputs.Has("mtp_logits"))
            goldens.CompareMtp(prompt);
        else if (outputs.Has("inputs_embeds"))
            goldens.CompareEmbeddings();
        else
            goldens.CompareText(folder, prompt);
        return goldens._results;
    }

    private void CompareText(string folder, int[] prompt)
    {
        using SequenceState sequence = _model.NewSequence();
        using (var tap = new ActivationTap(_model.Network))
        {
            Forward(sequence, prompt);
            CompareLogits("logits", AllLogits(prompt.Length), _outputs.Floats("logits"));
            CompareHidden(tap, prompt.Length);
            string intermediates = Path.Combine(folder, "intermediates.safetensors");
            if (File.Exists(intermediates))
                CompareIntermediates(tap, intermediates);
            if (_outputs.Has("router_topk_weights"))
                CompareRouter(tap, prompt.Length);
        }

        CompareStates(Path.Combine(folder, "states_after_prompt.safetensors"), "after prompt", sequence);
        CompareGreedy(sequence);
        CompareStates(Path.Combine(folder, "states_after_greedy.safetensors"), "after greedy", sequence);
        CompareTokenByToken(prompt);
        CompareExtraPrompts(Path.Combine(folder, "extra_prompts.safetensors"));
    }

    // hidden_states_first[layers + 2, 16, hidden]: embedding, every layer's output, the final norm.
    private void CompareHidden(ActivationTap tap, int tokenCount)
    {
        if (!_outputs.Has("hidden_states_first"))
            return;
        float[] first = _outputs.Floats("hidden_states_first");
        float[] last = _outputs.Floats("hidden_states_last_token");
        int width = Config.HiddenSize, firstRows = (int)_outputs.Shape("hidden_states_first")[1];
        double worstFirst = 0, worstLast = 0;
        for (int i = 0; i < Config.LayerCount + 2; i++)
        {
            float[] rows = i == 0 ? tap.Get("layer_input", 0) : i <= Config.LayerCount ? tap.Get("layer_output", i - 1) : tap.Get("hidden", -1);
            worstFirst = Math.Max(worstFirst, Compare.RelativeL2(rows.AsSpan(0, firstRows * width), first.AsSpan(i * firstRows * width, firstRows * width)));
            worstLast = Math.Max(worstLast, Compare.RelativeL2(rows.AsSpan((tokenCount - 1) * width, width), last.AsSpan(i * width, width)));
        }

        Add("hidden states, first tokens, worst layer", worstFirst, _tolerance.HiddenRelativeL2);
        Add("hidden states, last token, worst layer", worstLast, _tolerance.HiddenRelativeL2);
    }

    private void CompareRouter(ActivationTap tap, int tokenCount)
    {
        float[] weights = _outputs.Floats("router_topk_weights");
        int perLayer = tokenCount * Config.ExpertsPerToken;
        double worst = 0;
        for (int layer = 0; layer < Config.LayerCount; layer++)
            worst = Math.Max(worst, Compare.MaxAbsolute(tap.Get("router_weights", layer).AsSpan(0, perLayer), weights.AsSpan(layer * perLayer, perLayer)));
        Add("router weights of the chosen experts", worst, _tolerance.LogitsMaxAbsolute);
    }

    private void CompareStates(string path, string when, SequenceState sequence)
    {
        if (!File.Exists(path) || Config.ValueHeadsInterleaved)
            return;
        using GoldenTensors states = GoldenTensors.Open(path);
        int linear = 0, attention = 0, taps = Config.ConvKernel - 1, channels = Config.ConvChannels;
        double recurrent = 0, window = 0, keys = 0, values = 0;
        for (int layer = 0; layer < Config.LayerCount; layer++)
        {
            if (!Config.FullAttentionLayers[layer])
            {
                recurrent = Math.Max(recurrent, Compare.RelativeL2(sequence.Recurrent(linear).Span, states.Floats($"layer{layer}.recurrent")));
                float[] reference = states.Floats($"layer{layer}.conv");
                int columns = reference.Length / channels;
                var ours = new float[taps * channels];
                var theirs = new float[taps * channels];
                for (int t = 0; t < taps; t++)
                {
                    for (int c = 0; c < channels; c++)
                        theirs[t * channels + c] = reference[c * columns + columns - taps + t];
                }

                sequence.Window(linear).Span.CopyTo(ours);
                window = Math.Max(window, Compare.RelativeL2(ours, theirs));
                linear++;
            }
            else
            {
                if (states.Has($"layer{layer}.k"))
                {
                    (float[] k, float[] v) = ReadCache(sequence, attention, (int)states.Shape($"layer{layer}.k")[1]);
                    keys = Math.Max(keys, Compare.RelativeL2(k, states.Floats($"layer{layer}.k")));
                    values = Math.Max(values, Compare.RelativeL2(v, states.Floats($"layer{layer}.v")));
                }

                attention++;
            }
        }

        Add($"recurrent states {when}", recurrent, _tolerance.StateRelativeL2);
        Add($"convolution windows {when}", window, _tolerance.StateRelativeL2);
        if (keys > 0)
        {
            Add($"keys {when}", keys, _tolerance.StateRelativeL2);
            Add($"values {when}", values, _tolerance.StateRelativeL2);
        }
    }

    // K and V of one cache layer as [kvHeads, tokens, headDim], the reference's order.
    private (float[] K, float[] V) ReadCache(SequenceState sequence, int cacheIndex, int tokenCount)
    {
        int heads = Config.KvHeads, dim = Config.HeadDim;
        using NativeBuffer buffer = NativeBuffer.AllocateFloats(2L * tokenCount * heads * dim);
        FloatView k = buffer.Floats(0, (long)tokenCount * heads * dim), v = buffer.Floats(k.Length, k.Length);
        KvCache.Read(_model.Pool.Shape, sequence.Blocks, cacheIndex, 0, tokenCount, k, v);
        return (HeadsFirst(k.Span, tokenCount, heads, dim), HeadsFirst(v.Span, tokenCount, heads, dim));
    }

    private static float[] HeadsFirst(ReadOnlySpan<float> rows, int tokenCount, int heads, int dim)
    {
        var result = new float[rows.Length];
        for (int t = 0; t < tokenCount; t++)
        {
            for (int h = 0; h < heads; h++)
                rows.Slice((t * heads + h) * dim, dim).CopyTo(result.AsSpan((h * tokenCount + t) * dim));
        }

        return result;
    }

    // Greedy decoding through the cached, recurrent path: row s is the logits after feeding greedy token s.
    private void CompareGreedy(SequenceState sequence)
    {
        int[] greedy = _outputs.Ids("greedy_tokens");
        float[] reference = _outputs.Floats("greedy_step_logits");
        int vocabulary = Config.VocabularySize, wrong = 0;
        int next = Compare.ArgMax(LastLogits());
        var steps = new float[reference.Length];
        for (int s = 0; s < greedy.Length; s++)
        {
            wrong += next == greedy[s] ? 0 : 1;
            Forward(sequence, [greedy[s]]);
            float[] logits = LastLogits();
            logits.CopyTo(steps.AsSpan(s * vocabulary));
            next = Compare.ArgMax(logits);
        }

        Add($"greedy tokens that differ, of {greedy.Length}", wrong, 0);
        CompareLogits("logits of greedy steps", steps, reference);
    }

    // The same prompt fed one token at a time: the recurrent step must agree with the chunked form.
    private void CompareTokenByToken(int[] prompt)
    {
        using SequenceState sequence = _model.NewSequence();
        float[] reference = _outputs.Floats("logits");
        var logits = new float[reference.Length];
        for (int t = 0; t < prompt.Length; t++)
        {
            Forward(sequence, [prompt[t]]);
            LastLogits().CopyTo(logits.AsSpan(t * Config.VocabularySize));
        }

        CompareLogits("logits, one token at a time", logits, reference);
    }

    private void CompareExtraPrompts(string path)
    {
        if (!File.Exists(path))
            return;
        using GoldenTensors extra = GoldenTensors.Open(path);
        double worst = 0;
        int count = 0;
        foreach (string name in extra.Names)
        {
            if (!name.EndsWith(".input_ids", StringComparison.Ordinal))
                continue;
            using SequenceState sequence = _model.NewSequence();
            Forward(sequence, extra.Ids(name));
            worst = Math.Max(worst, Compare.MaxAbsolute(LastLogits(), extra.Floats(name.Replace(".input_ids", ".logits_last", StringComparison.Ordinal))));
            count++;
        }

        Add($"last logits of {count} prompts of edge lengths", worst, _tolerance.LogitsMaxAbsolute);
    }

    private void Forward(SequenceState sequence, ReadOnlySpan<int> tokens)
    {
        var batch = new ForwardBatch(_model.Network.MaxRows);
        if (!sequence.TryReserve(sequence.TokenCount + tokens.Length))
            throw new InvalidOperationException("the KV pool of the verification is too small");
        batch.Add(sequence, tokens);
        _model.Network.Forward(batch);
        _rowCount = tokens.Length;
    }

    private int _rowCount;

    private float[] LastLogits() => Logits([_rowCount - 1], mtp: false);

    private float[] AllLogits(int rowCount) => Logits([.. Enumerable.Range(0, rowCount)], mtp: false);

    private float[] Logits(int[] rows, bool mtp)
    {
        using NativeBuffer buffer = NativeBuffer.AllocateFloats((long)rows.Length * Config.VocabularySize);
        if (mtp)
            _model.Network.MtpLogits(rows, buffer.AllFloats);
        else
            _model.Network.Logits(rows, buffer.AllFloats);
        return buffer.AllFloats.Span.ToArray();
    }

    private void CompareLogits(string quantity, ReadOnlySpan<float> ours, ReadOnlySpan<float> reference) =>
        Add(quantity, Compare.MaxAbsolute(ours, reference), _tolerance.LogitsMaxAbsolute);

    private void Add(string quantity, double value, double bound) =>
        _results.Add(new VerificationResult(_subject, quantity, value, bound, value <= bound, ""));
}
