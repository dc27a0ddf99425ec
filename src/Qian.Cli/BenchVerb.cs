using System.CommandLine;
using System.Globalization;
using Qian.Cli.Serving;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Measurement;
using Qian.Kernels;
using Spectre.Console;

namespace Qian.Cli;

// qian bench -m MODEL: what the machine can do and what share of it the model gets, measured in turns in one run.
internal static class BenchVerb
{
    public static Command Create()
    {
        var command = new Command("bench", "Measure load, prefill and decode against the machine's ceilings");
        var model = new ModelOptions(command, withAdapter: true);
        var defaults = new BenchRequest();
        var prefill = new Option<int[]?>("--prefill") { Description = "Prompt lengths to measure (default 128 512 2048; 0 for none)", HelpName = "N", AllowMultipleArgumentsPerToken = true };
        var depth = new Option<int[]?>("--depth") { Description = "Tokens of context to decode at (default 0 4096 32768); contexts are filled with seeded values", HelpName = "N", AllowMultipleArgumentsPerToken = true };
        var batch = new Option<int[]?>("--batch") { Description = "Sequences that decode together (default 1 2 4 8)", HelpName = "N", AllowMultipleArgumentsPerToken = true };
        var drafts = new Option<int[]?>("--drafts") { Description = "Tokens that the MTP head guesses per pass, 0.8, 0.7, 0.6 of them taken as right (default 1 2 3 where the model has one; 0 for none)", HelpName = "N", AllowMultipleArgumentsPerToken = true };
        var budget = new Option<double>("--budget") { Description = "Seconds of measuring; what would take longer is left out and named", HelpName = "SECONDS", DefaultValueFactory = _ => defaults.BudgetSeconds };
        var quick = new Option<bool>("--quick") { Description = "Short windows, prefill 128, depths 0 and 1024, batches 1 and 4: a look, not a measurement" };
        var kernels = new Option<bool>("--kernels") { Description = "Measure the products of every weight type and the other operations on every tier instead of a model" };
        var json = new Option<bool>("--json") { Description = "Print the results as JSON" };
        var svg = new Option<string?>("--svg") { Description = "Write a chart of the shares as SVG", HelpName = "FILE" };
        foreach (Option option in (Option[])[prefill, depth, batch, drafts, budget, quick, kernels, json, svg])
            command.Add(option);
        var serve = new ServeBenchFlags(command);
        command.SetAction((parsed, cancellation) =>
        {
            bool isQuick = parsed.GetValue(quick);
            if (serve.AreGiven(parsed))
                return serve.RunAsync(parsed, model.Path(parsed), model.Engine(parsed), isQuick, parsed.GetValue(json), NewNotes(), cancellation);
            if (parsed.GetValue(kernels))
            {
                if (parsed.GetValue(svg) is not null)
                    throw new BadRequestException("--svg: there is no chart of --kernels; --json prints its figures");
                return Task.FromResult(KernelBench.Run(model.Engine(parsed).ThreadCount, isQuick, parsed.GetValue(json), cancellation));
            }

            BenchRequest request = isQuick ? new BenchRequest { PrefillCounts = [128], Depths = [0, 1024], Batches = [1, 4], DraftCounts = [3], Quick = true } : defaults;
            request = request with
            {
                PrefillCounts = parsed.GetValue(prefill) is { Length: > 0 } counts ? [.. counts.Where(count => count != 0)] : request.PrefillCounts,
                Depths = parsed.GetValue(depth) is { Length: > 0 } depths ? depths : request.Depths,
                Batches = parsed.GetValue(batch) is { Length: > 0 } batches ? batches : request.Batches,
                DraftCounts = parsed.GetValue(drafts) is { Length: > 0 } guesses ? [.. guesses.Where(count => count != 0)] : request.DraftCounts,
                AdapterPath = model.AdapterPath(parsed),
                BudgetSeconds = parsed.GetValue(budget),
            };
            return Task.FromResult(Run(model.Path(parsed), model.Engine(parsed), request, parsed.GetValue(json), parsed.GetValue(svg), cancellation));
        });
        return command;
    }

    private static int Run(string path, EngineOptions options, BenchRequest request, bool json, string? svg, CancellationToken cancellation)
    {
        using BenchLock only = BenchLock.Take(Path.GetTempPath());
        // Opened now: a path that cannot be written should not come to light after minutes of measuring.
        using PartialFile? chart = svg is null ? null : new PartialFile(svg);
        IProgress<string>? progress = NewNotes();
        progress?.Report("loading");
        BenchReport report = Benchmark.Run(path, options, request, progress, null, cancellation);
        if (chart is not null)
            BenchChart.Write(report, chart);
        if (json)
            PrintJson(report, request);
        else
            Print(report, request);
        return Program.Done;
    }

    private static Notes? NewNotes() => Console.IsErrorRedirected ? null : new Notes();

    private static void Print(BenchReport report, BenchRequest request)
    {
        BenchCeilings ceilings = report.Ceilings;
        var table = new Table { Border = TableBorder.Simple, Title = new TableTitle(Markup.Escape(Name(report)), Style.Plain) };
        table.AddColumns("point", "tokens/s", "ms/pass", "GB/s", "of reading", "GMAC/s", "of products", "CPU of others", "B/token");
        for (int i = 1; i < table.Columns.Count; i++)
            table.Columns[i].Alignment = Justify.Right;
        foreach (BenchPoint point in report.Points)
        {
            string foreign = point.ForeignShare is { } share ? Percent(share) : "?";
            table.AddRow(
                point.Name, Number(point.TokensPerSecond, "0.00"), Number(point.MillisecondsPerPass, "0.0"), Number(point.GigabytesPerSecond, "0.0"), Percent(point.ReadShare),
                Number(point.GmacsPerSecond, "0.0"), Percent(point.ProductShare), point.IsDisturbed ? $"{foreign} (disturbed)" : foreign, Number(point.AllocatedBytesPerToken, "0"));
        }

        Terminal.Out.Write(table);
        foreach (string line in report.LeftOut)
            Console.WriteLine($"left out: {line}");
        Console.WriteLine(FormattableString.Invariant($"ceilings, {report.ThreadCount} threads: reading {ceilings.ReadGigabytesPerSecond:0.0} GB/s ({MemoryPlan.Format(report.ReadBufferBytes)} in order); 8-bit products {ceilings.Int8GmacsPerSecond:0} GMAC/s ({ceilings.Int8Form}); float32 products {ceilings.Float32GmacsPerSecond:0} GMAC/s ({ceilings.Float32Form})"));
        foreach (string note in report.LoadNotes)
            Terminal.Note(note);
        if (report.Adapter is { } adapter)
            Console.WriteLine($"with the adapter {Path.GetFileName(Path.TrimEndingDirectorySeparator(adapter))}, whose own bytes and products are not counted");
        Console.WriteLine(FormattableString.Invariant($"{(report.IsMapped ? "mapped from the packed cache in" : "load")} {report.LoadSeconds:0.00} s, {report.LoadedBytes / report.LoadSeconds / 1e9:0.00} GB/s of file; native memory {MemoryPlan.Format(report.NativeBytes)}, peak of the process with the read buffer {MemoryPlan.Format(report.PeakBytes)}"));
        Console.WriteLine($"tier {IsaTier.Products.ToString().ToLowerInvariant()}; medians of windows between which the ceilings were measured; products are those with weights, of {(report.UsesInt8 ? "8 bits" : "float32")}{(request.Quick ? "; --quick: a look, not a measurement" : "")}");
    }

    private static void PrintJson(BenchReport report, BenchRequest request) => JsonOutput.Print(new
    {
        model = Name(report),
        quick = request.Quick,
        date = DateTime.UtcNow.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture),
        version = Verbs.Version,
        machine = new
        {
            cpu = ProcessorName.Text,
            os = System.Runtime.InteropServices.RuntimeInformation.OSDescription,
            runtime = System.Runtime.InteropServices.RuntimeInformation.FrameworkDescription,
            processors = Environment.ProcessorCount,
            threads = report.ThreadCount,
            isa = IsaTier.Products.ToString().ToLowerInvariant(),
        },
        ceilings = new
        {
            read_gb_per_s = report.Ceilings.ReadGigabytesPerSecond,
            read_buffer_bytes = report.ReadBufferBytes,
            int8_gmac_per_s = report.Ceilings.Int8GmacsPerSecond,
            int8_form = report.Ceilings.Int8Form,
            float32_gmac_per_s = report.Ceilings.Float32GmacsPerSecond,
            float32_form = report.Ceilings.Float32Form,
        },
        adapter = report.Adapter is null ? null : Path.GetFileName(Path.TrimEndingDirectorySeparator(report.Adapter)),
        load = new { mapped = report.IsMapped, seconds = report.LoadSeconds, file_bytes = report.LoadedBytes, gb_per_s = report.LoadedBytes / report.LoadSeconds / 1e9 },
        memory = new { native_bytes = report.NativeBytes, peak_bytes = report.PeakBytes },
        products = report.UsesInt8 ? "int8" : "float32",
        points = report.Points.Select(point => new
        {
            name = point.Name,
            kind = point.Kind.ToString().ToLowerInvariant(),
            depth = point.Depth,
            rows = point.Rows,
            samples = point.SampleCount,
            tokens_per_s = point.TokensPerSecond,
            ms_per_pass = point.MillisecondsPerPass,
            gb_per_s = point.GigabytesPerSecond,
            gmac_per_s = point.GmacsPerSecond,
            read_ceiling_gb_per_s = point.ReadCeiling,
            product_ceiling_gmac_per_s = point.ProductCeiling,
            read_share = point.ReadShare,
            product_share = point.ProductShare,
            others_cpu_share = point.ForeignShare,
            disturbed = point.IsDisturbed,
            allocated_bytes_per_token = point.AllocatedBytesPerToken,
        }),
        left_out = report.LeftOut,
    });

    private static string Name(BenchReport report) => Path.GetFileName(Path.TrimEndingDirectorySeparator(report.Model));

    private static string Number(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    private static string Percent(double share) => Number(100 * share, "0.0") + " %";

    private sealed class Notes : IProgress<string>
    {
        public void Report(string value) => Terminal.Note($"  {value} …");
    }
}
