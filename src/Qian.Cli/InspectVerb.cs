using System.CommandLine;
using System.Globalization;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;
using Spectre.Console;

namespace Qian.Cli;

// qian inspect PATH: what a model file holds and what it will take, from its headers alone.
internal static class InspectVerb
{
    private static readonly int[] s_contexts = [4096, 32768, 131072, 262144];

    public static Command Create()
    {
        var path = new Argument<string?>("PATH") { Description = "A .gguf file, a Hugging Face folder, a LoRA adapter of either kind, or a pulled name (default: the embedded nano)", Arity = ArgumentArity.ZeroOrOne };
        var tensors = new Option<bool>("--tensors") { Description = "List every tensor" };
        var contexts = new Option<int[]>("--context", "-c") { Description = "Context to plan memory for; may be given several times (default 4096, 32768, 131072, 262144)", HelpName = "N" };
        var kv = new Option<string>("--kv") { Description = "Type of attention keys and values", DefaultValueFactory = _ => "f16" };
        kv.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, "f16", "bf16", "f32", "q8_0");
        var json = new Option<bool>("--json") { Description = "Print everything as JSON" };
        var command = new Command("inspect", "Show what a model file holds and what it takes") { path, tensors, contexts, kv, json };
        command.SetAction(parsed =>
        {
            string file = ModelPath.Of(parsed.GetValue(path));
            if (AdapterFile.Recognises(file))
            {
                if (parsed.GetValue(json))
                    AdapterListing.PrintJson(file, parsed.GetValue(tensors));
                else
                    AdapterListing.Print(file, parsed.GetValue(tensors));
                return Program.Done;
            }

            using Checkpoint checkpoint = Checkpoint.Open(file);
            int[] chosen = Contexts(parsed.GetValue(contexts), checkpoint.Config.ContextLength);
            KvType kvType = Enum.Parse<KvType>(parsed.GetValue(kv)!, ignoreCase: true);
            MemoryPlan memory = MemoryEstimate.For(checkpoint, new EngineOptions { KvType = kvType }, LayerRange.All(checkpoint.Config));
            if (parsed.GetValue(json))
                PrintJson(checkpoint, memory, chosen, parsed.GetValue(tensors));
            else
                Print(checkpoint, memory, chosen, kvType, parsed.GetValue(tensors));
            return Program.Done;
        });
        return command;
    }

    // Those asked for, else the usual ones up to what the model was made for.
    private static int[] Contexts(int[]? given, int longest)
    {
        if (given is not { Length: > 0 })
            return s_contexts[0] > longest ? [longest] : [.. s_contexts.Where(context => context <= longest)];
        foreach (int context in given)
        {
            if (context < 1)
                throw new BadRequestException($"--context: expected an integer of 1 or more, found {context}.");
        }

        return given;
    }

    private static void Print(Checkpoint checkpoint, MemoryPlan memory, int[] contexts, KvType kv, bool listTensors)
    {
        var table = new Table { Border = TableBorder.Simple, ShowHeaders = false };
        table.AddColumns("", "");
        foreach ((string name, string value) in Facts(checkpoint))
            table.AddRow(Markup.Escape(name), Markup.Escape(value));
        Terminal.Out.Write(table);

        var classes = new Table { Border = TableBorder.Simple, Title = new TableTitle("tensors", Style.Plain) };
        classes.AddColumns("class", "types", "count", "size");
        classes.Columns[2].Alignment = classes.Columns[3].Alignment = Justify.Right;
        foreach (TensorClass row in Classes(checkpoint))
            classes.AddRow(row.Name, row.Types, row.Count.ToString(CultureInfo.InvariantCulture), MemoryPlan.Format(row.Bytes));
        Terminal.Out.Write(classes);

        var plan = new Table { Border = TableBorder.Simple, Title = new TableTitle($"memory, KV in {WeightName(kv)}", Style.Plain) };
        plan.AddColumns("context", "weights", "KV", "state", "scratch", "total", "");
        foreach (int context in contexts)
        {
            bool fits = memory.TotalBytes(context) <= memory.AvailableBytes;
            plan.AddRow(
                context.ToString(CultureInfo.InvariantCulture),
                MemoryPlan.Format(memory.OwnedWeightBytes + memory.MappedWeightBytes),
                MemoryPlan.Format(context * memory.KvBytesPerToken),
                MemoryPlan.Format(memory.SequenceStateBytes),
                MemoryPlan.Format(memory.ScratchBytes),
                MemoryPlan.Format(memory.TotalBytes(context)),
                fits ? "fits" : "does not fit here");
        }

        Terminal.Out.Write(plan);
        Console.WriteLine($"{MemoryPlan.Format(memory.AvailableBytes)} available on this machine: room for {memory.LargestContext} tokens of context.");
        if (!listTensors)
            return;
        foreach (TensorSummary tensor in checkpoint.Tensors)
            Console.WriteLine($"{tensor.Name}  {tensor.TypeName}  [{string.Join(", ", tensor.Shape)}]  {tensor.ByteCount}");
    }

    private static List<(string Name, string Value)> Facts(Checkpoint checkpoint)
    {
        ModelConfig c = checkpoint.Config;
        var facts = new List<(string, string)>
        {
            ("name", c.Name),
            ("architecture", c.Architecture + (c.IsMoe ? $", {c.ExpertCount} experts, {c.ExpertsPerToken} per token" : "")),
            ("layers", $"{c.LayerCount} ({c.LayerCount - c.FullAttentionLayerCount} Gated DeltaNet, {c.FullAttentionLayerCount} gated attention){(c.MtpLayerCount > 0 ? " and an MTP head" : ", no MTP head")}"),
            ("hidden, FFN", c.IsMoe ? $"{c.HiddenSize}, {c.ExpertIntermediateSize} per expert, {c.SharedExpertIntermediateSize} shared" : $"{c.HiddenSize}, {c.IntermediateSize}"),
            ("attention", $"{c.AttentionHeads} heads, {c.KvHeads} key/value heads, {c.HeadDim} wide, {c.RotaryDim} rotated, base {c.RopeTheta.ToString(CultureInfo.InvariantCulture)}"),
            ("DeltaNet", $"{c.LinearKeyHeads} key heads, {c.LinearValueHeads} value heads ({(c.ValueHeadsInterleaved ? "GGUF" : "Hugging Face")} order), {c.LinearKeyDim} x {c.LinearValueDim}, convolution {c.ConvKernel}"),
            ("vocabulary", $"{c.VocabularySize}, embedding {(c.TiedEmbeddings ? "tied to" : "apart from")} the head"),
            ("context", $"{c.ContextLength}{(c.Yarn is { } yarn ? $", YaRN x{yarn.Factor.ToString(CultureInfo.InvariantCulture)}" : "")}"),
            ("parameters", Parameters(checkpoint).ToString("N0", CultureInfo.InvariantCulture)),
            ("template", Template(checkpoint)),
        };
        if (checkpoint.Quantization is { } quantization)
            facts.Insert(facts.Count - 1, ("quantised", quantization));
        if (checkpoint.Tensors.Count(tensor => tensor.Role is null && !tensor.IsVision) is > 0 and int unknown)
            facts.Add(("unknown tensors", unknown.ToString(CultureInfo.InvariantCulture)));
        return facts;
    }

    private static string Template(Checkpoint checkpoint)
    {
        if (checkpoint.ChatTemplate is not { } source)
            return "none of its own (Qwen3.6's is used)";
        ChatTemplateSummary s = ChatTemplate.Compile(source).Summary;
        string[] features =
        [
            .. new (bool Has, string Name)[]
            {
                (s.HasTools, "tools"), (s.HasReasoning, "reasoning"), (s.HasEnableThinking, "enable_thinking"),
                (s.HasPreserveThinking, "preserve_thinking"), (s.HasVision, "images"), (s.AcceptsDeveloperRole, "developer role"),
            }.Where(feature => feature.Has).Select(feature => feature.Name),
        ];
        return $"{source.Length} characters: {(features.Length > 0 ? string.Join(", ", features) : "plain")}";
    }

    private static long Parameters(Checkpoint checkpoint) => checkpoint.Tensors.Sum(tensor => tensor.Role is null ? 0 : tensor.ParameterCount);

    private sealed record TensorClass(string Name, string Types, int Count, long Bytes);

    private static List<TensorClass> Classes(Checkpoint checkpoint)
    {
        return
        [
            .. checkpoint.Tensors.GroupBy(ClassOf).OrderBy(group => group.Key.Order).Select(group => new TensorClass(
                group.Key.Name,
                string.Join(", ", group.GroupBy(tensor => tensor.TypeName).OrderByDescending(type => type.Count()).Select(type => type.Count() == group.Count() ? type.Key : $"{type.Key} x{type.Count()}")),
                group.Count(),
                group.Sum(tensor => tensor.ByteCount))),
        ];

        (int Order, string Name) ClassOf(TensorSummary tensor) => tensor.Role switch
        {
            null => tensor.IsVision ? (90, "vision (set aside)") : (99, "unknown (ignored)"),
            TensorRole.TokenEmbedding => (0, "embedding"),
            TensorRole.Output => (1, "output head"),
            TensorRole role when TensorShapes.IsVector(role) => (80, "norms and vectors"),
            TensorRole role when TensorShapes.IsMtp(role) => (70, "MTP projection"),
            TensorRole.AttentionQ or TensorRole.AttentionK or TensorRole.AttentionV or TensorRole.AttentionOutput => (10, "attention"),
            TensorRole.LinearConv => (80, "norms and vectors"),
            TensorRole.LinearQkv or TensorRole.LinearZ or TensorRole.LinearA or TensorRole.LinearB or TensorRole.LinearOutput => (20, "DeltaNet"),
            TensorRole.FfnGate or TensorRole.FfnUp => (30, "FFN gate, up"),
            TensorRole.FfnDown => (31, "FFN down"),
            TensorRole.ExpertGate or TensorRole.ExpertUp or TensorRole.ExpertDown => (40, "experts"),
            _ => (41, "router, shared expert"),
        };
    }

    private static string WeightName(KvType type) => type.ToString().ToLowerInvariant();

    private static void PrintJson(Checkpoint checkpoint, MemoryPlan memory, int[] contexts, bool listTensors)
    {
        JsonOutput.Print(new
        {
            path = checkpoint.Path,
            config = checkpoint.Config,
            parameters = Parameters(checkpoint),
            weight_bytes = checkpoint.WeightBytes,
            quantization = checkpoint.Quantization,
            template = checkpoint.ChatTemplate is { } source ? ChatTemplate.Compile(source).Summary : null,
            classes = Classes(checkpoint).Select(row => new { name = row.Name, types = row.Types, count = row.Count, bytes = row.Bytes }),
            memory = contexts.Select(context => new { context, total_bytes = memory.TotalBytes(context), kv_bytes = context * memory.KvBytesPerToken, fits = memory.TotalBytes(context) <= memory.AvailableBytes }),
            available_bytes = memory.AvailableBytes,
            largest_context = memory.LargestContext,
            tensors = listTensors ? checkpoint.Tensors.Select(tensor => new { name = tensor.Name, type = tensor.TypeName, shape = tensor.Shape, bytes = tensor.ByteCount }) : null,
        });
    }
}
