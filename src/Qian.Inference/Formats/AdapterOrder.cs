namespace Qian.Inference.Formats;

// Moves an adapter between Hugging Face's and GGUF's order of the value heads (see ValueHeadOrder). What a projection writes per
// value head are rows of B (in_proj_qkv's value part, in_proj_z, in_proj_a, in_proj_b), what it reads are columns of A
// (out_proj). The other side of each pair, and every other projection, knows no value heads: an adapter that moves too much or
// too little still loads and still answers, only worse.
internal static class AdapterOrder
{
    public static AdapterTarget ToGguf(ModelConfig config, AdapterTarget target) => Move(config, target, toGguf: true);

    public static AdapterTarget ToHuggingFace(ModelConfig config, AdapterTarget target) => Move(config, target, toGguf: false);

    private static AdapterTarget Move(ModelConfig config, AdapterTarget target, bool toGguf)
    {
        var order = new ValueHeadOrder(config with { ValueHeadsInterleaved = false });
        switch (target.Role)
        {
            case TensorRole.LinearQkv or TensorRole.LinearZ or TensorRole.LinearA or TensorRole.LinearB:
                var b = new float[target.B.Length];
                for (int row = 0; row < target.OutputCount; row++)
                {
                    int other = order.SourceRow(target.Role, row);
                    (int from, int to) = toGguf ? (other, row) : (row, other);
                    target.B.AsSpan(from * target.Rank, target.Rank).CopyTo(b.AsSpan(to * target.Rank));
                }

                return target with { B = b };
            case TensorRole.LinearOutput:
                var a = new float[target.A.Length];
                int width = target.InputCount;
                for (int column = 0; column < width; column++)
                {
                    int other = order.SourceColumn(target.Role, column);
                    (int from, int to) = toGguf ? (other, column) : (column, other);
                    for (int rank = 0; rank < target.Rank; rank++)
                        a[rank * width + to] = target.A[rank * width + from];
                }

                return target with { A = a };
            default:
                return target;
        }
    }
}
