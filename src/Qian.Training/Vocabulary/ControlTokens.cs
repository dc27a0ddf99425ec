using Qian.Inference.Formats;

namespace Qian.Training.Vocabulary;

// The added tokens of the family, in the family's order, as tokenizer.json lists them (Qwen3.5, without the audio tokens that only
// tokenizer_config.json adds). Those that are not special are part of what the model says, and stay when special ones are skipped.
internal static class ControlTokens
{
    public static readonly IReadOnlyList<(string Text, bool IsSpecial)> All =
    [
        ("<|endoftext|>", true),
        ("<|im_start|>", true),
        ("<|im_end|>", true),
        ("<|object_ref_start|>", true),
        ("<|object_ref_end|>", true),
        ("<|box_start|>", true),
        ("<|box_end|>", true),
        ("<|quad_start|>", true),
        ("<|quad_end|>", true),
        ("<|vision_start|>", true),
        ("<|vision_end|>", true),
        ("<|vision_pad|>", true),
        ("<|image_pad|>", true),
        ("<|video_pad|>", true),
        ("<tool_call>", false),
        ("</tool_call>", false),
        ("<|fim_prefix|>", false),
        ("<|fim_middle|>", false),
        ("<|fim_suffix|>", false),
        ("<|fim_pad|>", false),
        ("<|repo_name|>", false),
        ("<|file_sep|>", false),
        ("<tool_response>", false),
        ("</tool_response>", false),
        ("<think>", false),
        ("</think>", false),
    ];

    // With ids from firstId on.
    public static AddedToken[] From(int firstId)
    {
        var tokens = new AddedToken[All.Count];
        for (int i = 0; i < tokens.Length; i++)
            tokens[i] = new AddedToken(firstId + i, All[i].Text, All[i].IsSpecial);
        return tokens;
    }
}
