using System.Threading.Channels;
using Qian.Inference.Model;
using Qian.Inference.Text;

namespace Qian.Inference.Runtime;

// One request while it is with the scheduler: tokens still to compute, how to sample, where tokens go. Prefill first; then
// each step samples one token, which is the next step's row.
internal sealed class Generation
{
    private readonly Timeline _timeline;
    private readonly TokenPicker? _picker;
    private readonly CancellationToken _cancellation;
    private volatile bool _cancelled;

    // Without a picker the pending tokens are only computed.
    public Generation(Timeline timeline, CancellationToken cancellation, TokenPicker? picker = null)
    {
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

    // Takes in the logits after every computed token, for who wants to know how probable a prompt is.
    public PromptScorer? Scorer { get; init; }

    // Rows of the current pass that are this request's.
    public int FirstRow { get; set; }

    public int RowCount { get; set; }

    // After the last pending row was computed: picks the next token. True when the request is finished.
    public bool Step(Span<float> logits)
    {
        GeneratedToken token = _picker!.Pick(logits, _timeline.TotalCount);
        _timeline.Append(token.Id);
        Output.Writer.TryWrite(token);
        return token.Finish is not null;
    }

    // logits[vocabulary] after row `row` of this pass.
    public void Score(int row, Span<float> logits)
    {
        int next = _timeline.ComputedCount - RowCount + row + 1;
        if (next < _timeline.TotalCount)
            Scorer!.Score(logits, _timeline.AllTokens[next]);
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
