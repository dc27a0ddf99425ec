using Qian.Inference;
using Qian.Inference.Text;

namespace Qian.Weights;

// The figures of a comparison. Divergences are in nats per token, agreements are shares, differences are candidate minus reference.
internal sealed record QualityReport
{
    private const int WorstCount = 10;
    private const int ContextTokens = 24;

    public required string ReferenceName { get; init; }

    public required string CandidateName { get; init; }

    public required string KvType { get; init; }

    // Whose arithmetic was float32 throughout: none, reference or both.
    public required string Exact { get; init; }

    public required int PieceCount { get; init; }

    public required int PieceTokens { get; init; }

    public required int ScoredCount { get; init; }

    public required Interval ReferencePerplexity { get; init; }

    public required Interval CandidatePerplexity { get; init; }

    // Paired: per token, then averaged; far narrower than the two intervals above.
    public required Interval LogLikelihoodDifference { get; init; }

    // exp of minus the above: perplexity of the candidate over that of the reference.
    public required Interval PerplexityRatio { get; init; }

    public required Interval Divergence { get; init; }

    public required IReadOnlyList<(double Percent, double Value)> DivergencePercentiles { get; init; }

    // The favourite is the same; and the share of the reference's five favourites that are among the candidate's.
    public required Interval TopAgreement { get; init; }

    public required Interval TopFiveAgreement { get; init; }

    // Root of the mean square of the difference in probability of the token that came.
    public required double ProbabilityRms { get; init; }

    // Mean probability that the saved reference holds as one number; 0 when both models ran.
    public required double RestMass { get; init; }

    public required IReadOnlyList<WorstToken> Worst { get; init; }

    // For charts.
    public required IReadOnlyList<TokenScore> Scores { get; init; }

    public static QualityReport From(string referenceName, QualityRequest request, TextPieces text, TokenScore[] scores, double restMass, Tokenizer tokenizer)
    {
        var pieces = new int[scores.Length];
        for (int i = 0; i < pieces.Length; i++)
            pieces[i] = i / text.ScoredPerPiece;
        Interval referenceLoss = Mean(scores, pieces, score => -score.ReferenceLogProb);
        Interval candidateLoss = Mean(scores, pieces, score => -score.CandidateLogProb);
        Interval lossDifference = Mean(scores, pieces, score => score.ReferenceLogProb - score.CandidateLogProb);
        double[] divergences = [.. scores.Select(score => score.Divergence).Order()];
        return new QualityReport
        {
            ReferenceName = referenceName,
            CandidateName = request.CandidatePath!,
            KvType = request.KvType.ToString().ToLowerInvariant(),
            Exact = request.Exact ? "both" : request.ExactReference ? "reference" : "none",
            PieceCount = text.Count,
            PieceTokens = text.Length,
            ScoredCount = scores.Length,
            ReferencePerplexity = referenceLoss.Exp(),
            CandidatePerplexity = candidateLoss.Exp(),
            LogLikelihoodDifference = new Interval(-lossDifference.Mean, -lossDifference.High, -lossDifference.Low),
            PerplexityRatio = lossDifference.Exp(),
            Divergence = Mean(scores, pieces, score => score.Divergence),
            DivergencePercentiles = [.. new[] { 50, 90, 95, 99, 99.9, 100 }.Select(percent => (percent, Interval.Percentile(divergences, percent)))],
            TopAgreement = Mean(scores, pieces, score => score.ReferenceTop == score.CandidateTop ? 1 : 0),
            TopFiveAgreement = Mean(scores, pieces, score => score.SharedOfTopFive / (double)TokenComparison.TopCount),
            ProbabilityRms = Math.Sqrt(scores.Average(score => score.ProbabilityDifference * score.ProbabilityDifference)),
            RestMass = restMass,
            Worst = [.. Enumerable.Range(0, scores.Length).OrderByDescending(i => scores[i].Divergence).Take(WorstCount).Where(i => scores[i].Divergence > 0).Select(i => Describe(i, text, scores[i], tokenizer))],
            Scores = scores,
        };
    }

    private static Interval Mean(TokenScore[] scores, int[] pieces, Func<TokenScore, double> figure)
    {
        var values = new double[scores.Length];
        for (int i = 0; i < values.Length; i++)
            values[i] = figure(scores[i]);
        return Interval.Of(values, pieces);
    }

    private static WorstToken Describe(int index, TextPieces text, TokenScore score, Tokenizer tokenizer)
    {
        int inPiece = text.FirstScored + index % text.ScoredPerPiece + 1;
        int token = index / text.ScoredPerPiece * text.Length + inPiece;
        int contextCount = Math.Min(ContextTokens, inPiece);
        return new WorstToken(
            token, tokenizer.Decode(text.Tokens.AsSpan(token - contextCount, contextCount)), Spell(text.Tokens[token]), score.Divergence,
            Math.Exp(score.ReferenceLogProb), Math.Exp(score.CandidateLogProb),
            Spell(score.ReferenceTop), Math.Exp(score.ReferenceTopLogProb), Spell(score.CandidateTop), Math.Exp(score.CandidateTopLogProb));

        // Rows of a vocabulary that are no tokens have no text.
        string Spell(int id) => id < tokenizer.VocabularySize && tokenizer.IsDefined(id) ? tokenizer.Decode([id]) : $"#{id}";
    }
}

// Where the two models differ most: the text before, the token that came, what each would have said.
internal sealed record WorstToken(
    int TokenIndex, string Context, string Token, double Divergence, double ReferenceProbability, double CandidateProbability,
    string ReferenceTop, double ReferenceTopProbability, string CandidateTop, double CandidateTopProbability);
