namespace Qian.Inference.Runtime;

// How probable the tokens of a prompt are, each after those before it, taken from the passes that compute it. The first token
// has nothing before it and is not scored.
internal sealed class PromptScorer
{
    private readonly VocabularyMask _vocabulary;
    private readonly LogProbRecorder _recorder;
    private readonly List<GeneratedToken> _scores = [];

    public PromptScorer(VocabularyMask vocabulary, int topCount, SamplingScratch scratch)
    {
        _vocabulary = vocabulary;
        _recorder = new LogProbRecorder(vocabulary.VocabularySize, topCount, scratch);
    }

    public IReadOnlyList<GeneratedToken> Scores => _scores;

    // logits[vocabulary] of the place that `id` takes; changed in place.
    public void Score(Span<float> logits, int id)
    {
        _vocabulary.Apply(logits);
        _recorder.Record(logits);
        var alternatives = new TokenLogProbability[_recorder.Top.Length];
        for (int i = 0; i < alternatives.Length; i++)
            alternatives[i] = new TokenLogProbability(_recorder.Top[i].TokenId, _recorder.Top[i].LogProb);
        _scores.Add(new GeneratedToken(id, "", null, _recorder.LogProbOf(id), alternatives));
    }
}
