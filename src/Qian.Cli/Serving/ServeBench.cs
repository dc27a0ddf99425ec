using Qian.Inference;
using Qian.Inference.Measurement;
using Qian.Server;

namespace Qian.Cli.Serving;

// One run of `qian bench --serve`: which engine and which server each part gets. Parts that measure run before the one that loads the
// machine. A server that is given has only the soak: what the others need happens inside the process.
internal sealed class ServeBench(string path, EngineOptions options, ServeBenchRequest request, IProgress<string>? progress, CancellationToken cancellation)
{
    // So that states are given up and come again within the first minute.
    private const long SoakPrefixBytes = 256L << 20;
    private const int SoakContext = 8192;
    private const int StreamContext = 32_768;
    private const int StreamPlaces = 10;

    public async Task<ServeReport> RunAsync()
    {
        var report = new ServeReport { Model = request.Server?.ToString() ?? path, ThreadCount = request.Server is null ? options.ThreadCount ?? Environment.ProcessorCount : null };
        if (request.Server is { } given)
        {
            report.Soak = await SoakGivenAsync(given);
            return report;
        }

        if ((request.Parts & (ServePart.Overhead | ServePart.Gaps | ServePart.Batch)) != 0)
            await MeasureStreamsAsync(report);
        if (request.Parts.HasFlag(ServePart.Resume))
            report.Resume = await ResumeAsync();
        if (request.Parts.HasFlag(ServePart.Soak))
            report.Soak = await SoakOwnAsync();
        return report;
    }

    private async Task MeasureStreamsAsync(ServeReport report)
    {
        progress?.Report("loading");
        using Engine engine = Engine.Load(path, options with { Speculation = Speculation.Off, ContextLength = Context(StreamContext) }, null, cancellation);
        await using QianServer server = await StartAsync(engine, StreamPlaces);
        using var client = new ServeClient(server.Address);
        var measures = new StreamMeasures(engine, client, request.Quick, progress, cancellation);
        if (request.Parts.HasFlag(ServePart.Overhead))
            report.Overhead = await measures.MeasureOverheadAsync();
        if (request.Parts.HasFlag(ServePart.Gaps))
            report.Gaps = await measures.MeasureGapsAsync();
        if (request.Parts.HasFlag(ServePart.Batch))
            report.Batch = await measures.MeasureBatchAsync();
    }

    private async Task<ResumeReport> ResumeAsync()
    {
        DirectoryInfo folder = Directory.CreateDirectory(Path.Combine(request.Folder ?? Path.GetTempPath(), $"qian-bench-{Environment.ProcessId}"));
        try
        {
            return await ResumeMeasure.RunAsync(path, options, request.PrefixTokens, folder.FullName, progress, cancellation);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private async Task<SoakReport> SoakOwnAsync()
    {
        SoakScript[] scripts = Scripts();
        ServeReply[][] expected;
        EngineOptions own = options with { ContextLength = Context(SoakContext), PrefixCacheBytes = SoakPrefixBytes };
        progress?.Report("loading, to ask alone");
        using (Engine cold = Engine.Load(path, own with { PrefixCacheBytes = 0, Speculation = Speculation.Off }, null, cancellation))
        {
            await using QianServer server = await StartAsync(cold, 1);
            using var client = new ServeClient(server.Address);
            expected = await SoakRun.AskColdAsync(client, scripts, progress, cancellation);
        }

        progress?.Report("loading, for all");
        using Engine engine = Engine.Load(path, own, null, cancellation);
        await using QianServer shared = await StartAsync(engine, request.ParallelCount);
        return await new SoakRun(scripts, expected, request.Soak).RunAsync(shared.Address, isOwnServer: true, progress, cancellation);
    }

    // Asked alone before it is asked by all. What it knew before cannot be told.
    private async Task<SoakReport> SoakGivenAsync(Uri address)
    {
        SoakScript[] scripts = Scripts();
        using var client = new ServeClient(address, request.Soak.Key);
        ServeReply[][] expected = await SoakRun.AskColdAsync(client, scripts, progress, cancellation);
        return await new SoakRun(scripts, expected, request.Soak).RunAsync(address, isOwnServer: false, progress, cancellation);
    }

    private SoakScript[] Scripts() => [.. Enumerable.Range(0, request.Quick ? 8 : 48).Select(i => new SoakScript(i, request.Quick ? 40 : 700))];

    // Nobody is turned away: who leaves may hold a place in the queue for a moment more.
    private Task<QianServer> StartAsync(Engine engine, int parallelCount) =>
        QianServer.StartAsync(engine, new ServerOptions { Port = 0, ModelName = "bench", ParallelCount = parallelCount, QueueLimit = 4 * request.Soak.ClientCount }, Console.Error, cancellation);

    private int Context(int usual) => options.ContextLength ?? usual;
}

internal sealed record ServeBenchRequest
{
    public required ServePart Parts { get; init; }

    public required SoakRequest Soak { get; init; }

    // Of the soak: replies generated side by side.
    public required int ParallelCount { get; init; }

    // Of the resume.
    public required int PrefixTokens { get; init; }

    // Where the states of the resume lie; null for the system's folder.
    public string? Folder { get; init; }

    // A server that runs already; null starts one in this process.
    public Uri? Server { get; init; }

    // Short windows: shows that everything works, measures little.
    public bool Quick { get; init; }
}
