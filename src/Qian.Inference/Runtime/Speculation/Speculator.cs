using Qian.Inference.Model;

namespace Qian.Inference.Runtime;

// Speculation as the scheduler sees it: before a pass it proposes drafts for the requests that decode, after it it learns how
// they did. Drafts come from the MTP head or from the context; verifying them is ordinary decoding of several rows, and a
// token is taken only when it is the one that would have been picked anyway. So the tokens are those of plain decoding, drawn
// with the same random numbers: for a guess made without dice, keeping it when the draw hits it is exact speculative sampling.
internal sealed class Speculator : IDisposable
{
    private readonly Network _network;
    private readonly MtpDrafter? _mtp;
    private readonly DraftPolicy _policy;
    private readonly List<Generation> _decoding = [];
    private readonly DraftSlot[] _slots = new DraftSlot[DraftPolicy.MaxSequences];

    public Speculator(Network network, VocabularyMask vocabulary)
    {
        _network = network;
        _mtp = network.HasMtp ? new MtpDrafter(network, vocabulary) : null;
        _policy = new DraftPolicy(network.MaxTrialRows);
    }

    public DraftSlot NewSlot(int? fixedDepth, int capacity) => new(fixedDepth, _policy.Rates, capacity);

    // Drafts for the next pass, in the slots of the requests that decode. Whatever goes wrong here costs the drafts and
    // nothing else: the states are as they were, and what troubles the requests themselves will show in their pass.
    public void Propose(List<Generation> active)
    {
        try
        {
            Guess(active);
        }
        catch (Exception)
        {
            foreach (Generation generation in active)
                generation.Drafts?.Clear();
        }

        Array.Clear(_slots);
        _decoding.Clear();
    }

    private void Guess(List<Generation> active)
    {
        int sequenceCount = 0, slotCount = 0;
        foreach (Generation generation in active)
        {
            generation.Drafts?.Clear();
            if (!generation.IsDecoding)
                continue;
            sequenceCount++;
            MakeRoomInTail(generation);
            if (generation.Drafts is not { } slot || slotCount == _slots.Length)
                continue;
            slot.Begin(generation.AllTokens, generation.RemainingCount - 1, _mtp is not null && _mtp.CanDraft(generation.State));
            _slots[slotCount++] = slot;
            _decoding.Add(generation);
        }

        if (slotCount == 0 || sequenceCount > DraftPolicy.MaxSequences)
            return;
        _policy.Choose(_slots.AsSpan(0, slotCount), sequenceCount);
        int drafting = 0;
        foreach (Generation generation in _decoding)
        {
            DraftSlot slot = generation.Drafts!;
            drafting += slot is { Count: > 0, Source: DraftSource.Mtp } ? 1 : 0;
            if (slot.Source == DraftSource.Lookup)
                slot.UseLookup();
        }

        if (drafting > 0 && _mtp!.Draft(_decoding) is { Steps: > 0 } taken)
            _policy.ObserveDraft(drafting, taken.Steps, taken.Seconds);
        foreach (Generation generation in _decoding)
            generation.DropForbiddenDrafts();
    }

    // Before the pass: what waits for the head in front of a text that is going to be read.
    public void BeforePass(List<Generation> computed)
    {
        if (_mtp is null)
            return;
        foreach (Generation generation in computed)
        {
            if (!generation.DecodesInPass)
                _mtp.Settle(generation.State, generation.AllTokens);
        }
    }

    // After the pass, for texts that were read: the head reads them too.
    public void AfterPass(ForwardBatch batch, List<Generation> computed)
    {
        if (_mtp is null)
            return;
        foreach (Generation generation in computed)
        {
            if (generation.SegmentIndex >= 0 && !generation.DecodesInPass)
                _mtp.Follow(batch.Segments[generation.SegmentIndex], generation.AllTokens);
        }
    }

    // `count` rows of a request that decodes are in its state now.
    public void Keep(in Segment segment, int count) => _mtp?.Keep(segment, count);

    // A pass that did nothing but decode.
    public void Observe(int sequenceCount, int rowCount, double seconds) => _policy.ObservePass(sequenceCount, rowCount, seconds);

    public void Dispose() => _mtp?.Dispose();

    // A tail must take the longest run of a pass.
    private void MakeRoomInTail(Generation generation)
    {
        SequenceState state = generation.State;
        if (_mtp is not null && state.TokenCount - state.MtpCount > state.MtpTailCapacity - Network.MaxTrialRun && state.TryReserve(state.TokenCount + 1))
            _mtp.Settle(state, generation.AllTokens);
    }
}
