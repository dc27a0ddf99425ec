namespace Qian.Inference;

/// <summary>What a conversation is for; picks the sampling preset that the checkpoint's model card advises.</summary>
internal enum SamplingMode
{
    /// <summary>Thinks before it answers; general use.</summary>
    Thinking,

    /// <summary>Thinks before it answers; precise coding.</summary>
    ThinkingCoding,

    /// <summary>Answers at once.</summary>
    NonThinking,
}
