using Qian.Kernels;

namespace Qian.Training.Model;

// The rows that tokens enter the network as: trained floats, or a frozen matrix of any type.
internal sealed class EmbeddingTable
{
    private readonly FloatView _value, _gradient;
    private readonly WeightMatrix? _frozen;

    public EmbeddingTable(FloatView value, FloatView gradient) => (_value, _gradient) = (value, gradient);

    public EmbeddingTable(WeightMatrix frozen) => _frozen = frozen;

    // y [ids, hidden]
    public void Gather(ReadOnlySpan<int> tokenIds, FloatView y, TrainingPass pass)
    {
        if (_frozen is null)
            Rows.Gather(_value, pass.Config.HiddenSize, tokenIds, y);
        else
            Embedding.Gather(_frozen, tokenIds, y, pass.Team);
    }

    public void AddGradient(ReadOnlySpan<int> tokenIds, FloatView dy, TrainingPass pass)
    {
        if (_frozen is null)
            Embedding.ScatterAdd(tokenIds, dy, _gradient, pass.Config.HiddenSize, pass.Config.VocabularySize, pass.Team);
    }
}
