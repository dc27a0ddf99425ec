using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Weights;

// Where a row, an entry or a column of the file to write comes from in the open checkpoint, whose value heads may stand in the
// other format's order. Formats knows the way from Hugging Face to GGUF; the way back is its inverse, made here by turning it
// round entry by entry.
internal sealed class ValueHeadMove
{
    private readonly ValueHeadOrder _order;
    private readonly ModelConfig _config;
    private readonly bool _isInverse;
    private readonly Dictionary<TensorRole, int[]> _rows = [];    // filled before any thread reads
    private readonly Dictionary<TensorRole, int[]> _entries = [];

    private ValueHeadMove(ModelConfig config, bool isInverse)
    {
        _config = config;
        _isInverse = isInverse;
        _order = new ValueHeadOrder(config);
        if (!isInverse)
            return;
        foreach (TensorRole role in (ReadOnlySpan<TensorRole>)[TensorRole.LinearQkv, TensorRole.LinearConv, TensorRole.LinearZ, TensorRole.LinearA, TensorRole.LinearB])
            _rows[role] = Inverse(TensorShapes.Of(config, role).Rows, place => _order.SourceRow(role, place));
        foreach (TensorRole role in (ReadOnlySpan<TensorRole>)[TensorRole.LinearDecay, TensorRole.LinearDtBias, TensorRole.LinearOutput])
            _entries[role] = Inverse(TensorShapes.Of(config, role).Columns, Places(role));
    }

    public static ValueHeadMove ToGguf(ModelConfig config) => new(config, isInverse: false);

    public static ValueHeadMove ToHuggingFace(ModelConfig config) =>
        config.ValueHeadsInterleaved
            ? new(config with { ValueHeadsInterleaved = false }, isInverse: true)
            : new(config with { ValueHeadsInterleaved = true }, isInverse: false); // moves nothing

    // True when a row of the role is written as it is stored.
    public bool KeepsColumns(TensorRole role) =>
        role is not (TensorRole.LinearDecay or TensorRole.LinearDtBias or TensorRole.LinearOutput)
        || (!_isInverse && (_config.ValueHeadsInterleaved || _config.LinearValueHeads == _config.LinearKeyHeads));

    public int SourceRow(TensorRole role, int row) =>
        !_isInverse ? _order.SourceRow(role, row) : _rows.TryGetValue(role, out int[]? rows) ? rows[row] : row;

    public void Reorder(TensorRole role, ReadOnlySpan<float> source, Span<float> destination)
    {
        if (!_isInverse)
        {
            _order.Reorder(role, source, destination);
            return;
        }

        if (!_entries.TryGetValue(role, out int[]? entries))
        {
            source.CopyTo(destination);
            return;
        }

        for (int i = 0; i < entries.Length; i++)
            destination[i] = source[entries[i]];
    }

    // The order moves floats, so a ramp of them tells where each comes from; widths stay far below 2^24.
    private Func<int, int> Places(TensorRole role)
    {
        int width = TensorShapes.Of(_config, role).Columns;
        var ramp = new float[width];
        for (int i = 0; i < width; i++)
            ramp[i] = i;
        var moved = new float[width];
        _order.Reorder(role, ramp, moved);
        return place => (int)moved[place];
    }

    private static int[] Inverse(int count, Func<int, int> source)
    {
        var inverse = new int[count];
        for (int place = 0; place < count; place++)
            inverse[source(place)] = place;
        return inverse;
    }
}
