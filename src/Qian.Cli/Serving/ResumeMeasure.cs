using System.Diagnostics;
using Qian.Inference;
using Qian.Inference.Measurement;
using Qian.Inference.Model;
using Qian.Inference.Runtime;
using Qian.Server;

namespace Qian.Cli.Serving;

// A conversation of a long prefix that is gone on with after a restart. Nobody reads the prefix: its state is made of seeded values,
// kept under seeded tokens, and written as the state of any prompt; then another engine and server are started over the same folder
// and asked for the prefix and some new tokens, and again with others, when the state is in memory.
internal static class ResumeMeasure
{
    private const int NewTokens = 32;
    private const int Room = 256;

    // `folder` is this run's own, and empty.
    public static async Task<ResumeReport> RunAsync(string path, EngineOptions options, int prefixTokens, string folder, IProgress<string>? progress, CancellationToken cancellation)
    {
        options = Bounded(path, options with { Speculation = Speculation.Off, ContextLength = prefixTokens + Room, PrefixDirectory = folder, PrefixDirectoryBytes = long.MaxValue });
        int[] prefix;
        long start;
        progress?.Report("resume: loading, to make the prefix");
        using (Engine engine = Engine.Load(path, options, null, cancellation))
        {
            prefix = StreamMeasures.Prompt(engine, prefixTokens, 1);
            using (var context = new SeededContext(engine.Model))
                engine.Prefixes.Keep(new PrefixRoot(null, ""), context.NewSequence(prefixTokens, 0, cancellation), prefix, isMinor: false);
            if (engine.Prefixes.Size.Count != 1)
                throw new IOException("the state of the prefix does not fit into the memory for prefixes");
            progress?.Report("resume: writing the prefix");
            start = Stopwatch.GetTimestamp();
        }

        double saveSeconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        long fileBytes = new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).Sum(file => file.Length);
        progress?.Report("resume: loading again");
        using Engine again = Engine.Load(path, options, null, cancellation);
        await using QianServer server = await QianServer.StartAsync(again, new ServerOptions { Port = 0 }, Console.Error, cancellation);
        using var client = new ServeClient(server.Address);
        int word = StreamMeasures.WordOf(again);
        progress?.Report("resume: going on");
        // What a first request compiles and touches is no part of a resume.
        await FirstTokenAsync(client, StreamMeasures.Prompt(again, NewTokens, 2), word, cancellation);
        ForeignLoad load = ForeignLoad.Start();
        (double fromDisk, ServeReply reply) = await FirstTokenAsync(client, [.. prefix, .. StreamMeasures.Prompt(again, NewTokens, 3)], word, cancellation);
        double? foreign = load.Share();
        if (again.Prefixes.LoadedCount != 1)
            throw new IOException($"the prefix was not taken from the disk: {again.Prefixes.LoadedCount} states were");
        (double fromMemory, _) = await FirstTokenAsync(client, [.. prefix, .. StreamMeasures.Prompt(again, NewTokens, 4)], word, cancellation);
        return new ResumeReport(prefixTokens, NewTokens, reply.PromptCount, reply.CachedCount, fileBytes, saveSeconds, fromDisk, fromMemory, foreign);
    }

    // Memory for the prefix and what continues it, not more.
    private static EngineOptions Bounded(string path, EngineOptions options)
    {
        using Inference.Formats.Checkpoint checkpoint = Inference.Formats.Checkpoint.Open(path, options.MtpPath);
        MemoryPlan plan = MemoryEstimate.For(checkpoint, options with { PrefixCacheBytes = 0 }, LayerRange.All(checkpoint.Config));
        return options with { PrefixCacheBytes = plan.KvBytesPerToken * (options.ContextLength!.Value + Room) + 4 * plan.SequenceStateBytes };
    }

    private static async Task<(double Seconds, ServeReply Reply)> FirstTokenAsync(ServeClient client, int[] prompt, int word, CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp(), first = 0;
        ServeReply reply = await client.MeasureAsync(StreamMeasures.Body(prompt, 2, word), Came, cancellation);
        return (Stopwatch.GetElapsedTime(start, first).TotalSeconds, reply);

        bool Came(long time)
        {
            first = first == 0 ? time : first;
            return true;
        }
    }
}
