using Qian.Inference;
using Qian.Inference.Verification;
using Qian.Kernels;
using Qian.Training.Model;

namespace Qian.Training.Verification;

// The adapter half: lora.safetensors holds A and B of every target. Its tensors behind "grad." are left alone: they are the
// gradients of the last step of the run in info.json, not those at A and B (the scalar tier meets them there within 6e-4), and
// where AdamW's first steps turn a gradient's sign into a step, rounding decides how far a run has gone by then.
internal sealed partial class GradientGoldens
{
    private const string AdapterFile = "lora.safetensors", PeftPrefix = "base_model.model.";

    private void CompareAdapters()
    {
        string path = Path.Combine(_folder, AdapterFile);
        if (!File.Exists(path) || !_info.Has("lora"))
            return;
        var lora = new LoraOptions { Rank = (int)_info.Number("lora", "r"), Alpha = _info.Number("lora", "alpha"), Targets = _info.Texts("lora", "targets") };
        using TrainingModel model = TrainingModel.LowRank(_info.ModelFolder, lora, Options(), _team);
        using (GoldenTensors golden = GoldenTensors.Open(path))
        {
            foreach (Parameter parameter in model.Parameters)
            {
                float[] values = golden.Floats(BaseName(parameter));
                if (values.Length != parameter.Length)
                    throw new BadModelFileException($"{path}: {BaseName(parameter)}: expected {parameter.Length} values, found {values.Length}.");
                values.CopyTo(parameter.Value.Span);
            }
        }

        TrainingBatch batch = BatchOf("input_ids", firstLabel: 0);
        BatchLoss loss = model.ForwardBackward(batch, 1f / batch.TargetCount);
        Add("lora: loss", Math.Abs(loss.Mean - _info.Number("lora", "loss")), _info.Number("tolerance", "loss_abs"));
        double[] betas = _info.Numbers("lora", "adamw", "betas");
        var step = new AdamWStep(_info.Number("lora", "adamw", "lr"), betas[0], betas[1], _info.Number("lora", "adamw", "eps"), _info.Number("lora", "adamw", "weight_decay"), 1);
        Follow("lora", model, [batch], step, null, _info.Numbers("lora", "loss_before_each_step_then_final"), []);
    }

    private static string BaseName(Parameter parameter) => parameter.Name[PeftPrefix.Length..];
}
