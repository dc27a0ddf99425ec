using System.CommandLine;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Verification;
using Qian.Kernels;
using Qian.Training.Verification;
using Spectre.Console;

namespace Qian.Cli;

// qian verify PATH…: each compared quantity, its value and its bound; exit 1 on any failure.
internal static class VerifyVerb
{
    public static Command Create()
    {
        var paths = new Argument<string[]>("PATH") { Description = "Model files, Hugging Face folders, or folders of goldens (default: the embedded nano)", Arity = ArgumentArity.ZeroOrMore };
        var kv = new Option<string>("--kv") { Description = "Type of attention keys and values for the invariants", DefaultValueFactory = _ => "f16" };
        kv.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, "f16", "bf16", "f32", "q8_0");
        var exact = new Option<bool>("--exact") { Description = "Compare with exact arithmetic for large model files too (slow)" };
        var everyRow = new Option<bool>("--every-row") { Description = "Read every row of every tensor; of files above 4 GiB a sample is read otherwise" };
        var fileOnly = new Option<bool>("--file-only") { Description = "Check the file alone, without running the model" };
        var threads = new Option<int?>("--threads", "-t") { Description = "Threads that compute (default: one per processor)", HelpName = "N" };
        var json = new Option<bool>("--json") { Description = "Print the results as JSON" };
        var command = new Command("verify", "Compare against reference numbers, or check a model file and run the engine's invariants on it") { paths, kv, exact, everyRow, fileOnly, threads, json };
        command.SetAction((parsed, cancellation) =>
        {
            if (parsed.GetValue(threads) is < 1 or > 1024)
                throw new BadRequestException($"--threads: expected 1 to 1024, found {parsed.GetValue(threads)}.");
            string[] named = parsed.GetValue(paths) ?? [];
            var options = new VerificationOptions
            {
                Kv = Enum.Parse<KvType>(parsed.GetValue(kv)!, ignoreCase: true),
                Exact = parsed.GetValue(exact),
                EveryRow = parsed.GetValue(everyRow),
                FileOnly = parsed.GetValue(fileOnly),
                ThreadCount = parsed.GetValue(threads) ?? Environment.ProcessorCount,
            };
            return Task.FromResult(Run(named.Length == 0 ? [ModelPath.Of(null)] : [.. named.Select(ModelPath.Of)], options, parsed.GetValue(json), cancellation));
        });
        return command;
    }

    private static int Run(string[] paths, VerificationOptions options, bool json, CancellationToken cancellation)
    {
        var all = new List<VerificationResult>();
        var uncovered = new List<string>();
        IProgress<string>? progress = Console.IsErrorRedirected ? null : new Notes();
        foreach (VerificationTarget target in VerificationTarget.Find(paths))
        {
            cancellation.ThrowIfCancellationRequested();
            bool isGradients = GradientGoldens.Recognises(target.Path);
            if (target.Kind == TargetKind.NotCovered && !isGradients)
            {
                uncovered.Add($"{target.Subject}: {target.Note}");
                continue;
            }

            Terminal.Note($"{target.Subject} ({target.Note})");
            List<VerificationResult> results = isGradients
                ? GradientGoldens.Run(target.Path, target.Subject, progress)
                : target.Run(options, progress, cancellation);
            all.AddRange(results);
            if (!json)
                Print(target.Subject, results);
        }

        int failed = all.Count(result => !result.Passed);
        if (json)
        {
            Console.WriteLine(JsonSerializer.Serialize(new
            {
                isa = IsaTier.Products.ToString().ToLowerInvariant(),
                passed = all.Count - failed,
                failed,
                not_covered = uncovered,
                results = all.Select(r => new { subject = r.Subject, quantity = r.Quantity, value = double.IsFinite(r.Value) ? r.Value : (double?)null, bound = r.Bound, passed = r.Passed, detail = r.Detail }),
            }));
            return failed == 0 && all.Count > 0 ? Program.Done : Program.Failed;
        }

        foreach (string line in uncovered)
            Console.WriteLine($"not covered yet: {line}");
        Console.WriteLine($"{all.Count - failed} within bounds, {failed} outside, on {IsaTier.Products.ToString().ToLowerInvariant()}");
        return failed == 0 && all.Count > 0 ? Program.Done : Program.Failed;
    }

    // A table for each subject; where every subject has one row, one table with the subjects as rows.
    private static void Print(string target, List<VerificationResult> results)
    {
        List<IGrouping<string, VerificationResult>> subjects = [.. results.GroupBy(result => result.Subject)];
        if (subjects.Count > 1 && subjects.TrueForAll(subject => subject.Count() == 1))
            Print(target, results, result => $"{result.Subject}: {result.Quantity}");
        else
            subjects.ForEach(subject => Print(subject.Key, subject, result => result.Quantity));
    }

    private static void Print(string title, IEnumerable<VerificationResult> results, Func<VerificationResult, string> label)
    {
        var table = new Table { Border = TableBorder.Simple, Title = new TableTitle(Markup.Escape(title), Style.Plain) };
        table.AddColumns("compared", "value", "bound", "");
        table.Columns[1].Alignment = Justify.Right;
        table.Columns[2].Alignment = Justify.Right;
        foreach (VerificationResult result in results)
        {
            string verdict = result.Passed ? "ok" : "[red]FAIL[/]";
            string detail = result.Detail.Length == 0 ? "" : $" {result.Detail}";
            table.AddRow(Markup.Escape(label(result) + detail), Number(result.Value), Number(result.Bound), verdict);
        }

        Terminal.Out.Write(table);
    }

    private static string Number(double value) => value == Math.Floor(value) && Math.Abs(value) < 1e9
        ? value.ToString("0", System.Globalization.CultureInfo.InvariantCulture)
        : value.ToString("0.0e+0", System.Globalization.CultureInfo.InvariantCulture);

    private sealed class Notes : IProgress<string>
    {
        public void Report(string value) => Terminal.Note($"  {value} …");
    }
}
