using Qian.Inference.Model;

namespace Qian.Inference.Runtime;

// The model state after one prefix, frozen: in memory, on disk, or both. The store's lock guards it.
internal sealed class KeptState(PrefixNode<KeptState> node, PrefixRoot root)
{
    public PrefixNode<KeptState> Node => node;

    public PrefixRoot Root => root;

    // Null when it is on disk only.
    public SequenceState? State { get; set; }

    // Where it lies on disk; null when it does not.
    public string? File { get; set; }

    // The disk would not take it, or gave it up: not tried again.
    public bool IsUnsavable { get; set; }

    // Counts up with every use of the store.
    public long LastUsed { get; set; }

    // Superseded by what came after it, or set only for the case that a long text changes inside: goes first.
    public bool IsMinor { get; set; }

    // Somebody outside of the lock reads it.
    public int ReaderCount { get; set; }
}
