namespace Qian.Inference.Formats;

// Which regular expression cuts text into the pieces that byte pairs are merged within.
internal enum PreTokenizer
{
    // Qwen3.5 and 3.6: combining marks count as letters.
    Qwen35,

    // Qwen2 to Qwen3: combining marks count as punctuation.
    Qwen2,
}
