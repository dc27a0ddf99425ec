namespace Qian.Weights;

// What two models said about one token of the text: natural logarithms of the probability of the token that came, the divergence
// KL(reference ‖ candidate) of their whole predictions in nats, and how their favourites agree.
internal readonly record struct TokenScore(
    double ReferenceLogProb, double CandidateLogProb, double Divergence, int ReferenceTop, double ReferenceTopLogProb, int CandidateTop, double CandidateTopLogProb, int SharedOfTopFive)
{
    public double ProbabilityDifference => Math.Exp(CandidateLogProb) - Math.Exp(ReferenceLogProb);
}
