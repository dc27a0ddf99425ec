using System.CommandLine;
using System.Globalization;
using System.Text;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;
using Qian.Weights;
using Spectre.Console;

namespace Qian.Cli;

// qian quality REFERENCE CANDIDATE --text FILE: how far a quantised model has moved from the one it was made from.
internal static class QualityVerb
{
    public static Command Create()
    {
        var models = new Argument<string[]>("MODEL") { Description = "The reference and the candidate; one of them with --save-logits (the reference) or --reference-logits (the candidate)", Arity = new ArgumentArity(1, 2) };
        var text = new Option<string[]>("--text") { Description = "Text to read: plain, or .jsonl with \"messages\" or \"text\"; may be given several times", HelpName = "FILE" };
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
        var command = new Command("quality", "Compare a quantised model with the one it was made from, token by token") { models, text, chunk, saveLogits, referenceLogits, kv, exact, exactReference, html, threads, json };
        command.SetAction((parsed, cancellation) =>
        {
            string[] paths = [.. parsed.GetValue(models)!.Select(ModelPath.Of)];
            string? save = parsed.GetValue(saveLogits), saved = parsed.GetValue(referenceLogits);
            if (save is not null && saved is not null)
                throw new BadRequestException("--save-logits and --reference-logits: give one of them");
            int wanted = save is null && saved is null ? 2 : 1;
            if (paths.Length != wanted)
                throw new BadRequestException(wanted == 2 ? "two models are needed: the reference, then the candidate" : $"one model is needed with {(save is null ? "--reference-logits: the candidate" : "--save-logits: the reference")}");
            string[] texts = parsed.GetValue(text) ?? [];
            if (texts.Length == 0 && saved is null)
                throw new BadRequestException("--text: name a text to read");
            if (parsed.GetValue(chunk) is < TextPieces.FewestTokens or > QualityRequest.MostPieceTokens)
                throw new BadRequestException($"--chunk: expected {TextPieces.FewestTokens} to {QualityRequest.MostPieceTokens}, found {parsed.GetValue(chunk)}.");
            if (saved is not null && parsed.GetValue(exactReference))
                throw new BadRequestException("--exact-reference: the saved predictions are as they were made");
            var request = new QualityRequest
            {
                ReferencePath = saved is null ? paths[0] : null,
                ReferenceLogitsPath = saved,
                CandidatePath = save is null ? paths[^1] : null,
                SaveLogitsPath = save,
                TextPaths = texts,
                PieceTokens = parsed.GetValue(chunk),
                KvType = Enum.Parse<KvType>(parsed.GetValue(kv)!, ignoreCase: true),
                Exact = parsed.GetValue(exact),
                ExactReference = parsed.GetValue(exactReference),
                ThreadCount = parsed.GetValue(threads),
            };
            Run(request, parsed.GetValue(html), parsed.GetValue(json), cancellation);
            return Task.FromResult(Program.Done);
        });
        return command;
    }

    private static void Run(QualityRequest request, string? htmlPath, bool json, CancellationToken cancellation)
    {
        if (request.SaveLogitsPath is { } savePath)
        {
            Interval perplexity = VerbProgress.Run("reading", bar => QualityRun.Save(request, bar.Set, cancellation), countsBytes: false);
            long bytes = new FileInfo(savePath).Length;
            if (json)
                JsonOutput.Print(new { path = savePath, bytes, reference_perplexity = perplexity });
            else
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{savePath}: {MemoryPlan.Format(bytes)}; perplexity {perplexity.Mean:0.0000} ({perplexity.Low:0.0000} to {perplexity.High:0.0000})"));
            return;
        }

        QualityReport report = VerbProgress.Run("reading", bar => QualityRun.Compare(request, bar.Set, cancellation), countsBytes: false);
        if (htmlPath is not null)
        {
            using var file = new PartialFile(htmlPath);
            file.Write(Encoding.UTF8.GetBytes(QualityHtml.Write(report)));
            file.Commit();
        }

        if (json)
            PrintJson(report);
        else
            Print(report);
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

    private static void PrintJson(QualityReport report) => JsonOutput.Print(new
    {
        reference = report.ReferenceName,
        candidate = report.CandidateName,
        kv = report.KvType,
        exact = report.Exact,
        pieces = report.PieceCount,
        piece_tokens = report.PieceTokens,
        scored_tokens = report.ScoredCount,
        reference_perplexity = report.ReferencePerplexity,
        candidate_perplexity = report.CandidatePerplexity,
        perplexity_ratio = report.PerplexityRatio,
        log_likelihood_difference = report.LogLikelihoodDifference,
        divergence = report.Divergence,
        divergence_percentiles = report.DivergencePercentiles.Select(row => new { percent = row.Percent, value = row.Value }),
        top_agreement = report.TopAgreement,
        top_five_agreement = report.TopFiveAgreement,
        probability_difference_rms = report.ProbabilityRms,
        rest_mass = report.RestMass,
        worst = report.Worst,
    });
}
