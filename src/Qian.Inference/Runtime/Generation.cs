using System.Threading.Channels;
using Qian.Inference.Model;
using Qian.Inference.Text;

namespace Qian.Inference.Runtime;

// One request while it is with the scheduler: tokens still to compute, how to sample, where tokens go. Prefill first; then
// each step samples one token, which is the next pass's row. With drafts a pass has a row for each of them too, and steps
// follow one another as long as the token sampled is the next draft.
internal sealed class Generation
{
    private readonly Timeline _timeline;
    private readonly TokenPicker? _picker;
    private readonly CancellationToken _cancellation;
    private volatile bool _cancelled;

    // Without a picker the pending tokens are only computed.
    public Generation(Timeline timeline, CancellationToken cancellation, TokenPicker? picker = null, DraftSlot? drafts = null)
    {
        Drafts = drafts;
        _timeline = timeline;
        _cancellation = cancellation;
        _picker = picker;
    }

    public Channel<GeneratedToken> Output { get; } = Channel.CreateUnbounded<GeneratedToken>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });

    public bool IsCancelled => _cancelled || _cancellation.IsCancellationRequested;

    public SequenceState State => _timeline.State;

    // Rows to compute before the next token can be sampled.
    public ReadOnlySpan<int> PendingTokens => _timeline.PendingTokens;

    public bool Samples => _picker is not null;

    // Takes in the logits after every token that is only read, for who wants to know how probable a prompt is.
    public PromptScorer? Scorer { get; init; }

    // Tokens given and generated.
    public ReadOnlySpan<int> AllTokens => _timeline.AllTokens;

    // One pending row, and a token wanted after it.
    public bool IsDecoding => Samples && PendingTokens.Length == 1;

    // Tokens that may still be generated.
    public int RemainingCount => _picker?.RemainingCount(_timeline.TotalCount) ?? 0;

    // Null where nothing may be drafted for this request.
    public DraftSlot? Drafts { get; }

    // Its run of rows in the pass, -1 when there was nothing to compute.
    public int SegmentIndex { get; private set; }

    // The pass held its one pending row, with or without drafts behind it.
    public bool DecodesInPass { get; private set; }

    // The run holds drafts: its state moves on only when the network is told how many were right.
    public bool IsTrial { get; private set; }

    // Rows after which a token is to be picked: the last one, or all of a trial until one turns out wrong.
    public int RowsToPick { get; private set; }

    public int PickedRows { get; private set; }

    public bool IsFinished { get; private set; }

    // Drafts that cannot come are not worth a row.
    public void DropForbiddenDrafts()
    {
        if (Drafts is { Count: > 0 } drafts)
            drafts.Count = _picker!.CountAllowed(drafts.Tokens.AsSpan(0, drafts.Count));
    }

    // Place in the order of arrival.
    public long Arrival { get; set; }

    // The store was asked for what is known of the text; again after the state was given up for others.
    public bool IsBegun { get; set; }

    // Where states are to be kept on the way, rising; those before NextPlace are.
    public List<KeepPlace> Places { get; set; } = [];

    public int NextPlace { get; set; }

    // Has rows in the pass that is being put together or computed.
    public bool IsInPass { get; set; }

    // Of the pass: a state in the middle of its run, to be kept.
    public SequenceState? Capture { get; set; }

    // Told once, when the store was asked for the first time: how the text relates to what is known.
    public Action<PrefixMatch, int>? WhenBegun { get; init; }

    public Timeline Timeline => _timeline;

    // Ends replies that go round in circles.
    public LoopGuard? Loops { get; init; }

    public ThinkingBudget? Thinking { get; init; }

    // Before the pass: `rowCount` of the pending rows, drafts included, are its run `segmentIndex`.
    public void BeginPass(int segmentIndex, int rowCount, bool isTrial)
    {
        SegmentIndex = segmentIndex;
        IsInPass = true;
        DecodesInPass = IsDecoding;
        IsTrial = isTrial;
        PickedRows = 0;
        RowsToPick = isTrial ? rowCount : PendingTokens.Length > rowCount ? 0 : 1;
    }

    // After the next row was computed: picks its token. The run goes on when that is the draft which the row after stands for.
    public void Step(Span<float> logits)
    {
        GeneratedToken token = _picker!.Pick(logits, _timeline.TotalCount);
        if (Loops is { } loops && loops.Observe(token.Id) && token.Finish is null)
        {
            // A thought that circles is closed, so that there is an answer; an answer that circles has ended.
            if (Thinking?.CloseNow() == true)
                loops.Forgive();
            else
                token = token with { Finish = FinishReason.Loop };
        }

        _timeline.Append(token.Id);
        PickedRows++;
        IsFinished = token.Finish is not null;
        if (Drafts is { } drafts)
        {
            if (!drafts.Take(token.Id) || IsFinished)
                EndRun();
            token = token with { DraftedCount = drafts.DraftedCount, AcceptedCount = drafts.AcceptedCount };
        }

        Output.Writer.TryWrite(token);
    }

    // No further row of this pass is looked at.
    public void EndRun() => RowsToPick = PickedRows;

    // logits[vocabulary] after token `index` of the text.
    public void Score(int index, Span<float> logits)
    {
        if (index + 1 < _timeline.TotalCount)
            Scorer!.Score(logits, _timeline.AllTokens[index + 1]);
    }

    // No token was ever given, so there is none to sample after.
    public bool IsEmpty => Samples && _timeline.TotalCount == 0;

    public void Cancel() => _cancelled = true;

    public void Complete(Exception? error = null) => Output.Writer.TryComplete(error);

    // Cancels and waits until the scheduler has let go. Tokens still in the channel are in the timeline already.
    public async Task StopAsync()
    {
        Cancel();
        try
        {
            while (await Output.Reader.WaitToReadAsync().ConfigureAwait(false))
            {
                while (Output.Reader.TryRead(out _))
                {
                }
            }
        }
        catch (Exception)
        {
            // The reader's loop has reported the failure already, or left before it came.
        }
    }
}
