using Qian.Inference;
using Qian.Kernels;

namespace Qian.Weights;

// Reads a text with two models side by side (or with one, beside saved predictions of the other) and scores every token of it. The
// passes run on the engines' own threads one after the other; the comparison of rows on all processors.
internal static class QualityRun
{
    // `progress` is told tokens done and in all.
    public static QualityReport Compare(QualityRequest request, Action<long, long>? progress, CancellationToken cancellation)
    {
        using LogitsFile.Reader? saved = request.ReferenceLogitsPath is { } path ? new LogitsFile.Reader(path) : null;
        int pieceTokens = saved?.Text.PieceTokens ?? request.PieceTokens;
        using PieceReader? reference = saved is null ? PieceReader.Load(request.ReferencePath!, request.ReferenceOptions, pieceTokens, cancellation) : null;
        using PieceReader candidate = PieceReader.Load(request.CandidatePath!, request.CandidateOptions, pieceTokens, cancellation, request.AdapterPath);
        TextPieces text = Text(request, saved, reference, candidate);
        CheckVocabulary(saved?.VocabularySize ?? reference!.VocabularySize, candidate.VocabularySize);

        var scores = new TokenScore[text.ScoredCount];
        double restMass = 0;
        var kept = new KeptPrediction[candidate.MostRows];
        for (int piece = 0; piece < text.Count; piece++)
        {
            cancellation.ThrowIfCancellationRequested();
            reference?.Read(text.Piece(piece));
            candidate.Read(text.Piece(piece));
            for (int done = 0; done < text.ScoredPerPiece; done += candidate.MostRows)
            {
                int count = Math.Min(candidate.MostRows, text.ScoredPerPiece - done);
                int first = text.FirstScored + done;
                for (int i = 0; saved is not null && i < count; i++)
                {
                    kept[i] = saved.Next();
                    restMass += kept[i].RestMass;
                }

                FloatView referenceLogits = reference?.Logits(first, count) ?? default;
                FloatView candidateLogits = candidate.Logits(first, count);
                int width = candidate.VocabularySize, score = piece * text.ScoredPerPiece + done, token = piece * text.Length + first + 1;
                Parallel.For(0, count, i =>
                {
                    ReadOnlySpan<float> row = candidateLogits.Slice((long)i * width, width).Span;
                    scores[score + i] = saved is not null
                        ? TokenComparison.Compare(kept[i], row, text.Tokens[token + i])
                        : TokenComparison.Compare(referenceLogits.Slice((long)i * width, width).Span, row, text.Tokens[token + i]);
                });
            }

            progress?.Invoke((piece + 1L) * text.Length, (long)text.Count * text.Length);
        }

        string referenceName = request.ReferencePath ?? saved!.ModelName;
        return QualityReport.From(referenceName, request, text, scores, restMass / scores.Length, candidate.Engine.Tokenizer);
    }

    // Saves what the reference predicts; returns its perplexity.
    public static Interval Save(QualityRequest request, Action<long, long>? progress, CancellationToken cancellation)
    {
        using PieceReader reference = PieceReader.Load(request.ReferencePath!, request.ReferenceOptions, request.PieceTokens, cancellation);
        TextPieces text = Text(request, null, reference, reference);
        using var writer = new LogitsFile.Writer(request.SaveLogitsPath!, text, reference.VocabularySize, Path.GetFileName(Path.TrimEndingDirectorySeparator(request.ReferencePath!)));
        var losses = new double[text.ScoredCount];
        var pieces = new int[text.ScoredCount];
        var kept = new KeptPrediction[reference.MostRows];
        for (int piece = 0; piece < text.Count; piece++)
        {
            cancellation.ThrowIfCancellationRequested();
            reference.Read(text.Piece(piece));
            for (int done = 0; done < text.ScoredPerPiece; done += reference.MostRows)
            {
                int count = Math.Min(reference.MostRows, text.ScoredPerPiece - done), first = text.FirstScored + done;
                FloatView logits = reference.Logits(first, count);
                int width = reference.VocabularySize, token = piece * text.Length + first + 1;
                Parallel.For(0, count, i => kept[i] = KeptPrediction.From(logits.Slice((long)i * width, width).Span, text.Tokens[token + i]));
                for (int i = 0; i < count; i++)
                {
                    writer.Add(kept[i]);
                    losses[piece * text.ScoredPerPiece + done + i] = -kept[i].TargetLogProb;
                    pieces[piece * text.ScoredPerPiece + done + i] = piece;
                }
            }

            progress?.Invoke((piece + 1L) * text.Length, (long)text.Count * text.Length);
        }

        writer.Complete();
        return Interval.Of(losses, pieces).Exp();
    }

    // The tokens of both must be the same, or the figures mean nothing.
    private static TextPieces Text(QualityRequest request, LogitsFile.Reader? saved, PieceReader? reference, PieceReader candidate)
    {
        if (request.TextPaths.Count == 0)
            return Array.TrueForAll(saved!.Text.Tokens, id => id < candidate.Engine.Tokenizer.VocabularySize && candidate.Engine.Tokenizer.IsDefined(id))
                ? saved.Text
                : throw new BadRequestException("the saved predictions hold tokens that the candidate's tokenizer does not define; they are of another model");
        int[] tokens = SampleText.Tokens(request.TextPaths, candidate.Engine);
        if (saved is not null)
        {
            return tokens.AsSpan().SequenceEqual(saved.Text.Tokens)
                ? saved.Text
                : throw new BadRequestException("the saved predictions are of another text, or of a model with another tokenizer; leave --text out to use theirs");
        }

        if (!ReferenceEquals(reference, candidate) && !tokens.AsSpan().SequenceEqual(SampleText.Tokens(request.TextPaths, reference!.Engine)))
            throw new BadRequestException("the two models cut the text into different tokens; they cannot be compared token by token");
        return new TextPieces(tokens, request.PieceTokens);
    }

    private static void CheckVocabulary(int reference, int candidate)
    {
        if (reference != candidate)
            throw new BadRequestException($"the reference has a vocabulary of {reference} tokens, the candidate one of {candidate}; they cannot be compared token by token");
    }
}
