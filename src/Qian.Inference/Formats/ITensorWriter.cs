namespace Qian.Inference.Formats;

// The part of a model file's writer that its tensors go through, in the declared order.
internal interface ITensorWriter
{
    // The bytes of the tensor that is due are in the file already, from a run that was interrupted, with this SHA-256: goes past
    // them. False, and nothing moved, when they are not.
    bool TryKeep(ReadOnlySpan<byte> digest);

    void Write(ReadOnlySpan<byte> bytes);

    // Hands what was written so far to the system, so that it outlives this process.
    void Flush();
}
