using Qian.Kernels;

namespace Qian.Training.Model;

// One layer of the residual stream: x += mixer(norm(x)); x += mlp(norm(x)).
internal sealed class DecoderLayer
{
    public required VectorWeight InputNorm { get; init; }

    public required VectorWeight PostAttentionNorm { get; init; }

    public AttentionLayer? Attention { get; init; }   // exactly one of Attention and DeltaNet is set

    public DeltaNetLayer? DeltaNet { get; init; }

    public MlpLayer? Mlp { get; init; }               // exactly one of Mlp and Experts is set

    public ExpertLayer? Experts { get; init; }

    // The residual stream [T, hidden] in place; what came in is kept as the layer's input.
    public void Forward(FloatView residual, LayerActivations a, TrainingPass pass)
    {
        a.Input.CopyFrom(residual.Slice(0, (long)pass.RowCount * pass.Config.HiddenSize));
        Run(residual, a, pass);
    }

    // Once more from the kept input, for what the backward pass needs. `residual` is working memory.
    public void Repeat(FloatView residual, LayerActivations a, TrainingPass pass)
    {
        residual.CopyFrom(a.Input.Slice(0, (long)pass.RowCount * pass.Config.HiddenSize));
        Run(residual, a, pass);
    }

    // The gradient of the residual stream [T, hidden] in place: from that after the layer to that before it.
    public void Backward(FloatView dResidual, LayerActivations a, TrainingPass pass)
    {
        TrainingScratch s = pass.Scratch;
        LayerSections sections = a.Sections;
        int rows = pass.RowCount, hidden = pass.Config.HiddenSize;
        float epsilon = pass.Config.NormEpsilon;

        RmsNorm.Apply(sections.Middle, PostAttentionNorm.Value, epsilon, s.Normed, rows, hidden, pass.Team);
        if (Mlp is not null)
            Mlp.Backward(s.Normed, dResidual, s.DNormed, accumulate: false, rows, sections.Mlp!.Gate, sections.Mlp.Up, s.Mlp, pass);
        else
            Experts!.Backward(s.Normed, dResidual, s.DNormed, sections.Experts!, pass);
        RmsNorm.BackwardAdd(sections.Middle, PostAttentionNorm.Value, epsilon, s.DNormed, dResidual, PostAttentionNorm.Gradient, rows, hidden, pass.Team);

        RmsNorm.Apply(a.Input, InputNorm.Value, epsilon, s.Normed, rows, hidden, pass.Team);
        if (Attention is not null)
            Attention.Backward(s.Normed, dResidual, s.DNormed, sections.Attention!, pass);
        else
            DeltaNet!.Backward(s.Normed, dResidual, s.DNormed, sections.DeltaNet!, pass);
        RmsNorm.BackwardAdd(a.Input, InputNorm.Value, epsilon, s.DNormed, dResidual, InputNorm.Gradient, rows, hidden, pass.Team);
    }

    private void Run(FloatView residual, LayerActivations a, TrainingPass pass)
    {
        TrainingScratch s = pass.Scratch;
        LayerSections sections = a.Sections;
        int rows = pass.RowCount, hidden = pass.Config.HiddenSize;
        float epsilon = pass.Config.NormEpsilon;

        RmsNorm.Apply(residual, InputNorm.Value, epsilon, s.Normed, rows, hidden, pass.Team);
        if (Attention is not null)
            Attention.Forward(s.Normed, residual, sections.Attention!, pass);
        else
            DeltaNet!.Forward(s.Normed, residual, sections.DeltaNet!, pass);

        sections.Middle.CopyFrom(residual.Slice(0, (long)rows * hidden));
        RmsNorm.Apply(residual, PostAttentionNorm.Value, epsilon, s.Normed, rows, hidden, pass.Team);
        if (Mlp is not null)
            Mlp.Forward(s.Normed, residual, accumulate: true, rows, sections.Mlp!.Gate, sections.Mlp.Up, s.Mlp, pass);
        else
            Experts!.Forward(s.Normed, residual, sections.Experts!, pass);
    }
}
