using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Training.Model;

// A low-rank adapter: y = W x + scale · B (A x) on the chosen projections (Hu et al., 2021).
internal sealed record LoraOptions
{
    // Every projection of both kinds of mixer and of the MLP: what adapters that leave out the DeltaNet layers miss is 3 of 4 layers.
    public static IReadOnlyList<string> AllTargets { get; } =
        ["q_proj", "k_proj", "v_proj", "o_proj", "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj", "gate_proj", "up_proj", "down_proj"];

    public int Rank { get; init; } = 16;

    public double Alpha { get; init; } = 32;

    // alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski, 2023).
    public bool UseRsLora { get; init; }

    // Share of the adapter's inputs that is left out in training.
    public double Dropout { get; init; }

    // Module names as Hugging Face spells them.
    public IReadOnlyList<string> Targets { get; init; } = AllTargets;

    public ulong Seed { get; init; }

    public float Scale => (float)(UseRsLora ? Alpha / Math.Sqrt(Rank) : Alpha / Rank);

    public void Validate()
    {
        if (Rank is < 1 or > 1024)
            throw new BadRequestException($"LoRA rank {Rank}: expected 1 to 1024.");
        if (!(Alpha > 0) || !double.IsFinite(Alpha))
            throw new BadRequestException($"LoRA alpha {Alpha}: expected a positive number.");
        if (!(Dropout is >= 0 and < 1))
            throw new BadRequestException($"LoRA dropout {Dropout}: expected 0 to below 1.");
        if (Targets.Count == 0)
            throw new BadRequestException($"LoRA targets: expected some of {string.Join(", ", AllTargets)}.");
        foreach (string target in Targets)
        {
            if (!AllTargets.Contains(target))
                throw new BadRequestException($"LoRA target {FileText.Quote(target)}: expected one of {string.Join(", ", AllTargets)}.");
        }
    }

    // Experts share one tensor, which is no module that an adapter can name; the shared expert's projections are.
    public bool Covers(TensorRole role) => !TensorShapes.IsExpert(role) && Targets.Contains(ModuleName(role));

    // "q_proj" of "self_attn.q_proj.weight".
    private static string ModuleName(TensorRole role)
    {
        string[] parts = TensorNames.HuggingFaceSuffix(role).Split('.');
        return parts.Length < 2 ? "" : parts[^2];
    }
}
