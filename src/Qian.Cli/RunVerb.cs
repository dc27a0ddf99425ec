using System.CommandLine;
using System.Diagnostics;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Kernels;

namespace Qian.Cli;

// qian run PROMPT: one answer, streamed to stdout; thinking goes to stderr, dimmed, so that a pipe gets the answer alone.
internal static class RunVerb
{
    public static Command Create()
    {
        var prompt = new Argument<string?>("PROMPT") { Description = "What to ask; '-' or nothing reads standard input", Arity = ArgumentArity.ZeroOrOne };
        var command = new Command("run", "Answer one prompt") { prompt };
        var model = new ModelOptions(command);
        var sampling = new SamplingFlags(command);
        var system = new Option<string?>("--system") { Description = "System message", HelpName = "TEXT" };
        var noThink = new Option<bool>("--no-think") { Description = "Answer at once, without thinking" };
        var raw = new Option<bool>("--raw") { Description = "Continue the prompt as it is, without the chat template" };
        var tokens = new Option<string?>("--tokens") { Description = "Continue these token ids (separated by blanks or commas) and print ids; works without a tokenizer", HelpName = "IDS" };
        var stats = new Option<bool>("--stats") { Description = "Print times, speeds and memory to stderr" };
        foreach (Option option in (Option[])[system, noThink, raw, tokens, stats])
            command.Add(option);

        command.SetAction(async (parsed, cancellation) =>
        {
            SamplingOptions options = sampling.Options(parsed);
            string? ids = parsed.GetValue(tokens);
            string text = ids is null ? ReadPrompt(parsed.GetValue(prompt)) : "";
            long start = Stopwatch.GetTimestamp();
            using Engine engine = model.Load(parsed, cancellation);
            var clock = new RunClock(start);
            if (ids is not null)
                await Continue(engine, engine.NewSession(), SamplingFlags.ParseIds(ids, "--tokens"), options, printIds: true, clock, cancellation);
            else if (parsed.GetValue(raw))
                await Continue(engine, engine.NewSession(), engine.Tokenizer.Encode(text, matchAddedTokens: true), options, printIds: false, clock, cancellation);
            else
                await Answer(engine, parsed.GetValue(system), text, !parsed.GetValue(noThink), options, clock, cancellation);
            if (parsed.GetValue(stats))
                clock.Print(engine);
            return Program.Done;
        });
        return command;
    }

    private static async Task Continue(Engine engine, Session session, int[] promptIds, SamplingOptions options, bool printIds, RunClock clock, CancellationToken cancellation)
    {
        using (session)
        {
            session.Append(promptIds);
            clock.PromptTokens = promptIds.Length;
            // Without any chat structure nothing ends the text but a limit, so there is one.
            options = options with { MaxTokens = options.MaxTokens ?? 256 };
            bool isFirst = true;
            using var progress = new PrefillProgress(() => (session.ComputedCount, session.TokenCount));
            try
            {
                await foreach (GeneratedToken token in session.GenerateAsync(options, cancellation))
                {
                    progress.Dispose();
                    clock.Token();
                    Console.Write(!printIds ? token.Text : isFirst ? $"{token.Id}" : $" {token.Id}");
                    isFirst = false;
                }
            }
            finally
            {
                // Also after an interruption: what follows starts on a line of its own.
                if (!isFirst)
                    Console.WriteLine();
            }
        }
    }

    private static async Task Answer(Engine engine, string? system, string prompt, bool think, SamplingOptions options, RunClock clock, CancellationToken cancellation)
    {
        using var chat = new ChatSession(engine, new ChatSettings { System = system, Think = think });
        bool thinking = false, started = false;
        using var progress = new PrefillProgress(() => chat.Progress);
        try
        {
            await foreach (ChatDelta delta in chat.SendAsync(prompt, options, cancellation))
            {
                progress.Dispose();
                started = true;
                clock.Token(delta.TokenCount);
                clock.PromptTokens = delta.Usage?.PromptTokens ?? clock.PromptTokens;
                if (delta.Reasoning.Length > 0)
                {
                    thinking = true;
                    Console.Error.Write(Console.IsErrorRedirected ? delta.Reasoning : $"\e[2m{delta.Reasoning}\e[0m");
                }

                if (delta.Text.Length > 0)
                {
                    if (thinking)
                        Console.Error.WriteLine();
                    thinking = false;
                    Console.Write(delta.Text);
                }

                if (delta.Finish == FinishReason.Length)
                    Terminal.Note("\n(stopped at the token limit; --max-tokens raises it)");
                else if (delta.Finish == FinishReason.ContextFull)
                    Terminal.Note("\n(the context is full; --context raises it)");
            }
        }
        finally
        {
            // Also after an interruption: what follows starts on a line of its own.
            if (started)
                Console.WriteLine();
        }
    }

    private static string ReadPrompt(string? prompt)
    {
        if (prompt is not (null or "-"))
            return prompt;
        if (!Console.IsInputRedirected)
            throw new BadRequestException("no prompt given: write it after 'run', or pipe it in.");
        return Console.In.ReadToEnd();
    }
}

// What one run took: load, prefill (until the first token), decode.
internal sealed class RunClock(long start)
{
    private readonly long _loaded = Stopwatch.GetTimestamp();
    private long _first;
    private long _last;
    private int _tokens;

    public int PromptTokens { get; set; }

    public void Token(int count = 1)
    {
        if (count == 0)
            return;
        _last = Stopwatch.GetTimestamp();
        if (_tokens == 0)
            _first = _last;
        _tokens += count;
    }

    public void Print(Engine engine)
    {
        double load = Stopwatch.GetElapsedTime(start, _loaded).TotalSeconds;
        Terminal.Note(FormattableString.Invariant($"load {load:0.0} s"));
        if (_tokens > 0)
        {
            double prefill = Stopwatch.GetElapsedTime(_loaded, _first).TotalSeconds, decode = Stopwatch.GetElapsedTime(_first, _last).TotalSeconds;
            Terminal.Note(FormattableString.Invariant($"prefill {PromptTokens} tokens in {prefill:0.00} s, {PromptTokens / Math.Max(prefill, 1e-9):0.00} tokens/s"));
            if (_tokens > 1)
                Terminal.Note(FormattableString.Invariant($"decode {_tokens} tokens, {(_tokens - 1) / Math.Max(decode, 1e-9):0.00} tokens/s"));
        }

        using var process = Process.GetCurrentProcess();
        Terminal.Note($"memory: planned {MemoryPlan.Format(engine.Memory.TotalBytes(engine.ContextLength))} for {engine.ContextLength} tokens of context; native now {MemoryPlan.Format(NativeBuffer.AllocatedBytes)}; peak of the process {MemoryPlan.Format(process.PeakWorkingSet64)}");
    }
}
