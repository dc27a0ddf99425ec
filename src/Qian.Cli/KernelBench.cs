using System.Globalization;
using Qian.Inference.Measurement;
using Qian.Kernels;
using Spectre.Console;

namespace Qian.Cli;

// qian bench --kernels: the products of every weight type and all other operations, on every tier, one after the other, beside the machine's ceilings of the
// same run.
internal static class KernelBench
{
    private const long FreeBytes = 4L << 30;

    public static int Run(int? threadCount, bool quick, bool json, CancellationToken cancellation)
    {
        using BenchLock only = BenchLock.Take(Path.GetTempPath());
        using var team = new ThreadTeam(threadCount ?? Environment.ProcessorCount);
        using var ceilings = new CeilingMeter(team, FreeBytes, quick, cancellation);
        var timings = new List<ProductTiming>();
        foreach (ProductTiming timing in ProductTimings.Measure(team, quick ? 0.005 : 0.25, quick ? 1.0 / 16 : 1))
        {
            cancellation.ThrowIfCancellationRequested();
            timings.Add(timing);
        }

        ceilings.Sample();
        var operations = new List<OperationTiming>();
        foreach (OperationTiming timing in OperationTimings.Measure(team, quick ? 0.005 : 0.25, quick ? 1.0 / 16 : 1))
        {
            cancellation.ThrowIfCancellationRequested();
            operations.Add(timing);
        }

        ceilings.Sample();
        if (json)
            PrintJson(timings, operations, ceilings.Medians, team.ThreadCount, quick);
        else
            Print(timings, operations, ceilings.Medians, team.ThreadCount, quick);
        return Program.Done;
    }

    private static void Print(List<ProductTiming> timings, List<OperationTiming> operations, BenchCeilings ceilings, int threadCount, bool quick)
    {
        Table table = NewTable(2, "type", "tier", "rows", "ms", "GB/s", "of reading", "GMAC/s", "of 8-bit products");
        foreach (ProductTiming timing in timings)
        {
            table.AddRow(
                WeightFormat.Name(timing.Type), timing.Tier.ToString().ToLowerInvariant(), Number(timing.RowCount, "0"), Number(1000 * timing.Seconds, "0.00"),
                Number(timing.GigabytesPerSecond, "0.0"), Share(timing.GigabytesPerSecond, ceilings.ReadGigabytesPerSecond),
                Number(timing.GmacsPerSecond, "0.0"), Share(timing.GmacsPerSecond, ceilings.Int8GmacsPerSecond));
        }

        Terminal.Out.Write(table);
        table = NewTable(2, "operation", "tier", "ms", "GB/s", "of reading", "GMAC/s", "of float32 products");
        foreach (OperationTiming timing in operations)
        {
            table.AddRow(
                timing.Operation, timing.Tier.ToString().ToLowerInvariant(), Number(1000 * timing.Seconds, "0.000"),
                Number(timing.GigabytesPerSecond, "0.0"), Share(timing.GigabytesPerSecond, ceilings.ReadGigabytesPerSecond),
                Number(timing.GmacsPerSecond, "0.0"), Share(timing.GmacsPerSecond, ceilings.Float32GmacsPerSecond));
        }

        Terminal.Out.Write(table);
        Console.WriteLine(FormattableString.Invariant($"ceilings, {threadCount} threads: reading {ceilings.ReadGigabytesPerSecond:0.0} GB/s; 8-bit products {ceilings.Int8GmacsPerSecond:0} GMAC/s ({ceilings.Int8Form}); float32 products {ceilings.Float32GmacsPerSecond:0} GMAC/s ({ceilings.Float32Form}); best of several{(quick ? "; --quick: a look, not a measurement" : "")}"));
    }

    private static void PrintJson(List<ProductTiming> timings, List<OperationTiming> operations, BenchCeilings ceilings, int threadCount, bool quick) => JsonOutput.Print(new
    {
        quick,
        threads = threadCount,
        read_gb_per_s = ceilings.ReadGigabytesPerSecond,
        int8_gmac_per_s = ceilings.Int8GmacsPerSecond,
        float32_gmac_per_s = ceilings.Float32GmacsPerSecond,
        products = timings.Select(timing => new
        {
            type = WeightFormat.Name(timing.Type),
            tier = timing.Tier.ToString().ToLowerInvariant(),
            rows = timing.RowCount,
            seconds = timing.Seconds,
            gb_per_s = timing.GigabytesPerSecond,
            gmac_per_s = timing.GmacsPerSecond,
        }),
        operations = operations.Select(timing => new
        {
            operation = timing.Operation,
            tier = timing.Tier.ToString().ToLowerInvariant(),
            seconds = timing.Seconds,
            gb_per_s = timing.GigabytesPerSecond,
            gmac_per_s = timing.GmacsPerSecond,
        }),
    });

    private static Table NewTable(int textColumns, params string[] columns)
    {
        var table = new Table { Border = TableBorder.Simple };
        table.AddColumns(columns);
        for (int i = textColumns; i < table.Columns.Count; i++)
            table.Columns[i].Alignment = Justify.Right;
        return table;
    }

    private static string Share(double value, double ceiling) => Number(100 * value / ceiling, "0") + " %";

    private static string Number(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
}
