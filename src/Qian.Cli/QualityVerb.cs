using System.CommandLine;
using System.Globalization;
using System.Text;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;
using Qian.Weights;
using Spectre.Console;

namespace Qian.Cli;

// qian quality REFERENCE CANDIDATE --text FILE: how far a quantised model has moved from the one it was made from, on a text, with
// tools, or both. One model alone is compared with itself under another type of keys and values, or with an adapter.
internal static class QualityVerb
{
    public static Command Create()
    {
        var models = new Argument<string[]>("MODEL") { Description = "The reference and the candidate; one of them with --save-logits (the reference) or --reference-logits (the candidate), and with --kv, --adapter or --exact-reference to see what these alone cost", Arity = new ArgumentArity(1, 2) };
        var text = new Option<string[]>("--text") { Description = "Text to read: plain, or .jsonl with \"messages\" or \"text\"; may be given several times", HelpName = "FILE" };
        var tools = new Option<bool>("--tools") { Description = "Compare the tool calls that both models make on the prompts that come with the program" };
        var toolsFrom = new Option<string?>("--tools-from") { Description = "The same on your prompts: .jsonl with \"messages\" and \"tools\"; a last message with calls says what is right", HelpName = "FILE" };
        var adapter = new Option<string?>("--adapter") { Description = "LoRA adapter that the candidate runs with: a PEFT folder or a .gguf adapter", HelpName = "PATH" };
        var chunk = new Option<int>("--chunk") { Description = "Tokens of a piece of text; the second half of each is scored", DefaultValueFactory = _ => 512, HelpName = "N" };
        var saveLogits = new Option<string?>("--save-logits") { Description = "Save the reference's predictions, to compare without it later", HelpName = "FILE" };
        var referenceLogits = new Option<string?>("--reference-logits") { Description = "Take the reference's predictions from here", HelpName = "FILE" };
        var kv = new Option<string>("--kv") { Description = "Type of the candidate's attention keys and values (the reference keeps f16)", DefaultValueFactory = _ => "f16", HelpName = "TYPE" };
        kv.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, "f16", "bf16", "f32", "q8_0");
        var exact = new Option<bool>("--exact") { Description = "Float32 arithmetic in both, so that only the weights differ (slow)" };
        var exactReference = new Option<bool>("--exact-reference") { Description = "Float32 arithmetic in the reference alone" };
        var html = new Option<string?>("--html") { Description = "Write the report as a page with charts", HelpName = "FILE" };
        var threads = new Option<int?>("--threads", "-t") { Description = "Threads that compute (default: one per processor)", HelpName = "N" };
        var json = new Option<bool>("--json") { Description = "Print the figures as JSON" };
        var command = new Command("quality", "Compare a quantised model with the one it was made from: token by token on a text, and call by call with tools") { models, text, tools, toolsFrom, adapter, chunk, saveLogits, referenceLogits, kv, exact, exactReference, html, threads, json };
        command.SetAction((parsed, cancellation) =>
        {
            string[] paths = [.. parsed.GetValue(models)!.Select(ModelPath.Of)];
            string? save = parsed.GetValue(saveLogits), saved = parsed.GetValue(referenceLogits);
            if (save is not null && saved is not null)
                throw new BadRequestException("--save-logits and --reference-logits: give one of them");
            int wanted = save is null && saved is null ? 2 : 1;
            KvType kvType = Enum.Parse<KvType>(parsed.GetValue(kv)!, ignoreCase: true);
            bool withTools = parsed.GetValue(tools) || parsed.GetValue(toolsFrom) is not null;
            if (wanted == 2 && paths.Length == 1 && (kvType != KvType.F16 || parsed.GetValue(adapter) is not null || parsed.GetValue(exactReference)))
                paths = [paths[0], paths[0]];
            if (paths.Length != wanted)
                throw new BadRequestException(wanted == 2 ? "two models are needed: the reference, then the candidate" : $"one model is needed with {(save is null ? "--reference-logits: the candidate" : "--save-logits: the reference")}");
            string[] texts = parsed.GetValue(text) ?? [];
            if (texts.Length == 0 && saved is null && (!withTools || save is not null))
                throw new BadRequestException("--text: name a text to read, or compare tool calls with --tools");
            if (texts.Length > 0 && saved is not null)
                throw new BadRequestException("--text: the saved predictions hold the text that they were made of; leave one of the two out");
            if (withTools && wanted == 1)
                throw new BadRequestException("--tools: both models are needed, one after the other; saved predictions hold no calls");
            if (save is not null && (parsed.GetValue(adapter) ?? parsed.GetValue(html)) is not null)
                throw new BadRequestException($"{(parsed.GetValue(adapter) is null ? "--html" : "--adapter")}: nothing is compared with --save-logits");
            if (parsed.GetValue(chunk) is < TextPieces.FewestTokens or > QualityRequest.MostPieceTokens)
                throw new BadRequestException($"--chunk: expected {TextPieces.FewestTokens} to {QualityRequest.MostPieceTokens}, found {parsed.GetValue(chunk)}.");
            if (saved is not null && parsed.GetValue(exactReference))
                throw new BadRequestException("--exact-reference: the saved predictions are as they were made");
            SampleText.RequireFiles(texts);
            if (parsed.GetValue(toolsFrom) is { } prompts)
                ToolPrompt.FromFile(prompts);
            var request = new QualityRequest
            {
                ReferencePath = saved is null ? paths[0] : null,
                ReferenceLogitsPath = saved,
                CandidatePath = save is null ? paths[^1] : null,
                SaveLogitsPath = save,
                TextPaths = texts,
                PieceTokens = parsed.GetValue(chunk),
                KvType = kvType,
                AdapterPath = parsed.GetValue(adapter),
                ToolPromptsPath = parsed.GetValue(toolsFrom),
                Exact = parsed.GetValue(exact),
                ExactReference = parsed.GetValue(exactReference),
                ThreadCount = parsed.GetValue(threads),
            };
            if (save is not null)
                Save(request, parsed.GetValue(json), cancellation);
            else
                Compare(request, texts.Length > 0 || saved is not null, withTools, parsed.GetValue(html), parsed.GetValue(json), cancellation);
            return Task.FromResult(Program.Done);
        });
        return command;
    }

    private static void Save(QualityRequest request, bool json, CancellationToken cancellation)
    {
        Interval perplexity = VerbProgress.Run("reading", bar => QualityRun.Save(request, bar.Set, cancellation), countsBytes: false);
        long bytes = new FileInfo(request.SaveLogitsPath!).Length;
        if (json)
            JsonOutput.Print(new { path = request.SaveLogitsPath, bytes, reference_perplexity = perplexity });
        else
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{request.SaveLogitsPath}: {MemoryPlan.Format(bytes)}; perplexity {perplexity.Mean:0.0000} ({perplexity.Low:0.0000} to {perplexity.High:0.0000})"));
    }

    private static void Compare(QualityRequest request, bool withText, bool withTools, string? htmlPath, bool json, CancellationToken cancellation)
    {
        // Opened first: a page that cannot be written should not cost a long comparison.
        using PartialFile? page = htmlPath is null ? null : new PartialFile(htmlPath);
        QualityReport? report = withText ? VerbProgress.Run("reading", bar => QualityRun.Compare(request, bar.Set, cancellation), countsBytes: false) : null;
        ToolReport? tools = withTools ? VerbProgress.Run("calling tools", bar => ToolFidelity.Compare(request, bar.Set, cancellation), countsBytes: false) : null;
        if (json)
        {
            PrintJson(request, report, tools);
        }
        else
        {
            if (report is not null)
                Print(report);
            if (tools is not null)
                Print(request, tools);
        }

        page?.Write(Encoding.UTF8.GetBytes(QualityHtml.Write(request, report, tools)));
        page?.Commit();
    }

    private static void Print(QualityReport report)
    {
        var table = new Table { Border = TableBorder.Simple, Title = new TableTitle(Markup.Escape($"{report.CandidateName} against {report.ReferenceName}, {report.ScoredCount} tokens in {report.PieceCount} pieces"), Style.Plain) };
        table.AddColumns("", "", "95 % interval");
        table.Columns[1].Alignment = Justify.Right;
        foreach ((string name, string value, string range) in QualityTable.Rows(report))
            table.AddRow(Markup.Escape(name), value, range);
        Terminal.Out.Write(table);
        if (report.PieceCount == 1)
            Terminal.Note("one piece of text only: the intervals are too narrow; read a longer text, or shorter pieces (--chunk)");
        foreach (WorstToken worst in report.Worst)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{worst.Divergence:0.000}  {JsonOutput.Quote(worst.Context)} then {JsonOutput.Quote(worst.Token)}: {worst.ReferenceProbability:0.0000}, now {worst.CandidateProbability:0.0000}; favourite {JsonOutput.Quote(worst.ReferenceTop)} {worst.ReferenceTopProbability:0.00}, now {JsonOutput.Quote(worst.CandidateTop)} {worst.CandidateTopProbability:0.00}"));
        }
    }

    private static void Print(QualityRequest request, ToolReport tools)
    {
        var table = new Table { Border = TableBorder.Simple, Title = new TableTitle(Markup.Escape($"{request.CandidatePath} against {request.ReferencePath}, {tools.PromptCount} tool prompts"), Style.Plain) };
        table.AddColumns("", "", "95 % interval, or paired");
        table.Columns[1].Alignment = Justify.Right;
        foreach ((string name, string value, string range) in tools.Rows())
            table.AddRow(Markup.Escape(name), value, range);
        Terminal.Out.Write(table);
        foreach (ToolDifference difference in tools.Differences)
            Console.WriteLine($"{difference.Number}: {JsonOutput.Quote(difference.Asked)}\n   reference {JsonOutput.Quote(difference.Reference)}\n   candidate {JsonOutput.Quote(difference.Candidate)}");
    }

    private static void PrintJson(QualityRequest request, QualityReport? report, ToolReport? tools) => JsonOutput.Print(new
    {
        reference = report?.ReferenceName ?? request.ReferencePath,
        candidate = request.CandidatePath,
        kv = request.KvType.ToString().ToLowerInvariant(),
        adapter = request.AdapterPath,
        exact = report?.Exact,
        pieces = report?.PieceCount,
        piece_tokens = report?.PieceTokens,
        scored_tokens = report?.ScoredCount,
        reference_perplexity = report?.ReferencePerplexity,
        candidate_perplexity = report?.CandidatePerplexity,
        perplexity_ratio = report?.PerplexityRatio,
        log_likelihood_difference = report?.LogLikelihoodDifference,
        divergence = report?.Divergence,
        divergence_percentiles = report?.DivergencePercentiles.Select(row => new { percent = row.Percent, value = row.Value }),
        top_agreement = report?.TopAgreement,
        top_five_agreement = report?.TopFiveAgreement,
        probability_difference_rms = report?.ProbabilityRms,
        rest_mass = report?.RestMass,
        worst = report?.Worst,
        tools,
    });
}
