using System.CommandLine;
using System.Globalization;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Weights;
using Spectre.Console;

namespace Qian.Cli;

// qian synth OUT: a file of random weights of any shape of the family, to test speed and memory without a download.
internal static class SynthVerb
{
    public static Command Create()
    {
        var output = new Argument<string>("OUT") { Description = "File to write (.gguf), or a folder for the Hugging Face form (ends in /)" };
        var like = new Option<string>("--like") { Description = $"Shape: {string.Join(", ", SynthShape.All.Select(shape => shape.Name))}", DefaultValueFactory = _ => SynthShape.All[0].Name, HelpName = "SHAPE" };
        var type = new Option<string?>("--type") { Description = $"Weight type (default: Q4_K_M, in a folder BF16): {string.Join(", ", QuantMix.All.Select(mix => mix.Name))}", HelpName = "TYPE" };
        var layers = new Option<int?>("--layers") { Description = "Only the first N layers", HelpName = "N" };
        var mtp = new Option<bool>("--mtp") { Description = "With the layer that predicts a token ahead" };
        var seed = new Option<ulong>("--seed") { Description = "Same seed, same file", DefaultValueFactory = _ => 1, HelpName = "S" };
        var tokenizer = new Option<string?>("--tokenizer") { Description = "Take the tokenizer from this tokenizer.json, Hugging Face folder or GGUF (default: a made-up vocabulary)", HelpName = "PATH" };
        var vocabulary = new Option<string>("--vocab") { Description = "Rows of the vocabulary: a number, or full for the shape's own", DefaultValueFactory = _ => "full", HelpName = "full|N" };
        var force = new Option<bool>("--force") { Description = "Replace what is already there" };
        var json = new Option<bool>("--json") { Description = "Print the figures as JSON" };
        var command = new Command("synth", "Write a model of random weights, to test speed and memory without a download") { output, like, type, layers, mtp, seed, tokenizer, vocabulary, force, json };
        command.SetAction((parsed, cancellation) =>
        {
            string path = parsed.GetValue(output)!;
            var request = new SynthRequest
            {
                Shape = SynthShape.Find(parsed.GetValue(like)!),
                Mix = QuantMix.Find(parsed.GetValue(type) ?? (SynthWriter.IsFolder(path) ? "BF16" : "Q4_K_M")),
                LayerCount = parsed.GetValue(layers),
                WithMtp = parsed.GetValue(mtp),
                Seed = parsed.GetValue(seed),
                TokenizerPath = parsed.GetValue(tokenizer),
                VocabularySize = Rows(parsed.GetValue(vocabulary)!),
                ChatTemplate = ChatTemplate.Default.Source,
                Overwrite = parsed.GetValue(force),
            };
            SynthResult result = Write(path, request, cancellation);
            if (parsed.GetValue(json))
                PrintJson(result, request);
            else
                Print(result, request);
            return Task.FromResult(Program.Done);
        });
        return command;
    }

    private static int? Rows(string text)
    {
        if (text.Equals("full", StringComparison.OrdinalIgnoreCase))
            return null;
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int rows)
            ? rows
            : throw new BadRequestException($"--vocab {text}: expected full or a number of rows");
    }

    private static SynthResult Write(string path, SynthRequest request, CancellationToken cancellation)
    {
        if (Console.IsErrorRedirected)
            return SynthWriter.Write(path, request, null, cancellation);
        return Terminal.Error.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new TransferSpeedColumn(), new RemainingTimeColumn())
            .Start(context =>
            {
                ProgressTask task = context.AddTask($"writing {Markup.Escape(Path.GetFileName(Path.TrimEndingDirectorySeparator(path)))}");
                return SynthWriter.Write(path, request, new WriteBar(task), cancellation);
            });
    }

    private static void Print(SynthResult result, SynthRequest request)
    {
        string mtp = result.Config.MtpLayerCount > 0 ? " and MTP" : "";
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{result.Path}: {request.Shape.Name} {request.Mix.Name}, {result.Config.LayerCount} layers{mtp}, {result.ParameterCount / 1e9:0.00} B parameters, {result.FileBytes / 1e9:0.00} GB in {result.Elapsed.TotalSeconds:0.0} s, {Speed(result) / 1e9:0.00} GB/s"));
    }

    private static void PrintJson(SynthResult result, SynthRequest request) => JsonOutput.Print(new
    {
        path = result.Path,
        shape = request.Shape.Name,
        type = request.Mix.Name,
        layers = result.Config.LayerCount,
        mtp = result.Config.MtpLayerCount > 0,
        vocabulary = result.Config.VocabularySize,
        seed = request.Seed,
        parameters = result.ParameterCount,
        bytes = result.FileBytes,
        seconds = result.Elapsed.TotalSeconds,
        bytes_per_second = Speed(result),
    });

    private static double Speed(SynthResult result) => result.FileBytes / result.Elapsed.TotalSeconds;

    // Reports on the writing thread: System.Progress would queue every piece to the pool.
    private sealed class WriteBar(ProgressTask task) : IProgress<SynthProgress>
    {
        public void Report(SynthProgress value)
        {
            task.MaxValue = Math.Max(1, value.BytesTotal);
            task.Value = value.BytesDone;
        }
    }
}
