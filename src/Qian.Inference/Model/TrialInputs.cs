using Qian.Kernels;

namespace Qian.Inference.Model;

// What a pass over drafted tokens leaves behind so that the accepted ones can be replayed: per DeltaNet layer and row the raw
// inputs of the convolution and the two gates, 4 bytes x (convChannels + 2 valueHeads): 40 KiB a layer at 27B. Everything
// else of a replay (convolution, norms) is recomputed from them. It holds one pass; the next one overwrites it.
internal sealed class TrialInputs : IDisposable
{
    private readonly NativeBuffer _floats;   // [layer][raw | decay | beta]
    private readonly int _channels;
    private readonly int _valueHeads;
    private readonly long _layerFloats;

    public TrialInputs(ModelConfig config, int linearLayerCount, int rowCount)
    {
        RowCount = rowCount;
        _channels = config.ConvChannels;
        _valueHeads = config.LinearValueHeads;
        _layerFloats = (long)rowCount * (_channels + 2 * _valueHeads);
        _floats = NativeBuffer.AllocateFloats(Floats(config, linearLayerCount, rowCount));
    }

    // Rows of all sequences together that one pass may try.
    public int RowCount { get; }

    public static long Floats(ModelConfig config, int linearLayerCount, int rowCount) =>
        (long)linearLayerCount * rowCount * (config.ConvChannels + 2 * config.LinearValueHeads);

    // [rowCount, convChannels], before the convolution
    public FloatView Raw(int stateIndex, int firstRow, int rowCount) => Part(stateIndex, 0, firstRow, rowCount, _channels);

    // [rowCount, valueHeads]
    public FloatView Decay(int stateIndex, int firstRow, int rowCount) => Part(stateIndex, (long)RowCount * _channels, firstRow, rowCount, _valueHeads);

    // [rowCount, valueHeads]
    public FloatView Beta(int stateIndex, int firstRow, int rowCount) => Part(stateIndex, (long)RowCount * (_channels + _valueHeads), firstRow, rowCount, _valueHeads);

    public void Dispose() => _floats.Dispose();

    private FloatView Part(int stateIndex, long start, int firstRow, int rowCount, int width) =>
        _floats.Floats(stateIndex * _layerFloats + start + (long)firstRow * width, (long)rowCount * width);
}
