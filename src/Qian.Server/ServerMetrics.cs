using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using Qian.Inference;
using Qian.Server.Replies;

namespace Qian.Server;

// Counters of the server, and their page in Prometheus' text format. Writers are many and never wait for each other longer
// than an addition.
internal sealed class ServerMetrics
{
    private readonly ConcurrentDictionary<(string Path, int Status), long> _requests = new();
    private readonly ConcurrentDictionary<string, long> _finishes = new();
    private readonly Histogram _queueSeconds = new("qian_queue_seconds", "Time that requests waited for a place");
    private readonly Histogram _firstTokenSeconds = new("qian_time_to_first_token_seconds", "Time from a request's arrival to its first token");
    private readonly Histogram _tokenSeconds = new("qian_time_per_output_token_seconds", "Time between tokens of a reply");
    private readonly long[] _prefixUses = new long[Enum.GetValues<PrefixMissReason>().Length];
    private long _promptCount;
    private long _cachedCount;
    private long _outputCount;
    private long _reasoningCount;
    private long _cancelledCount;
    private long _draftedCount;
    private long _acceptedCount;

    public void Answered(string path, int status) => _requests.AddOrUpdate((path, status), 1, static (_, count) => count + 1);

    public void Cancelled() => Interlocked.Increment(ref _cancelledCount);

    public void Queued(TimeSpan time) => _queueSeconds.Add(time.TotalSeconds);

    public void Token(TimeSpan time, bool isFirst) => (isFirst ? _firstTokenSeconds : _tokenSeconds).Add(time.TotalSeconds);

    // stop, tool_calls, max_tokens, context, repetition.
    public void Finished(string reason) => _finishes.AddOrUpdate(reason, 1, static (_, count) => count + 1);

    public void PrefixUsed(PrefixMissReason reason) => Interlocked.Increment(ref _prefixUses[(int)reason]);

    public void Ended(in ReplyUsage usage)
    {
        Interlocked.Add(ref _promptCount, usage.PromptCount);
        Interlocked.Add(ref _cachedCount, usage.CachedCount);
        Interlocked.Add(ref _outputCount, usage.OutputCount);
        Interlocked.Add(ref _reasoningCount, usage.ReasoningCount);
        Interlocked.Add(ref _draftedCount, usage.DraftedCount);
        Interlocked.Add(ref _acceptedCount, usage.AcceptedCount);
    }

    public string Page(Admission admission)
    {
        var page = new StringBuilder();
        Head(page, "qian_requests_total", "counter", "Requests by path and status");
        foreach (((string path, int status), long count) in _requests.OrderBy(entry => entry.Key))
            page.Append(CultureInfo.InvariantCulture, $"qian_requests_total{{path=\"{path}\",status=\"{status}\"}} {count}\n");
        Single(page, "qian_requests_cancelled_total", "counter", "Requests whose client left before the end", Interlocked.Read(ref _cancelledCount));
        Single(page, "qian_places", "gauge", "Replies that may be generated side by side", admission.PlaceCount);
        Single(page, "qian_places_taken", "gauge", "Places in use", admission.TakenCount);
        Single(page, "qian_requests_waiting", "gauge", "Requests waiting for a place", admission.WaitingCount);
        Single(page, "qian_prompt_tokens_total", "counter", "Tokens of prompts, cached ones included", Interlocked.Read(ref _promptCount));
        Single(page, "qian_cached_tokens_total", "counter", "Tokens of prompts whose state was kept from before", Interlocked.Read(ref _cachedCount));
        Single(page, "qian_output_tokens_total", "counter", "Tokens generated", Interlocked.Read(ref _outputCount));
        Single(page, "qian_reasoning_tokens_total", "counter", "Of them, thinking", Interlocked.Read(ref _reasoningCount));
        Single(page, "qian_drafted_tokens_total", "counter", "Tokens guessed ahead and verified", Interlocked.Read(ref _draftedCount));
        Single(page, "qian_accepted_tokens_total", "counter", "Of them, those that were right", Interlocked.Read(ref _acceptedCount));
        Head(page, "qian_finishes_total", "counter", "Replies by why they ended: stop, tool_calls, max_tokens, context, repetition");
        foreach ((string reason, long count) in _finishes.OrderBy(entry => entry.Key, StringComparer.Ordinal))
            page.Append(CultureInfo.InvariantCulture, $"qian_finishes_total{{reason=\"{reason}\"}} {count}\n");
        Head(page, "qian_prefix_uses_total", "counter", "Prompts by why they were not known further: none (all but what is new was), off, unknown, diverged, evicted");
        foreach (PrefixMissReason reason in Enum.GetValues<PrefixMissReason>())
            page.Append(CultureInfo.InvariantCulture, $"qian_prefix_uses_total{{reason=\"{reason.ToString().ToLowerInvariant()}\"}} {Interlocked.Read(ref _prefixUses[(int)reason])}\n");
        _queueSeconds.Write(page);
        _firstTokenSeconds.Write(page);
        _tokenSeconds.Write(page);
        return page.ToString();
    }

    private static void Head(StringBuilder page, string name, string type, string help) => page.Append(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} {type}\n");

    private static void Single(StringBuilder page, string name, string type, string help, long value)
    {
        Head(page, name, type, help);
        page.Append(CultureInfo.InvariantCulture, $"{name} {value}\n");
    }

    // Bucket borders double from a millisecond to half an hour.
    private sealed class Histogram(string name, string help)
    {
        private const int BucketCount = 22;
        private const double FirstBorder = 0.001;

        private readonly long[] _counts = new long[BucketCount + 1];
        private readonly Lock _lock = new();
        private double _sum;

        public void Add(double seconds)
        {
            int bucket = seconds <= FirstBorder ? 0 : Math.Min(BucketCount, (int)Math.Ceiling(Math.Log2(seconds / FirstBorder)));
            lock (_lock)
            {
                _counts[bucket]++;
                _sum += seconds;
            }
        }

        public void Write(StringBuilder page)
        {
            Head(page, name, "histogram", help);
            lock (_lock)
            {
                long total = 0;
                for (int i = 0; i < BucketCount; i++)
                {
                    total += _counts[i];
                    page.Append(CultureInfo.InvariantCulture, $"{name}_bucket{{le=\"{FirstBorder * (1L << i)}\"}} {total}\n");
                }

                total += _counts[BucketCount];
                page.Append(CultureInfo.InvariantCulture, $"{name}_bucket{{le=\"+Inf\"}} {total}\n{name}_sum {_sum}\n{name}_count {total}\n");
            }
        }
    }
}
