using Qian.Kernels;

namespace Qian.Inference.Verification;

// Single operations at the real sizes: the delta rule in both forms, rotary at the 27B's geometry up to position 262,143,
// norms and the convolution. Bounds: the delta rule's reference is float64, float32 forms agree with each other to 2e-6 of
// its scale; rotary in float32 angles is off from exact by up to 4e-3 far out, so ours is held to the exact table.
internal static class OpGoldens
{
    public static List<VerificationResult> Run(string folder, string subject)
    {
        var results = new List<VerificationResult>();
        using var team = new ThreadTeam(1);
        DeltaRules(Path.Combine(folder, "gated_delta_rule.safetensors"), subject, results, team);
        Rope(Path.Combine(folder, "rope_real_geometry.safetensors"), subject, results, team);
        NormsAndConv(Path.Combine(folder, "norms_conv.safetensors"), subject, results, team);
        return results;
    }

    private static void DeltaRules(string path, string subject, List<VerificationResult> results, ThreadTeam team)
    {
        if (!File.Exists(path))
            return;
        using GoldenTensors golden = GoldenTensors.Open(path);
        foreach (string name in golden.Names)
        {
            if (!name.EndsWith(".q", StringComparison.Ordinal))
                continue;
            string prefix = name[..^2];
            long[] q = golden.Shape(name), v = golden.Shape($"{prefix}.v");
            var shape = new DeltaShape((int)q[1], (int)v[1], (int)q[2], (int)v[2], Interleaved: false);
            foreach (string start in (string[])["zero", "init"])
            {
                foreach (bool chunked in (bool[])[false, true])
                {
                    string form = chunked ? "chunked" : "step";
                    (double y, double state) = DeltaRule(golden, prefix, start, shape, (int)q[0], chunked, team);
                    results.Add(Result(subject, $"delta rule {prefix}, {start} state, {form}: output", y, 1e-5));
                    results.Add(Result(subject, $"delta rule {prefix}, {start} state, {form}: state", state, 1e-5));
                }
            }
        }
    }

    // Relative L2 of output and final state.
    private static (double Output, double State) DeltaRule(GoldenTensors golden, string prefix, string start, DeltaShape shape, int rows, bool chunked, ThreadTeam team)
    {
        float[] q = golden.Floats($"{prefix}.q"), k = golden.Floats($"{prefix}.k"), v = golden.Floats($"{prefix}.v");
        int keyWidth = shape.KeyHeads * shape.KeyDim, valueWidth = shape.ValueHeads * shape.ValueDim, width = 2 * keyWidth + valueWidth;
        using NativeBuffer qkv = NativeBuffer.AllocateFloats((long)rows * width);
        for (int t = 0; t < rows; t++)
        {
            Span<float> row = qkv.Floats((long)t * width, width).Span;
            q.AsSpan(t * keyWidth, keyWidth).CopyTo(row);
            k.AsSpan(t * keyWidth, keyWidth).CopyTo(row[keyWidth..]);
            v.AsSpan(t * valueWidth, valueWidth).CopyTo(row[(2 * keyWidth)..]);
        }

        L2Norm.Apply(qkv.AllFloats, width, 0, rows, shape.KeyHeads, shape.KeyDim, 1e-6f, 1f / MathF.Sqrt(shape.KeyDim), team);
        L2Norm.Apply(qkv.AllFloats, width, keyWidth, rows, shape.KeyHeads, shape.KeyDim, 1e-6f, 1f, team);
        float[] finalState = golden.Floats($"{prefix}.{start}.state");
        using NativeBuffer g = Copy(golden.Floats($"{prefix}.g")), beta = Copy(golden.Floats($"{prefix}.beta"));
        using NativeBuffer state = start == "init" ? Copy(golden.Floats($"{prefix}.initial_state")) : NativeBuffer.AllocateFloats(finalState.Length);
        using NativeBuffer y = NativeBuffer.AllocateFloats((long)rows * valueWidth);
        if (chunked)
        {
            using var scratch = new DeltaScratch(shape, team.ThreadCount);
            Qian.Kernels.DeltaRule.Chunk(shape, qkv.AllFloats, g.AllFloats, beta.AllFloats, state.AllFloats, y.AllFloats, rows, team, scratch);
        }
        else
        {
            Qian.Kernels.DeltaRule.Step(shape, qkv.AllFloats, g.AllFloats, beta.AllFloats, state.AllFloats, y.AllFloats, rows, team);
        }

        return (Compare.RelativeL2(y.AllFloats.Span, golden.Floats($"{prefix}.{start}.out")), Compare.RelativeL2(state.AllFloats.Span, finalState));
    }

    private static void Rope(string path, string subject, List<VerificationResult> results, ThreadTeam team)
    {
        if (!File.Exists(path))
            return;
        using GoldenTensors golden = GoldenTensors.Open(path);
        int rotary = (int)golden.Shape("text.cos_f64")[1], half = rotary / 2;
        var table = new RopeTable(rotary, 1e7, [11, 11, 10]);
        int[] text = golden.Ids("positions"), multi = golden.Ids("mrope_positions");
        int[] repeated = [.. text, .. text, .. text];
        foreach ((string name, int[] positions) in ((string, int[])[])[("text", repeated), ("mrope", multi)])
        {
            int rows = positions.Length / 3;
            using NativeBuffer cosSin = NativeBuffer.AllocateFloats((long)rows * rotary);
            table.Fill(positions, rows, cosSin.AllFloats);
            float[] cos = golden.Floats($"{name}.cos_f64"), sin = golden.Floats($"{name}.sin_f64");
            double worst = 0;
            for (int t = 0; t < rows; t++)
            {
                ReadOnlySpan<float> row = cosSin.Floats((long)t * rotary, rotary).Span;
                worst = Math.Max(worst, Compare.MaxAbsolute(row[..half], cos.AsSpan(t * rotary, half)));
                worst = Math.Max(worst, Compare.MaxAbsolute(row[half..], sin.AsSpan(t * rotary, half)));
            }

            results.Add(Result(subject, $"rotary table, {name}, against exact angles", worst, 1e-6));
        }
    }

    private static void NormsAndConv(string path, string subject, List<VerificationResult> results, ThreadTeam team)
    {
        if (!File.Exists(path))
            return;
        using GoldenTensors golden = GoldenTensors.Open(path);
        long[] shape = golden.Shape("rmsnorm.x");
        float[] weight = golden.Floats("rmsnorm.weight");
        for (int i = 0; i < weight.Length; i++)
            weight[i] += 1; // the golden's weight is the zero-centred one
        using NativeBuffer x = Copy(golden.Floats("rmsnorm.x")), w = Copy(weight), y = NativeBuffer.AllocateFloats(shape[0] * shape[1]);
        RmsNorm.Apply(x.AllFloats, w.AllFloats, 1e-6f, y.AllFloats, (int)shape[0], (int)shape[1], team);
        results.Add(Result(subject, "zero-centred RMS norm", Compare.RelativeL2(y.AllFloats.Span, golden.Floats("rmsnorm.out")), 1e-6));

        shape = golden.Shape("gated.x");
        using NativeBuffer o = Copy(golden.Floats("gated.x")), z = Copy(golden.Floats("gated.gate")), gw = Copy(golden.Floats("gated.weight")), gy = NativeBuffer.AllocateFloats(shape[0] * shape[1]);
        GatedNorm.Apply(o.AllFloats, z.AllFloats, gw.AllFloats, 1e-6f, gy.AllFloats, (int)shape[0], 1, (int)shape[1], team);
        results.Add(Result(subject, "gated RMS norm", Compare.RelativeL2(gy.AllFloats.Span, golden.Floats("gated.out")), 1e-6));

        shape = golden.Shape("l2norm.x");
        using NativeBuffer l = Copy(golden.Floats("l2norm.x"));
        L2Norm.Apply(l.AllFloats, (int)shape[1], 0, (int)shape[0], 1, (int)shape[1], 1e-6f, 1f, team);
        results.Add(Result(subject, "L2 norm", Compare.RelativeL2(l.AllFloats.Span, golden.Floats("l2norm.out")), 1e-6));
        Convolution(golden, subject, results, team);
    }

    // The golden holds channels first; rows of ours are tokens.
    private static void Convolution(GoldenTensors golden, string subject, List<VerificationResult> results, ThreadTeam team)
    {
        long[] shape = golden.Shape("conv.x");
        int channels = (int)shape[0], rows = (int)shape[1], kernel = (int)golden.Shape("conv.weight")[1];
        using NativeBuffer u = Copy(Transpose(golden.Floats("conv.x"), channels, rows)), weight = Copy(golden.Floats("conv.weight"));
        using NativeBuffer window = NativeBuffer.AllocateFloats((long)(kernel - 1) * channels), y = NativeBuffer.AllocateFloats((long)rows * channels);
        ConvSilu.Apply(u.AllFloats, weight.AllFloats, window.AllFloats, y.AllFloats, rows, channels, kernel, team);
        float[] expected = Transpose(golden.Floats("conv.out_zero_history_silu"), channels, rows);
        results.Add(Result(subject, "causal convolution + SiLU", Compare.RelativeL2(y.AllFloats.Span, expected), 1e-6));

        // One step from a given history; the golden keeps four columns, of which the oldest no longer matters.
        float[] history = Transpose(golden.Floats("conv.state_in"), channels, kernel);
        history.AsSpan(channels).CopyTo(window.AllFloats.Span);
        float[] after = Transpose(golden.Floats("conv.update_step0_state"), channels, kernel);
        using NativeBuffer step = Copy(after.AsSpan((kernel - 1) * channels).ToArray());
        ConvSilu.Apply(step.AllFloats, weight.AllFloats, window.AllFloats, y.AllFloats, 1, channels, kernel, team);
        results.Add(Result(subject, "single-step convolution", Compare.RelativeL2(y.Floats(0, channels).Span, golden.Floats("conv.update_step0_out")), 1e-6));
        results.Add(Result(subject, "convolution window after the step", Compare.RelativeL2(window.AllFloats.Span, after.AsSpan(channels)), 0));
    }

    private static float[] Transpose(float[] values, int rows, int columns)
    {
        var result = new float[values.Length];
        for (int r = 0; r < rows; r++)
        {
            for (int c = 0; c < columns; c++)
                result[c * rows + r] = values[r * columns + c];
        }

        return result;
    }

    private static NativeBuffer Copy(float[] values)
    {
        NativeBuffer buffer = NativeBuffer.AllocateFloats(values.Length);
        values.CopyTo(buffer.AllFloats.Span);
        return buffer;
    }

    private static VerificationResult Result(string subject, string quantity, double value, double bound) => new(subject, quantity, value, bound, value <= bound, "");
}
