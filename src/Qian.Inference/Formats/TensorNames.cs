namespace Qian.Inference.Formats;

// The spellings of every role. The only place that knows them.
internal static class TensorNames
{
    // What stands before the text model's own names in Hugging Face's files: of the multimodal class, of the text class, of others.
    public static string[] HuggingFacePrefixes { get; } = ["model.language_model.", "model.", "language_model.model.", "language_model.", ""];

    // Vision tensors are another part's business: recognised, and set aside.
    public static bool IsVision(string name) => name.StartsWith("model.visual.", StringComparison.Ordinal) || name.StartsWith("visual.", StringComparison.Ordinal)
        || name.StartsWith("v.", StringComparison.Ordinal) || name.StartsWith("mm.", StringComparison.Ordinal);

    // `layer` counts the MTP layer as one more block, as the format does.
    public static string Gguf(TensorRole role, int layer) => role switch
    {
        TensorRole.TokenEmbedding => "token_embd.weight",
        TensorRole.OutputNorm => "output_norm.weight",
        TensorRole.Output => "output.weight",
        _ => $"blk.{layer}.{GgufSuffix(role)}",
    };

    // Of the tensor that holds gate and up rows of all experts, which some converters write.
    public static string GgufFusedExperts(int layer) => $"blk.{layer}.ffn_gate_up_exps.weight";

    // After `layers.N.`, or after `mtp.` for the MTP roles; layer-less names after the model prefix.
    public static string HuggingFaceSuffix(TensorRole role) => role switch
    {
        TensorRole.TokenEmbedding => "embed_tokens.weight",
        TensorRole.OutputNorm => "norm.weight",
        TensorRole.Output => "lm_head.weight",
        TensorRole.InputNorm => "input_layernorm.weight",
        TensorRole.PostAttentionNorm => "post_attention_layernorm.weight",
        TensorRole.AttentionQ => "self_attn.q_proj.weight",
        TensorRole.AttentionK => "self_attn.k_proj.weight",
        TensorRole.AttentionV => "self_attn.v_proj.weight",
        TensorRole.AttentionOutput => "self_attn.o_proj.weight",
        TensorRole.AttentionQNorm => "self_attn.q_norm.weight",
        TensorRole.AttentionKNorm => "self_attn.k_norm.weight",
        TensorRole.LinearQkv => "linear_attn.in_proj_qkv.weight",
        TensorRole.LinearZ => "linear_attn.in_proj_z.weight",
        TensorRole.LinearB => "linear_attn.in_proj_b.weight",
        TensorRole.LinearA => "linear_attn.in_proj_a.weight",
        TensorRole.LinearConv => "linear_attn.conv1d.weight",
        TensorRole.LinearDecay => "linear_attn.A_log",
        TensorRole.LinearDtBias => "linear_attn.dt_bias",
        TensorRole.LinearNorm => "linear_attn.norm.weight",
        TensorRole.LinearOutput => "linear_attn.out_proj.weight",
        TensorRole.FfnGate => "mlp.gate_proj.weight",
        TensorRole.FfnUp => "mlp.up_proj.weight",
        TensorRole.FfnDown => "mlp.down_proj.weight",
        TensorRole.RouterGate => "mlp.gate.weight",
        TensorRole.ExpertGate or TensorRole.ExpertUp => "mlp.experts.gate_up_proj",
        TensorRole.ExpertDown => "mlp.experts.down_proj",
        TensorRole.SharedGate => "mlp.shared_expert.gate_proj.weight",
        TensorRole.SharedUp => "mlp.shared_expert.up_proj.weight",
        TensorRole.SharedDown => "mlp.shared_expert.down_proj.weight",
        TensorRole.SharedExpertGate => "mlp.shared_expert_gate.weight",
        TensorRole.MtpProjection => "fc.weight",
        TensorRole.MtpEmbeddingNorm => "pre_fc_norm_embedding.weight",
        TensorRole.MtpHiddenNorm => "pre_fc_norm_hidden.weight",
        TensorRole.MtpOutputNorm => "norm.weight",
        _ => throw new ArgumentOutOfRangeException(nameof(role), role, null),
    };

    // One expert in a tensor of its own, as FP8 files store them.
    public static string HuggingFaceExpertSuffix(TensorRole role, int expert) => role switch
    {
        TensorRole.ExpertGate => $"mlp.experts.{expert}.gate_proj.weight",
        TensorRole.ExpertUp => $"mlp.experts.{expert}.up_proj.weight",
        _ => $"mlp.experts.{expert}.down_proj.weight",
    };

    private static string GgufSuffix(TensorRole role) => role switch
    {
        TensorRole.InputNorm => "attn_norm.weight",
        TensorRole.PostAttentionNorm => "post_attention_norm.weight",
        TensorRole.AttentionQ => "attn_q.weight",
        TensorRole.AttentionK => "attn_k.weight",
        TensorRole.AttentionV => "attn_v.weight",
        TensorRole.AttentionOutput => "attn_output.weight",
        TensorRole.AttentionQNorm => "attn_q_norm.weight",
        TensorRole.AttentionKNorm => "attn_k_norm.weight",
        TensorRole.LinearQkv => "attn_qkv.weight",
        TensorRole.LinearZ => "attn_gate.weight",
        TensorRole.LinearB => "ssm_beta.weight",
        TensorRole.LinearA => "ssm_alpha.weight",
        TensorRole.LinearConv => "ssm_conv1d.weight",
        TensorRole.LinearDecay => "ssm_a",
        TensorRole.LinearDtBias => "ssm_dt.bias",
        TensorRole.LinearNorm => "ssm_norm.weight",
        TensorRole.LinearOutput => "ssm_out.weight",
        TensorRole.FfnGate => "ffn_gate.weight",
        TensorRole.FfnUp => "ffn_up.weight",
        TensorRole.FfnDown => "ffn_down.weight",
        TensorRole.RouterGate => "ffn_gate_inp.weight",
        TensorRole.ExpertGate => "ffn_gate_exps.weight",
        TensorRole.ExpertUp => "ffn_up_exps.weight",
        TensorRole.ExpertDown => "ffn_down_exps.weight",
        TensorRole.SharedGate => "ffn_gate_shexp.weight",
        TensorRole.SharedUp => "ffn_up_shexp.weight",
        TensorRole.SharedDown => "ffn_down_shexp.weight",
        TensorRole.SharedExpertGate => "ffn_gate_inp_shexp.weight",
        TensorRole.MtpProjection => "nextn.eh_proj.weight",
        TensorRole.MtpEmbeddingNorm => "nextn.enorm.weight",
        TensorRole.MtpHiddenNorm => "nextn.hnorm.weight",
        TensorRole.MtpOutputNorm => "nextn.shared_head_norm.weight",
        _ => throw new ArgumentOutOfRangeException(nameof(role), role, null),
    };
}
