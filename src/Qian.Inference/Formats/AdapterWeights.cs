namespace Qian.Inference.Formats;

// One projection's share of an adapter: y += scale · B (A x). `Layer` as with tensors: -1 for the head, the trunk's layer count
// for the MTP layer. Arrays are row-major: A [rank, in], B [out, rank].
internal sealed record AdapterTarget(TensorRole Role, int Layer, int Rank, double Alpha, float[] A, float[] B)
{
    public int InputCount => A.Length / Rank;

    public int OutputCount => B.Length / Rank;
}

// A low-rank adapter as data, checked against the model it is for and in Hugging Face's order of the value heads, whatever it
// was read from. What readers hand out, writers take, training ends with and the network loads.
internal sealed record AdapterWeights
{
    public required string Name { get; init; }

    // What the file says it was trained on.
    public string? BaseModel { get; init; }

    // The scale is alpha / sqrt(rank) instead of alpha / rank (Kalajdzievski, 2023).
    public bool UsesRsLora { get; init; }

    // Share of the inputs that training left out; running knows none.
    public double Dropout { get; init; }

    // In the order of layers, the head first; no two of the same place.
    public required IReadOnlyList<AdapterTarget> Targets { get; init; }

    public double Scale(AdapterTarget target) => UsesRsLora ? target.Alpha / Math.Sqrt(target.Rank) : target.Alpha / target.Rank;

    // The same adapter with its targets as `config`'s model stores the value heads: what is multiplied with its weights and rows.
    public IReadOnlyList<AdapterTarget> InOrderOf(ModelConfig config) =>
        config.ValueHeadsInterleaved ? [.. Targets.Select(target => AdapterOrder.ToGguf(config, target))] : Targets;
}
