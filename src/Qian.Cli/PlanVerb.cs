using System.CommandLine;
using System.Globalization;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Measurement;
using Qian.Inference.Model;
using Qian.Kernels;
using Qian.Weights;
using Spectre.Console;

namespace Qian.Cli;

// qian plan MODEL: does it fit, how fast, and what else would; for a model on disk or one that is only a shape.
internal static class PlanVerb
{
    private const int UsualContext = 32768;
    private static readonly int[] s_contexts = [4096, 32768, 131072, 262144];

    public static Command Create()
    {
        var model = new Argument<string?>("MODEL") { Description = $"A model file or folder, a pulled name, or a shape that need not be on disk: {string.Join(", ", SynthShape.All.Select(shape => shape.Name))}, or short as 27b (default: the embedded nano)", Arity = ArgumentArity.ZeroOrOne };
        var type = new Option<string>("--type") { Description = "Type of a model that is only a shape", DefaultValueFactory = _ => "Q4_K_M", HelpName = "TYPE" };
        var context = new Option<int?>("--context", "-c") { Description = $"Tokens of context per sequence (default: {UsualContext}, or what the model was made for if that is less)", HelpName = "N" };
        var parallel = new Option<int>("--parallel") { Description = "Sequences at once, each with a whole context", DefaultValueFactory = _ => 1, HelpName = "N" };
        var kv = new Option<string>("--kv") { Description = "Type of attention keys and values: f16, bf16, f32 or q8_0", DefaultValueFactory = _ => "f16", HelpName = "TYPE" };
        kv.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, "f16", "bf16", "f32", "q8_0");
        var checkpoints = new Option<int>("--checkpoints") { Description = "Copies of the recurrent state kept per sequence", HelpName = "N" };
        var mtp = new Option<bool>("--mtp") { Description = "With the head that predicts a token ahead" };
        var adapter = new Option<string[]>("--adapter") { Description = "LoRA adapter that is loaded too; may be given several times", HelpName = "PATH" };
        var machine = new Option<string>("--machine") { Description = $"auto measures this machine; else a preset ({string.Join(", ", Machine.Presets.Select(preset => preset.Name))}) or a JSON file of that form", DefaultValueFactory = _ => "auto", HelpName = "NAME|FILE" };
        var threads = new Option<int?>("--threads", "-t") { Description = "Threads that compute (default: one per processor)", HelpName = "N" };
        var json = new Option<bool>("--json") { Description = "Print everything as JSON" };
        var command = new Command("plan", "Does a model fit, how fast will it be, and what would fit instead") { model, type, context, parallel, kv, checkpoints, mtp, adapter, machine, threads, json };
        command.SetAction(parsed =>
        {
            int threadCount = Within(parsed.GetValue(threads) ?? Environment.ProcessorCount, "--threads", 1, 1024);
            using Checkpoint checkpoint = Open(parsed.GetValue(model), parsed.GetValue(type)!, parsed.GetValue(mtp));
            ModelConfig config = checkpoint.Config;
            if (parsed.GetValue(mtp) && config.MtpLayerCount == 0)
                throw new BadRequestException("--mtp: this model has no such head");
            var request = new PlanRequest
            {
                ContextLength = Within(parsed.GetValue(context) ?? Math.Min(UsualContext, config.ContextLength), "--context", 1, 1 << 24),
                ParallelCount = Within(parsed.GetValue(parallel), "--parallel", 1, 4096),
                Kv = Enum.Parse<KvType>(parsed.GetValue(kv)!, ignoreCase: true),
                CheckpointCount = Within(parsed.GetValue(checkpoints), "--checkpoints", 0, 4096),
                WithMtp = parsed.GetValue(mtp),
                Adapters = [.. (parsed.GetValue(adapter) ?? []).Select(path => ReadAdapter(path, config))],
            };
            long usable = MemoryEstimate.For(checkpoint, new EngineOptions(), LayerRange.All(config)).AvailableBytes;
            Machine chosen = Choose(parsed.GetValue(machine)!, threadCount, usable);
            if (parsed.GetValue(json))
                PrintJson(checkpoint, request, chosen);
            else
                Print(checkpoint, request, chosen);
            return Program.Done;
        });
        return command;
    }

    // A file that is there wins over a shape of that name.
    private static Checkpoint Open(string? model, string type, bool mtp) =>
        model is not null && !File.Exists(model) && !Directory.Exists(model) && SynthShape.FindShort(model) is { } shape
            ? new ShapeCheckpoint(shape.ToConfig(null, mtp, shape.VocabularySize) with { Name = shape.Title }, QuantMix.Find(type))
            : Checkpoint.Open(ModelPath.Of(model));

    private static AdapterWeights ReadAdapter(string path, ModelConfig config)
    {
        using AdapterFile file = AdapterFile.Open(path);
        return file.Read(config);
    }

    // A look of two seconds: beside a benchmark or a training run it comes out too low, which is said.
    private static Machine Choose(string name, int threadCount, long usableBytes)
    {
        if (!name.Equals("auto", StringComparison.OrdinalIgnoreCase))
            return Machine.Find(name, threadCount, usableBytes);
        try
        {
            using BenchLock only = BenchLock.Take(Path.GetTempPath());
            return Machine.Find(name, threadCount, usableBytes);
        }
        catch (IOException)
        {
            Terminal.Note("a benchmark or training is running beside this measurement: the rates come out too low");
            return Machine.Find(name, threadCount, usableBytes);
        }
    }

    private static int Within(int value, string flag, int least, int most) =>
        value >= least && value <= most ? value : throw new BadRequestException($"{flag}: expected {least} to {most}, found {value}.");

    private static void Print(Checkpoint checkpoint, PlanRequest request, Machine machine)
    {
        ModelPlan plan = ModelPlan.Of(checkpoint, request);
        Console.WriteLine($"{Name(checkpoint)} on {machine.Title}");
        string products = machine.ProductGmacsPerSecond is { } gmacs ? Text($"{gmacs:0} GMAC/s of 8-bit products, of which {machine.ProductShare:0 %}") : "products not stated";
        Console.WriteLine(Text($"  {MemoryPlan.Format(machine.UsableBytes)} for the model, {machine.ReadGigabytesPerSecond:0.0} GB/s, of which {machine.ReadShare:0 %} are reached, {products} ({machine.Source})"));
        if (machine.Kind is "gpu" or "unified")
            Console.WriteLine("  rates are of an engine that runs there and reaches these shares; this one computes on the CPU");
        var memory = new Table { Border = TableBorder.Simple, ShowHeaders = false };
        memory.AddColumns("", "");
        memory.Columns[1].Alignment = Justify.Right;
        foreach ((string name, long bytes) in Classes(plan))
        {
            if (bytes > 0)
                memory.AddRow(Markup.Escape(name), MemoryPlan.Format(bytes));
        }

        memory.AddRow("in all", MemoryPlan.Format(plan.TotalBytes));
        Terminal.Out.Write(memory);
        if (plan.Fits(machine))
            Console.WriteLine($"fits, with room for {Math.Min(plan.LargestContext(machine), checkpoint.Config.ContextLength)} tokens of context{(request.ParallelCount > 1 ? " each" : "")}");
        else
            Console.WriteLine($"does not fit: {MemoryPlan.Format(plan.TotalBytes - machine.UsableBytes)} too much. Any of these would do: {string.Join("; ", PlanAdvice.For(checkpoint, request, machine))}");
        foreach ((string name, double? rate) in Rates(plan, request, machine))
            Console.WriteLine($"{name}: {(rate is { } tokens ? Text($"about {tokens:0.0} tokens/s") : "not known, the machine's products are not stated")}");

        var table = new Table { Border = TableBorder.Simple, Title = new TableTitle(Text($"every type: memory at a context, decode at its end; {request.ParallelCount} at once, KV {KvName(request)}"), Style.Plain) };
        table.AddColumn("type");
        int[] contexts = Contexts(checkpoint);
        foreach (int context in contexts)
            table.AddColumn(new TableColumn(Text($"{context}")).RightAligned());
        foreach (string type in PlanAdvice.Types)
        {
            table.AddRow([type, .. contexts.Select(context =>
            {
                ModelPlan cell = Cell(checkpoint, request, type, context);
                return cell.Fits(machine) ? Text($"{MemoryPlan.Format(cell.TotalBytes)}, {cell.DecodeRate(machine, context):0.0}/s") : $"{MemoryPlan.Format(cell.TotalBytes)}, no";
            })]);
        }

        Terminal.Out.Write(table);
    }

    private static IEnumerable<(string Name, long Bytes)> Classes(ModelPlan plan) =>
    [
        ("weights", plan.WeightBytes), ("MTP head", plan.MtpBytes), ("keys and values", plan.KvBytes), ("recurrent state", plan.StateBytes),
        ("checkpoints of it", plan.CheckpointBytes), ("adapters", plan.AdapterBytes), ("scratch", plan.ScratchBytes),
    ];

    private static IEnumerable<(string Name, double? Rate)> Rates(ModelPlan plan, PlanRequest request, Machine machine)
    {
        string together = request.ParallelCount > 1 ? $", {request.ParallelCount} sequences together" : "";
        yield return ("prefill, 512 tokens", plan.PrefillRate(machine, 512));
        yield return ($"decode{together}", plan.DecodeRate(machine, 0));
        yield return ($"decode after {request.ContextLength} tokens{together}", plan.DecodeRate(machine, request.ContextLength));
    }

    private static int[] Contexts(Checkpoint checkpoint) =>
        s_contexts[0] > checkpoint.Config.ContextLength ? [checkpoint.Config.ContextLength] : [.. s_contexts.Where(context => context <= checkpoint.Config.ContextLength)];

    private static ModelPlan Cell(Checkpoint checkpoint, PlanRequest request, string type, int context)
    {
        using var shape = new ShapeCheckpoint(checkpoint.Config, QuantMix.Find(type));
        return ModelPlan.Of(shape, request with { ContextLength = context });
    }

    private static void PrintJson(Checkpoint checkpoint, PlanRequest request, Machine machine)
    {
        ModelPlan plan = ModelPlan.Of(checkpoint, request);
        bool fits = plan.Fits(machine);
        JsonOutput.Print(new
        {
            model = Name(checkpoint),
            context = request.ContextLength,
            parallel = request.ParallelCount,
            kv = KvName(request),
            machine,
            bytes = Classes(plan).ToDictionary(row => row.Name.Replace(' ', '_'), row => row.Bytes),
            total_bytes = plan.TotalBytes,
            fits,
            largest_context = plan.LargestContext(machine),
            advice = fits ? [] : PlanAdvice.For(checkpoint, request, machine),
            prefill_tokens_per_second = plan.PrefillRate(machine, 512),
            decode_tokens_per_second = plan.DecodeRate(machine, 0),
            decode_at_context_tokens_per_second = plan.DecodeRate(machine, request.ContextLength),
            table = PlanAdvice.Types.SelectMany(type => Contexts(checkpoint).Select(context => (type, context, cell: Cell(checkpoint, request, type, context))))
                .Select(row => new { row.type, row.context, total_bytes = row.cell.TotalBytes, fits = row.cell.Fits(machine), decode_tokens_per_second = row.cell.DecodeRate(machine, row.context) }),
        });
    }

    private static string Name(Checkpoint checkpoint) => checkpoint is ShapeCheckpoint ? checkpoint.Path : Path.GetFileName(Path.TrimEndingDirectorySeparator(checkpoint.Path));

    private static string KvName(PlanRequest request) => request.Kv.ToString().ToLowerInvariant();

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
