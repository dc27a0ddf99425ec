using System.CommandLine;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Cli;

// qian adapter merge and qian adapter convert: LoRA adapters into weights, and from one format to the other. Looking at one is
// qian inspect, running with one is run and chat --adapter.
internal static class AdapterVerb
{
    private static readonly string[] s_mergedTypes =
        ["F32", "BF16", "F16", "Q8_0", "Q6_K", "Q5_K", "Q5_1", "Q5_0", "Q4_K", "Q4_1", "Q4_0", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS", "MXFP4"];

    public static Command Create() => new("adapter", "Merge a LoRA adapter into a model, or convert it (PEFT folder, GGUF)") { Merge(), Convert() };

    private static Command Merge()
    {
        Option<string?> model = Model();
        var adapter = new Option<string>("--adapter") { Description = "PEFT folder or .gguf adapter", HelpName = "PATH", Required = true };
        var output = new Option<string>("--out", "-o") { Description = "File to write (.gguf)", HelpName = "FILE", Required = true };
        var type = new Option<string>("--type") { Description = $"Type of the matrices: {string.Join(", ", s_mergedTypes)}", DefaultValueFactory = _ => "BF16", HelpName = "TYPE" };
        type.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, s_mergedTypes);
        Option<bool> force = Force();
        var command = new Command("merge", "Write the model with the adapter in its weights, summed in float32, as one GGUF file") { model, adapter, output, type, force };
        command.SetAction((parsed, cancellation) =>
        {
            string path = parsed.GetValue(output)!;
            Require(parsed.GetValue(force), path);
            if (!IsGguf(path))
                throw new BadRequestException($"--out {path}: expected a name that ends in .gguf.");
            WeightFormat.TryParse(parsed.GetValue(type)!, out WeightType weightType);
            using Checkpoint checkpoint = Checkpoint.Open(ModelPath.Of(parsed.GetValue(model)));
            AdapterWeights weights = Read(parsed.GetValue(adapter)!, checkpoint.Config);
            LoadBar.Under($"writing {Path.GetFileName(path)}", progress =>
            {
                GgufExport.Write(checkpoint, path, weightType, adapter: weights, progress: progress, cancellation: cancellation);
                return true;
            });
            Console.WriteLine($"{path}: {checkpoint.Config.Name} with {weights.Name} in {weights.Targets.Count} of its matrices, {WeightFormat.Name(weightType)}, {MemoryPlan.Format(new FileInfo(path).Length)}");
            return Task.FromResult(Program.Done);
        });
        return command;
    }

    private static Command Convert()
    {
        var input = new Argument<string>("IN") { Description = "PEFT folder or .gguf adapter" };
        var output = new Argument<string>("OUT") { Description = "A .gguf file to write, or the folder for a PEFT adapter" };
        Option<string?> model = Model();
        var type = new Option<string?>("--type") { Description = "Type of the matrices: F32 (default), F16 in a GGUF file, BF16 in a folder", HelpName = "TYPE" };
        type.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, "F32", "F16", "BF16");
        var textClass = new Option<bool>("--text-class") { Description = "Name a folder's modules for the class of the text model alone (model.layers…), not the multimodal one (model.language_model.layers…)" };
        Option<bool> force = Force();
        var command = new Command("convert", "Write an adapter in the other format, or in another type; the model says its shape and the order of its value heads") { input, output, model, type, textClass, force };
        command.SetAction(parsed =>
        {
            string path = parsed.GetValue(output)!, typeName = parsed.GetValue(type)?.ToUpperInvariant() ?? "F32";
            bool isGguf = IsGguf(path);
            foreach (string file in isGguf ? [path] : (string[])[Path.Combine(path, PeftAdapter.ConfigName), Path.Combine(path, PeftAdapter.WeightsName)])
                Require(parsed.GetValue(force), file);
            if (typeName == (isGguf ? "BF16" : "F16"))
                throw new BadRequestException($"--type {typeName}: {(isGguf ? "a GGUF adapter holds F32 or F16" : "a PEFT folder holds F32 or BF16")}.");
            using Checkpoint checkpoint = Checkpoint.Open(ModelPath.Of(parsed.GetValue(model)));
            AdapterWeights weights = Read(parsed.GetValue(input)!, checkpoint.Config);
            if (isGguf)
                GgufAdapterWriter.Write(weights, checkpoint.Config, path, typeName == "F16" ? WeightType.F16 : WeightType.F32);
            else
                PeftWriter.Write(weights, checkpoint.Config, path, typeName == "BF16" ? SafetensorsType.BF16 : SafetensorsType.F32, parsed.GetValue(textClass) ? PeftWriter.TextPrefix : PeftWriter.MultimodalPrefix);
            Console.WriteLine($"{path}: {weights.Targets.Count} projections, {typeName}, {(isGguf ? "GGUF" : "Hugging Face")} order of the value heads");
            return Program.Done;
        });
        return command;
    }

    // What the model has no place for is said: it is lost in what is written.
    private static AdapterWeights Read(string path, ModelConfig config)
    {
        using AdapterFile file = AdapterFile.Open(path);
        AdapterWeights weights = file.Read(config);
        if (file.VisionCount > 0)
            Terminal.Note($"{file.VisionCount} projections of the vision tower are left out.");
        if (weights.Targets.Count < file.Entries.Count)
            Terminal.Note($"{file.Entries.Count - weights.Targets.Count} projections of the MTP head are left out: this model has none.");
        return weights;
    }

    private static void Require(bool force, string path)
    {
        if (File.Exists(path) && !force)
            throw new BadRequestException($"{path} exists; --force replaces it.");
    }

    private static bool IsGguf(string path) => Path.GetExtension(path).Equals(".gguf", StringComparison.OrdinalIgnoreCase);

    private static Option<string?> Model() => new("--model", "-m") { Description = "The model that it is for: a .gguf file, a Hugging Face folder, or a pulled name (default: the embedded nano)", HelpName = "PATH" };

    private static Option<bool> Force() => new("--force") { Description = "Replace what is already there" };
}
