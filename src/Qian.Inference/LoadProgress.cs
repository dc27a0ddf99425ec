namespace Qian.Inference;

/// <summary>How far loading has come.</summary>
/// <param name="BytesDone">Bytes of weights ready.</param>
/// <param name="BytesTotal">Bytes of weights in the file.</param>
/// <param name="Tensor">The tensor finished last, as the file spells it.</param>
public readonly record struct LoadProgress(long BytesDone, long BytesTotal, string Tensor);
