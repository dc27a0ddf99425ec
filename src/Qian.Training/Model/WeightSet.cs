using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Training.Model;

// Hands the chain its weights by role, trained or frozen as the kind of training wants, and owns their memory.
internal abstract class WeightSet : IDisposable
{
    private readonly List<VectorWeight> _vectors = [];

    public abstract ModelConfig Config { get; }

    // What is trained.
    public abstract ParameterStore Store { get; }

    // True when the MTP head is trained along.
    public abstract bool HasMtp { get; }

    // What frozen weights need of a pass, or null when there are none.
    public virtual AdapterSizes? AdapterSizes => null;

    public abstract EmbeddingTable Embedding();

    // [vocabulary, hidden]; the embedding itself when tied.
    public abstract LinearWeight Head();

    // The halves of mtp.fc: what the embedding goes through, then what the trunk's row does.
    public abstract (LinearWeight FromEmbedding, LinearWeight FromHidden) MtpProjection();

    public abstract LinearWeight Matrix(TensorRole role, int layer, int expert = -1);

    public VectorWeight Vector(TensorRole role, int layer)
    {
        VectorWeight vector = MakeVector(role, layer);
        _vectors.Add(vector);
        return vector;
    }

    // Before a pass, as parameters may have changed since the last one.
    public void Prepare()
    {
        foreach (VectorWeight vector in _vectors)
            vector.Prepare();
    }

    // After a backward pass.
    public void FoldGradients()
    {
        foreach (VectorWeight vector in _vectors)
            vector.FoldGradient();
    }

    // Writes what was trained as a folder that others read.
    public abstract void Save(string folder, SavedType type);

    public abstract void Dispose();

    protected abstract VectorWeight MakeVector(TensorRole role, int layer);
}

// How trained values are written.
internal enum SavedType
{
    AsSource,   // each tensor as the source stores it
    F32,        // exact
    BF16,       // rounded to nearest even; vectors that the source keeps in float32 stay so
}
