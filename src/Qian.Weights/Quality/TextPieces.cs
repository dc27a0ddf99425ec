using Qian.Inference;

namespace Qian.Weights;

// A text cut into pieces of equal length that are read independently. Only the second half of a piece is scored: before that a
// model knows too little of the text for its guesses to tell models apart (and so the figures compare with llama.cpp's).
internal sealed class TextPieces
{
    public const int FewestTokens = 4;

    public TextPieces(int[] tokens, int pieceTokens)
    {
        if (tokens.Length < FewestTokens)
            throw new BadRequestException($"the text has {tokens.Length} tokens; {FewestTokens} or more are needed");
        Tokens = tokens;
        PieceTokens = pieceTokens;
        // A text shorter than one piece is a piece; what is left after the last whole one is not read.
        Length = Math.Min(pieceTokens, tokens.Length);
        Count = tokens.Length / Length;
    }

    public int[] Tokens { get; }

    // As asked for.
    public int PieceTokens { get; }

    // As it turned out.
    public int Length { get; }

    public int Count { get; }

    // Rows FirstScored … Length - 2 of a piece predict the token after them.
    public int FirstScored => Length / 2;

    public int ScoredPerPiece => Length - 1 - FirstScored;

    public int ScoredCount => Count * ScoredPerPiece;

    public ReadOnlySpan<int> Piece(int index) => Tokens.AsSpan(index * Length, Length);
}
