namespace Qian.Inference;

/// <summary>Why tokens of a prompt had to be read although a text like it was known.</summary>
public enum PrefixMissReason
{
    /// <summary>Nothing had to be read again: only what follows everything known was new.</summary>
    None,

    /// <summary>The prefix store is switched off.</summary>
    Off,

    /// <summary>No known text begins like this one.</summary>
    Unknown,

    /// <summary>The text differs from the known one that is most like it, from a place in its middle on.</summary>
    Diverged,

    /// <summary>The text is known further than a state of it is kept: none was made there, or it made room for others.</summary>
    Evicted,
}

/// <summary>What of a prompt was known, and where it left what was known.</summary>
/// <param name="CachedCount">Tokens whose state was there already.</param>
/// <param name="Reason">Why it was not more.</param>
/// <param name="TokenIndex">The first token that differs from the known text (<see cref="PrefixMissReason.Diverged"/>), or the end of what is known.</param>
/// <param name="Around">The prompt's text around that place; empty without a tokenizer or a miss.</param>
/// <param name="VolatileLine">Names the line that changes from request to request, such as a date or a billing header, when the text diverged in one; null otherwise.</param>
public sealed record PrefixUse(int CachedCount, PrefixMissReason Reason, int TokenIndex, string Around = "", string? VolatileLine = null)
{
    internal static PrefixUse Nothing { get; } = new(0, PrefixMissReason.Unknown, 0);
}
