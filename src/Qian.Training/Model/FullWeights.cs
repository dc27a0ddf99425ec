using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Training.Model;

// Every weight of a Hugging Face folder as a parameter, in float32. Shapes and names are checked by the checkpoint reader;
// values are read raw, in the file's own convention. The folder stays open: what is not trained (a vision tower, an MTP head
// that is left alone) is copied from it when the model is saved.
internal sealed class FullWeights : WeightSet
{
    private readonly HuggingFaceCheckpoint _checkpoint;
    private readonly SafetensorsSet _source;
    private readonly Dictionary<string, Parameter> _byName = new(StringComparer.Ordinal);
    private readonly FloatArena _vectors;

    // Takes the checkpoint over, also when reading fails.
    public FullWeights(HuggingFaceCheckpoint checkpoint, bool mtp)
    {
        _checkpoint = checkpoint;
        SafetensorsSet? source = null;
        ParameterStore? store = null;
        try
        {
            HasMtp = mtp && checkpoint.Config.MtpLayerCount > 0;
            _source = source = SafetensorsSet.OpenFolder(checkpoint.Path);
            Declare();
            Store = store = new ParameterStore(_byName.Values);
            foreach (Parameter parameter in Store.Parameters)
                Read(_source.Find(parameter.Name)!, parameter);
            long vectorFloats = 0;
            foreach (Parameter parameter in Store.Parameters)
                vectorFloats += parameter.IsMatrix ? 0 : 2 * (parameter.Length + 16);
            _vectors = FloatArena.Allocate(vectorFloats);
        }
        catch
        {
            store?.Dispose();
            source?.Dispose();
            checkpoint.Dispose();
            throw;
        }
    }

    public override ModelConfig Config => _checkpoint.Config;

    public override ParameterStore Store { get; }

    public override bool HasMtp { get; }

    public override EmbeddingTable Embedding()
    {
        Parameter table = ParameterOf(TensorRole.TokenEmbedding, -1, -1);
        return new EmbeddingTable(table.Value, table.Gradient);
    }

    public override LinearWeight Head() => Matrix(Config.TiedEmbeddings ? TensorRole.TokenEmbedding : TensorRole.Output, -1);

    public override (LinearWeight FromEmbedding, LinearWeight FromHidden) MtpProjection()
    {
        Parameter fc = ParameterOf(TensorRole.MtpProjection, Config.LayerCount, -1);
        return (Half(0), Half(Config.HiddenSize));

        LinearWeight Half(int firstColumn) =>
            new DenseWeight(fc.Value.Slice(firstColumn), fc.Gradient.Slice(firstColumn), fc.Rows, Config.HiddenSize, fc.Columns);
    }

    public override LinearWeight Matrix(TensorRole role, int layer, int expert = -1)
    {
        Parameter parameter = ParameterOf(role, layer, expert);
        (int rows, int columns) = TensorShapes.Of(Config, role);
        long first = (long)FirstRow(parameter, role, rows, expert) * columns, count = (long)rows * columns;
        return new DenseWeight(parameter.Value.Slice(first, count), parameter.Gradient.Slice(first, count), rows, columns, columns);
    }

    public override void Save(string folder, SavedType type) => HuggingFaceFolder.Save(_checkpoint.Path, _source, _byName, folder, type);

    public override void Dispose()
    {
        Store.Dispose();
        _vectors.Dispose();
        _source.Dispose();
        _checkpoint.Dispose();
    }

    protected override VectorWeight MakeVector(TensorRole role, int layer)
    {
        Parameter parameter = ParameterOf(role, layer, -1);
        VectorForm form = TensorShapes.IsZeroCentredNorm(role) ? VectorForm.OnePlus : role == TensorRole.LinearDecay ? VectorForm.NegativeExp : VectorForm.Plain;
        return new VectorWeight(
            parameter.Value, parameter.Gradient, form,
            form == VectorForm.Plain ? default : _vectors.Take(parameter.Length),
            form == VectorForm.NegativeExp ? _vectors.Take(parameter.Length) : default);
    }

    // All experts may lie in one tensor, the gate rows of each before its up rows; else every expert has tensors of its own.
    private static int FirstRow(Parameter parameter, TensorRole role, int rows, int expert)
    {
        if (!TensorShapes.IsExpert(role) || parameter.Rows == rows)
            return 0;
        return role == TensorRole.ExpertDown ? expert * rows : (2 * expert + (role == TensorRole.ExpertUp ? 1 : 0)) * rows;
    }

    private Parameter ParameterOf(TensorRole role, int layer, int expert) => _byName[_checkpoint.Require(role, layer, expert).Name];

    private void Declare()
    {
        ModelConfig config = Config;
        int layers = config.LayerCount + (HasMtp ? 1 : 0);
        foreach (TensorRole role in Enum.GetValues<TensorRole>())
        {
            if (role == TensorRole.Output && config.TiedEmbeddings)
                continue;
            for (int layer = -1; layer < layers; layer++)
            {
                int experts = TensorShapes.IsExpert(role) ? config.ExpertCount : 1;
                for (int expert = 0; TensorShapes.Occurs(config, role, layer) && expert < experts; expert++)
                    Declare(role, layer, TensorShapes.IsExpert(role) ? expert : -1);
            }
        }
    }

    private void Declare(TensorRole role, int layer, int expert)
    {
        string name = _checkpoint.Require(role, layer, expert).Name;
        if (_byName.ContainsKey(name))
            return;
        SafetensorsTensor tensor = _source.Find(name)!;
        if (tensor.Type.AsWeightType() is null)
            throw new BadRequestException($"{_checkpoint.Path}: tensor {FileText.Quote(name)} is stored as {tensor.Type.Name()}: full training needs a BF16, F16 or F32 folder. Use the BF16 release, or train an adapter (LoRA) over this one.");
        (_, int columns) = TensorShapes.Of(Config, role);
        long rows = 1;
        foreach (long size in tensor.Sizes)
            rows *= size;
        rows /= columns;
        _byName.Add(name, new Parameter
        {
            Name = name,
            Sizes = tensor.Sizes.ToArray(),
            Rows = checked((int)rows),
            Columns = columns,
            StoredType = tensor.Type,
            IsMatrix = !TensorShapes.IsVector(role) && role != TensorRole.LinearConv,
        });
    }

    private static void Read(SafetensorsTensor tensor, Parameter parameter)
    {
        WeightType type = tensor.Type.AsWeightType()!.Value;
        long rowBytes = WeightFormat.RowBytes(type, parameter.Columns);
        for (int row = 0; row < parameter.Rows; row++)
            WeightFormat.Decode(type, tensor.Data.Span(row * rowBytes, (int)rowBytes), parameter.Value.Slice((long)row * parameter.Columns, parameter.Columns).Span);
    }
}
