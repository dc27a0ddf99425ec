using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using Qian.Inference;
using Qian.Inference.Measurement;

namespace Qian.Cli.Serving;

// The options of `qian bench --serve`, and what it prints.
internal sealed class ServeBenchFlags
{
    private readonly Option<ServePart[]> _serve = new("--serve") { Description = "Measure the server instead: all of overhead, gaps, batch, resume and soak, or those that are named", HelpName = "PARTS", Arity = ArgumentArity.ZeroOrMore, AllowMultipleArgumentsPerToken = true };
    private readonly Option<int> _clients = new("--clients") { Description = "Clients of the soak", HelpName = "N", DefaultValueFactory = _ => 64 };
    private readonly Option<double> _minutes = new("--minutes") { Description = "Length of the soak", HelpName = "M", DefaultValueFactory = _ => 10 };
    private readonly Option<int> _parallel = new("--parallel") { Description = "Replies that the soaked server generates side by side", HelpName = "N", DefaultValueFactory = _ => 8 };
    private readonly Option<int> _prefix = new("--prefix-tokens") { Description = "Length of the prefix that is resumed", HelpName = "N", DefaultValueFactory = _ => 30_000 };
    private readonly Option<string?> _folder = new("--folder") { Description = "Where that prefix is written for the time of the run (default: the system's folder for such files)", HelpName = "DIR" };
    private readonly Option<string?> _url = new("--url") { Description = "Soak this server, not one in this process; its key, if it asks for one, in QIAN_API_KEY", HelpName = "URL" };

    public ServeBenchFlags(Command command)
    {
        foreach (Option option in (Option[])[_serve, _clients, _minutes, _parallel, _prefix, _folder, _url])
            command.Add(option);
    }

    public bool AreGiven(ParseResult parsed) => parsed.GetResult(_serve) is { Implicit: false };

    public async Task<int> RunAsync(ParseResult parsed, string path, EngineOptions options, bool quick, bool json, IProgress<string>? progress, CancellationToken cancellation)
    {
        ServeBenchRequest request = Request(parsed, quick);
        using BenchLock only = BenchLock.Take(Path.GetTempPath());
        ServeReport report = await new ServeBench(path, options, request, progress, cancellation).RunAsync();
        if (json)
            JsonOutput.Print(report);
        else
            Print(report);
        return report.Soak?.IsSound == false || report.Resume is { } resume && resume.CachedTokens != resume.PrefixTokens ? Program.Failed : Program.Done;
    }

    private ServeBenchRequest Request(ParseResult parsed, bool quick)
    {
        ServePart parts = ServePart.None;
        foreach (ServePart part in parsed.GetValue(_serve) ?? [])
            parts |= part;
        Uri? server = null;
        if (parsed.GetValue(_url) is { } url && (!Uri.TryCreate(url, UriKind.Absolute, out server) || server.Scheme is not ("http" or "https")))
            throw new BadRequestException($"--url: expected an address such as http://127.0.0.1:8080, found '{url}'.");
        Require(parsed.GetValue(_clients), 1, 4096, "--clients");
        Require(parsed.GetValue(_parallel), 1, 256, "--parallel");
        Require(parsed.GetValue(_prefix), 64, 1 << 22, "--prefix-tokens");
        if (parsed.GetValue(_minutes) is not (> 0 and <= 10_000))
            throw new BadRequestException("--minutes: expected more than 0, at most 10000.");
        return new ServeBenchRequest
        {
            Parts = parts == ServePart.None ? ServePart.All : parts,
            Soak = new SoakRequest { ClientCount = parsed.GetValue(_clients), Time = TimeSpan.FromMinutes(parsed.GetValue(_minutes)), Key = server is null ? null : Environment.GetEnvironmentVariable("QIAN_API_KEY") },
            ParallelCount = parsed.GetValue(_parallel),
            PrefixTokens = parsed.GetValue(_prefix),
            Folder = parsed.GetValue(_folder),
            Server = server,
            Quick = quick,
        };
    }

    private static void Require(int value, int least, int most, string flag)
    {
        if (value < least || value > most)
            throw new BadRequestException($"{flag}: expected {least} to {most}, found {value}.");
    }

    private static void Print(ServeReport report)
    {
        if (report.Overhead is { } overhead)
        {
            Say($"overhead: {overhead.Milliseconds:0.000} ms per streamed token beyond the engine ({overhead.EngineMilliseconds:0.000} ms by the engine, {overhead.HttpMilliseconds:0.000} ms by HTTP, medians of {overhead.RoundCount} rounds of {overhead.TokenCount} tokens in turns; best rounds {overhead.EngineBest:0.000} and {overhead.HttpBest:0.000}, {overhead.BestMilliseconds:0.000} apart){Others(overhead.ForeignShare)}");
        }

        if (report.Gaps is { } gaps)
        {
            Say($"gaps between tokens of {gaps.StreamCount} streams: {Text(gaps.Alone)}; while a prompt of {gaps.PromptTokens} tokens is read {Text(gaps.Beside)}: {gaps.Ratio:0.00} x at the median{Others(gaps.ForeignShare)}");
            Say($"  that prompt: {gaps.ReadingAlone:0.0} tokens/s alone, {gaps.ReadingBeside:0.0} beside the streams");
        }

        if (report.Batch is { } batch)
            Say($"{batch.StreamCount} streams: {batch.Total:0.00} tokens/s together, {batch.Ratio:0.00} x one stream ({batch.SingleBefore:0.00} before, {batch.SingleAfter:0.00} after){Others(batch.ForeignShare)}");
        if (report.Resume is { } resume)
        {
            Say($"resume of {resume.PrefixTokens} tokens from disk: {resume.ResumeSeconds:0.00} s (first token after {resume.FromDiskSeconds:0.00} s, with the prefix in memory after {resume.FromMemorySeconds:0.00} s); {resume.PromptTokens - resume.CachedTokens} of {resume.PromptTokens} tokens read; {MemoryPlan.Format(resume.FileBytes)} of files, written in {resume.SaveSeconds:0.0} s{Others(resume.ForeignShare)}");
        }

        if (report.Soak is { } soak)
            Print(soak);
    }

    private static void Print(SoakReport soak)
    {
        Say($"soak: {soak.ClientCount} clients for {soak.Seconds:0} s: {soak.FinishedCount} replies came to their end, {soak.DifferingCount} of them not as when asked alone; {soak.LeftCount} were left by their client; {soak.FaultCount} failed ({soak.RefusedCount} turned away); {soak.HeldPlaces} places still taken at the end{Others(soak.ForeignShare)}");
        Say($"  {soak.OutputTokens / soak.Seconds:0} tokens/s; {100.0 * soak.CachedTokens / Math.Max(1, soak.PromptTokens):0} % of {soak.PromptTokens} prompt tokens known");
        Say(soak.Memory is { } memory
            ? (FormattableString)$"  working set: {MemoryPlan.Format(memory.FirstMinuteBytes)} in the first minute, {MemoryPlan.Format(memory.SettledBytes)} after it, {MemoryPlan.Format(memory.EndBytes)} at the end ({memory.GrownBytes / (double)(1 << 20):+0.0;-0.0} MiB), at most {MemoryPlan.Format(memory.PeakBytes)}"
            : $"  working set: not told (another process, or less than 80 s)");
        foreach (string fault in soak.Faults)
            Console.WriteLine($"  {fault}");
    }

    private static string Text(GapFigures gaps) => string.Create(CultureInfo.InvariantCulture, $"{gaps.Median:0.00} ms, 95 % within {gaps.Percentile95:0.00}, longest {gaps.Longest:0.00} ({gaps.Count})");

    private static string Others(double? share) => share is { } known ? string.Create(CultureInfo.InvariantCulture, $"; others had {100 * known:0} % of the processors") : "";

    private static void Say(FormattableString text) => Console.WriteLine(FormattableString.Invariant(text));
}
