using System.CommandLine;
using System.Diagnostics;
using Qian.Inference;

namespace Qian.Cli;

// qian run PROMPT: one answer, streamed to stdout.
internal static class RunVerb
{
    public static Command Create()
    {
        var prompt = new Argument<string?>("PROMPT") { Description = "What to ask; '-' or nothing reads standard input", Arity = ArgumentArity.ZeroOrOne };
        var command = new Command("run", "Answer one prompt") { prompt };
        var model = new ModelOptions(command, withAdapter: true);
        var sampling = new SamplingFlags(command);
        var constraint = new ConstraintFlags(command);
        var system = new Option<string?>("--system") { Description = "System message", HelpName = "TEXT" };
        var noThink = new Option<bool>("--no-think") { Description = "Answer at once, without thinking" };
        var raw = new Option<bool>("--raw") { Description = "Continue the prompt as it is, without the chat template" };
        var tokens = new Option<string?>("--tokens") { Description = "Continue these token ids (separated by blanks or commas) and print ids; works without a tokenizer", HelpName = "IDS" };
        var stats = new Option<bool>("--stats") { Description = "Print times, speeds and memory to stderr" };
        var json = new Option<bool>("--json") { Description = "Print one JSON object at the end: text, reasoning, times, memory" };
        foreach (Option option in (Option[])[system, noThink, raw, tokens, stats, json])
            command.Add(option);

        command.SetAction(async (parsed, cancellation) =>
        {
            SamplingOptions options = sampling.Options(parsed) with { Constraint = constraint.Read(parsed) };
            string? ids = parsed.GetValue(tokens);
            if (ids is not null && parsed.GetValue(prompt) is not null)
                throw new BadRequestException("give either a prompt or --tokens, not both.");
            string text = ids is null ? ReadPrompt(parsed.GetValue(prompt), cancellation) : "";
            int[]? promptIds = ids is null ? null : SamplingFlags.ParseIds(ids, "--tokens");
            long start = Stopwatch.GetTimestamp();
            using Engine engine = model.Load(parsed, options.DraftTokens != 0, cancellation);
            Adapter? adapter = model.Adapter(parsed, engine);
            var report = new RunReport(start, parsed.GetValue(json));
            if (promptIds is not null)
                await Continue(engine.NewSession(adapter), promptIds, options, printIds: true, report, cancellation);
            else if (parsed.GetValue(raw))
                await Continue(engine.NewSession(adapter), engine.Tokenizer.Encode(text, matchAddedTokens: true), options, printIds: false, report, cancellation);
            else
                await Answer(engine, new ChatSettings { System = parsed.GetValue(system), Think = !parsed.GetValue(noThink), Adapter = adapter }, text, options, report, cancellation);
            if (parsed.GetValue(json))
                report.PrintJson(engine);
            if (parsed.GetValue(stats))
                report.PrintStats(engine);
            return Program.Done;
        });
        return command;
    }

    private static async Task Continue(Session session, int[] promptIds, SamplingOptions options, bool printIds, RunReport report, CancellationToken cancellation)
    {
        using (session)
        {
            session.Append(promptIds);
            report.PromptTokens = promptIds.Length;
            // Without any chat structure nothing ends the text but a limit, so there is one.
            options = options with { MaxTokens = options.MaxTokens ?? 256 };
            using var progress = new PrefillProgress(() => (session.ComputedCount, session.TokenCount));
            try
            {
                await foreach (GeneratedToken token in session.GenerateAsync(options, cancellation))
                {
                    progress.Dispose();
                    report.Token();
                    report.Drafts(token.DraftedCount, token.AcceptedCount);
                    if (printIds)
                        report.Id(token.Id);
                    else
                        report.Text(token.Text);
                }
            }
            finally
            {
                report.EndLine();
            }
        }
    }

    private static async Task Answer(Engine engine, ChatSettings settings, string prompt, SamplingOptions options, RunReport report, CancellationToken cancellation)
    {
        using var chat = new ChatSession(engine, settings);
        using var progress = new PrefillProgress(() => chat.Progress);
        try
        {
            await foreach (ChatDelta delta in chat.SendAsync(prompt, options, cancellation))
            {
                progress.Dispose();
                report.Token(delta.TokenCount);
                if (delta.Usage is { } usage)
                {
                    report.PromptTokens = usage.PromptTokens;
                    report.Drafts(usage.DraftedTokens, usage.AcceptedTokens);
                }

                report.Reasoning(delta.Reasoning);
                report.Text(delta.Text);
                if (delta.Finish is { } finish)
                    report.Finish(finish);
            }
        }
        finally
        {
            report.EndLine();
        }
    }

    private static string ReadPrompt(string? prompt, CancellationToken cancellation)
    {
        if (prompt is not (null or "-"))
            return prompt;
        if (!Console.IsInputRedirected)
            throw new BadRequestException("no prompt given: write it after 'run', or pipe it in.");
        return StandardInput.ReadAll(cancellation);
    }
}
