using System.Globalization;

namespace Qian.Inference.Formats;

// Which projections an adapter may name, and how the two formats spell them: the base's own names, seen as modules by PEFT
// (without .weight, behind the model class's prefix) and as tensors by GGUF.
internal static class AdapterNames
{
    // The layer of an entry that names the MTP head without saying how many layers the trunk has.
    public const int MtpLayer = int.MaxValue;

    // Linear modules, and only those: routed experts share one parameter, embeddings and norms are none.
    public static TensorRole[] Roles { get; } =
    [
        TensorRole.AttentionQ, TensorRole.AttentionK, TensorRole.AttentionV, TensorRole.AttentionOutput,
        TensorRole.LinearQkv, TensorRole.LinearZ, TensorRole.LinearB, TensorRole.LinearA, TensorRole.LinearOutput,
        TensorRole.FfnGate, TensorRole.FfnUp, TensorRole.FfnDown,
        TensorRole.RouterGate, TensorRole.SharedGate, TensorRole.SharedUp, TensorRole.SharedDown, TensorRole.SharedExpertGate,
        TensorRole.MtpProjection, TensorRole.Output,
    ];

    // "self_attn.q_proj", "fc", "lm_head".
    public static string ModuleSuffix(TensorRole role) => TensorNames.HuggingFaceSuffix(role)[..^".weight".Length];

    // "model.language_model.layers.3.self_attn.q_proj". The head stands beside the text model, the MTP block at the top.
    public static string Module(ModelConfig config, string prefix, TensorRole role, int layer) => role switch
    {
        TensorRole.Output => ModuleSuffix(role),
        TensorRole.MtpProjection => "mtp." + ModuleSuffix(role),
        _ => layer == config.LayerCount ? $"mtp.layers.0.{ModuleSuffix(role)}" : $"{prefix}layers.{layer}.{ModuleSuffix(role)}",
    };

    // What lists of target modules call the role: the last name where it says enough.
    public static string ShortModule(TensorRole role) => role switch
    {
        TensorRole.RouterGate => ModuleSuffix(role),
        TensorRole.SharedGate or TensorRole.SharedUp or TensorRole.SharedDown => ModuleSuffix(role)["mlp.".Length..],
        TensorRole.MtpProjection => "mtp." + ModuleSuffix(role),
        _ => ModuleSuffix(role)[(ModuleSuffix(role).LastIndexOf('.') + 1)..],
    };

    public static bool TryParseModule(string module, out TensorRole role, out int layer)
    {
        foreach (string prefix in TensorNames.HuggingFacePrefixes)
        {
            if (!module.StartsWith(prefix, StringComparison.Ordinal))
                continue;
            ReadOnlySpan<char> rest = module.AsSpan(prefix.Length);
            layer = -1;
            if (TryRole(rest, out role) && role == TensorRole.Output)
                return true;
            bool isMtp = rest.StartsWith("mtp.", StringComparison.Ordinal);
            rest = isMtp ? rest["mtp.".Length..] : rest;
            layer = MtpLayer;
            if (isMtp && TryRole(rest, out role) && role == TensorRole.MtpProjection)
                return true;
            if (!rest.StartsWith("layers.", StringComparison.Ordinal) || !TryNumber(rest["layers.".Length..], out int number, out ReadOnlySpan<char> suffix) || (isMtp && number != 0))
                continue;
            layer = isMtp ? MtpLayer : number;
            if (TryRole(suffix, out role) && !TensorShapes.IsLayerless(role) && !TensorShapes.IsMtp(role))
                return true;
        }

        (role, layer) = (default, -1);
        return false;
    }

    // "blk.3.attn_q.weight"; the MTP block counts as one more.
    public static bool TryParseGguf(string tensor, out TensorRole role, out int layer)
    {
        layer = -1;
        ReadOnlySpan<char> rest = tensor;
        if (rest.StartsWith("blk.", StringComparison.Ordinal) && !TryNumber(rest["blk.".Length..], out layer, out _))
            layer = -1;
        foreach (TensorRole known in Roles)
        {
            if (TensorShapes.IsLayerless(known) == (layer < 0) && TensorNames.Gguf(known, layer) == tensor)
            {
                role = known;
                return true;
            }
        }

        role = default;
        return false;
    }

    // Why a name that is no target is none, as the end of an error.
    public static string Refusal(string name)
    {
        if (name.Contains("embed_tokens", StringComparison.Ordinal) || name.Contains("token_embd", StringComparison.Ordinal) || name.Contains("lora_embedding", StringComparison.Ordinal))
            return "adapters of the embedding are not supported; train one on the linear projections";
        if (name.Contains("mlp.experts", StringComparison.Ordinal) || name.Contains("_exps", StringComparison.Ordinal))
            return "adapters of the routed experts are not supported; the shared expert's projections are";
        if (name.Contains("lora_magnitude", StringComparison.Ordinal))
            return "DoRA is not supported; merge the adapter into the model where it was trained";
        if (name.Contains("modules_to_save", StringComparison.Ordinal))
            return "whole modules beside the adapter (modules_to_save) are not supported";
        if (name.EndsWith(".bias", StringComparison.Ordinal))
            return "trained biases are not supported";
        return "this is no linear projection of the family (self_attn.q_proj, linear_attn.in_proj_qkv, mlp.gate_proj, …)";
    }

    private static bool TryRole(ReadOnlySpan<char> suffix, out TensorRole role)
    {
        foreach (TensorRole known in Roles)
        {
            if (!suffix.SequenceEqual(ModuleSuffix(known)))
                continue;
            role = known;
            return true;
        }

        role = default;
        return false;
    }

    // "12.rest"
    private static bool TryNumber(ReadOnlySpan<char> text, out int number, out ReadOnlySpan<char> rest)
    {
        int dot = text.IndexOf('.');
        rest = dot < 0 ? default : text[(dot + 1)..];
        number = 0;
        return dot > 0 && (dot == 1 || text[0] != '0') && int.TryParse(text[..dot], NumberStyles.None, CultureInfo.InvariantCulture, out number) && number < ModelConfigChecks.MostLayers;
    }
}
