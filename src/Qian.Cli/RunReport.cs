using System.Diagnostics;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Qian.Inference;
using Qian.Kernels;

namespace Qian.Cli;

// Where the output of one run goes, and what it took: load, prefill (until the first token), decode. Streams to the terminal,
// or collects everything for one JSON object at the end.
internal sealed class RunReport(long start, bool isJson)
{
    private readonly long _loaded = Stopwatch.GetTimestamp();
    private readonly StringBuilder _text = new();
    private readonly StringBuilder _reasoning = new();
    private readonly List<int> _ids = [];
    private FinishReason? _finish;
    private bool _isThinking;
    private bool _isEmpty = true;
    private long _first;
    private long _last;
    private int _tokenCount;
    private long _draftedCount;
    private long _acceptedCount;

    public int PromptTokens { get; set; }

    public void Token(int count = 1)
    {
        if (count == 0)
            return;
        _last = Stopwatch.GetTimestamp();
        if (_tokenCount == 0)
            _first = _last;
        _tokenCount += count;
    }

    // Of the whole reply so far.
    public void Drafts(long draftedCount, long acceptedCount) => (_draftedCount, _acceptedCount) = (draftedCount, acceptedCount);

    public void Id(int id)
    {
        _ids.Add(id);
        Write(_ids.Count == 1 ? $"{id}" : $" {id}");
    }

    public void Text(string text)
    {
        if (text.Length == 0)
            return;
        _text.Append(text);
        if (_isThinking && !isJson)
            Console.Error.WriteLine();
        _isThinking = false;
        Write(text);
    }

    // Thinking goes to stderr, dimmed, so that a pipe gets the answer alone.
    public void Reasoning(string text)
    {
        if (text.Length == 0)
            return;
        _reasoning.Append(text);
        _isThinking = true;
        if (!isJson)
            Console.Error.Write(Console.IsErrorRedirected ? text : $"\e[2m{text}\e[0m");
    }

    public void Finish(FinishReason finish)
    {
        _finish = finish;
        if (finish == FinishReason.Length)
            Terminal.Note("\n(stopped at the token limit; --max-tokens raises it)");
        else if (finish == FinishReason.ContextFull)
            Terminal.Note("\n(the context is full; --context raises it)");
        else if (finish == FinishReason.Loop)
            Terminal.Note("\n(stopped: it repeated itself)");
    }

    // Also after an interruption: what follows starts on a line of its own.
    public void EndLine()
    {
        if (!isJson && (!_isEmpty || _isThinking))
            Console.WriteLine();
    }

    public void PrintStats(Engine engine)
    {
        Terminal.Note(FormattableString.Invariant($"load {LoadSeconds:0.0} s"));
        if (_tokenCount > 0)
            Terminal.Note(FormattableString.Invariant($"prefill {PromptTokens} tokens in {PrefillSeconds:0.00} s, {PromptTokens / Math.Max(PrefillSeconds, 1e-9):0.00} tokens/s"));
        if (_tokenCount > 1)
            Terminal.Note(FormattableString.Invariant($"decode {_tokenCount} tokens, {DecodeRate:0.00} tokens/s"));
        if (_draftedCount > 0)
            Terminal.Note(FormattableString.Invariant($"drafts {_draftedCount} tokens guessed ahead, {_acceptedCount} of them right ({100.0 * _acceptedCount / _draftedCount:0} %)"));
        Terminal.Note($"memory: planned {MemoryPlan.Format(engine.Memory.TotalBytes(engine.ContextLength))} for {engine.ContextLength} tokens of context; native now {MemoryPlan.Format(NativeBuffer.AllocatedBytes)}; peak of the process {MemoryPlan.Format(PeakBytes())}");
    }

    public void PrintJson(Engine engine) => JsonOutput.Print(
        new
        {
            text = _text.ToString(),
            reasoning = _reasoning.ToString(),
            ids = _ids,
            finish = _finish?.ToString().ToLowerInvariant(),
            prompt_tokens = PromptTokens,
            output_tokens = _tokenCount,
            drafted_tokens = _draftedCount,
            accepted_tokens = _acceptedCount,
            load_seconds = LoadSeconds,
            prefill_seconds = PrefillSeconds,
            decode_tokens_per_second = _tokenCount > 1 ? DecodeRate : (double?)null,
            planned_bytes = engine.Memory.TotalBytes(engine.ContextLength),
            peak_bytes = PeakBytes(),
        });

    private double LoadSeconds => Stopwatch.GetElapsedTime(start, _loaded).TotalSeconds;

    private double PrefillSeconds => _tokenCount == 0 ? 0 : Stopwatch.GetElapsedTime(_loaded, _first).TotalSeconds;

    private double DecodeRate => (_tokenCount - 1) / Math.Max(Stopwatch.GetElapsedTime(_first, _last).TotalSeconds, 1e-9);

    private void Write(string text)
    {
        _isEmpty = false;
        if (!isJson)
            Console.Write(text);
    }

    private static long PeakBytes()
    {
        using var process = Process.GetCurrentProcess();
        return process.PeakWorkingSet64;
    }
}
