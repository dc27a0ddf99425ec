using System.CommandLine;
using System.Globalization;
using Qian.Inference;
using Qian.Kernels;
using Qian.Weights;
using Spectre.Console;

namespace Qian.Cli;

// qian quantize IN OUT: any model that loads, to a GGUF file of any type that is written, or to a Hugging Face folder.
internal static class QuantizeVerb
{
    // Pieces of calibration text below which the user is told.
    private const int FewPieces = 20;

    public static Command Create()
    {
        var input = new Argument<string>("IN") { Description = "Model: a .gguf file, a Hugging Face folder (BF16, F16, F32, FP8 or 4-bit), or a pulled name" };
        var output = new Argument<string>("OUT") { Description = "File to write (.gguf), or a folder for the Hugging Face form (ends in /)" };
        var type = new Option<string?>("--type") { Description = $"Type of the file (default: Q4_K_M, for a folder BF16): {string.Join(", ", QuantMix.Written.Select(mix => mix.Name))}", HelpName = "TYPE" };
        var rules = new Option<string[]>("--tensor") { Description = "Type for the tensors whose name matches, such as 'ffn_down=Q6_K'; may be given several times, the first that matches counts", HelpName = "REGEX=TYPE" };
        var size = new Option<string?>("--size") { Description = "Choose types per tensor so that the file is about this large and diverges least, such as 15.5GB; --calibrate gives the text to measure on", HelpName = "SIZE" };
        var importance = new Option<string?>("--importance") { Description = "Importance matrix (.gguf or .dat, as llama.cpp publishes them): columns that matter are kept more precise", HelpName = "FILE" };
        var calibrate = new Option<string[]>("--calibrate") { Description = "Collect the importance matrix by reading these texts with the input model first: plain text, or .jsonl with \"messages\" or \"text\"", AllowMultipleArgumentsPerToken = true, HelpName = "FILE" };
        var saveImportance = new Option<string?>("--save-importance") { Description = "Keep the collected matrix (.gguf, or .dat for the older form)", HelpName = "FILE" };
        var mtp = new Option<string>("--mtp") { Description = "Keep or drop the layer that predicts a token ahead", DefaultValueFactory = _ => "keep", HelpName = "keep|drop" };
        mtp.AcceptOnlyFromAmong("keep", "drop");
        var fast = new Option<bool>("--fast") { Description = "Encode without the search for the least error: K types ten times as fast, with up to a tenth more error" };
        var dryRun = new Option<bool>("--dry-run") { Description = "Show types and sizes, write no model" };
        var force = new Option<bool>("--force") { Description = "Replace what is already there" };
        var threads = new Option<int?>("--threads", "-t") { Description = "Threads that encode (default: one per processor)", HelpName = "N" };
        var json = new Option<bool>("--json") { Description = "Print the figures as JSON" };
        var command = new Command("quantize", "Convert a model to another type or format") { input, output, type, size, rules, importance, calibrate, saveImportance, mtp, fast, dryRun, force, threads, json };
        command.SetAction((parsed, cancellation) =>
        {
            string path = parsed.GetValue(output)!;
            var request = new ConversionRequest { InputPath = ModelPath.Of(parsed.GetValue(input)), OutputPath = path, Mix = QuantMix.Find("F32"), ThreadCount = Threads(parsed.GetValue(threads)) };
            request = request with
            {
                Mix = QuantMix.Find(parsed.GetValue(type) ?? (request.ToFolder ? "BF16" : "Q4_K_M"), QuantMix.Written),
                Rules = [.. (parsed.GetValue(rules) ?? []).Select(TensorRule.Parse)],
                Fast = parsed.GetValue(fast),
                KeepMtp = parsed.GetValue(mtp) == "keep",
                Overwrite = parsed.GetValue(force) || parsed.GetValue(dryRun),
            };
            if (parsed.GetValue(size) is not null && parsed.GetValue(type) is not null)
                throw new BadRequestException("--size and --type: give one of them");
            string[] texts = parsed.GetValue(calibrate) ?? [];
            // A search for a size may take the matrix from a file and measure on the text.
            if (texts.Length > 0 && parsed.GetValue(importance) is not null && parsed.GetValue(size) is null)
                throw new BadRequestException("--importance and --calibrate: give one of them");
            if (parsed.GetValue(saveImportance) is not null && (texts.Length == 0 || parsed.GetValue(importance) is not null))
                throw new BadRequestException("--save-importance: there is nothing to save without --calibrate");
            SampleText.RequireFiles(texts);
            // Refuses what can be refused before a long calibration.
            if (texts.Length > 0)
                ModelConversion.Prepare(request with { ImportanceFollows = true }).Dispose();
            request = WithImportance(request, parsed.GetValue(importance), parsed.GetValue(importance) is null ? texts : [], parsed.GetValue(saveImportance), cancellation);
            if (parsed.GetValue(size) is { } wanted)
                request = Sized(request, SizeTarget.Parse(wanted), texts, cancellation);
            Run(request, parsed.GetValue(dryRun), parsed.GetValue(json), cancellation);
            return Task.FromResult(Program.Done);
        });
        return command;
    }

    private static int Threads(int? given) => given switch
    {
        null => Environment.ProcessorCount,
        >= 1 and <= 1024 => given.Value,
        _ => throw new BadRequestException($"--threads: expected 1 to 1024, found {given}."),
    };

    private static ConversionRequest WithImportance(ConversionRequest request, string? file, string[] texts, string? savePath, CancellationToken cancellation)
    {
        if (file is null && texts.Length == 0)
            return request;
        ImportanceMatrix matrix = file is not null ? ImportanceFile.Read(file) : Collect(request, texts, cancellation);
        if (file is null && matrix.ChunkCount < FewPieces)
            Terminal.Note(string.Create(CultureInfo.InvariantCulture, $"--calibrate: no more than {matrix.ChunkCount * matrix.ChunkSize} tokens were read; from so little text a matrix says more about it than about the model (100,000 are usual)"));
        if (savePath is not null)
            ImportanceFile.Write(savePath, matrix);
        return request with { Importance = matrix, Mix = request.Mix with { WithImportance = true } };
    }

    private static ImportanceMatrix Collect(ConversionRequest request, string[] texts, CancellationToken cancellation)
    {
        var options = new EngineOptions { ThreadCount = request.ThreadCount };
        return VerbProgress.Run("reading the texts", bar => ImportanceCollector.Collect(request.InputPath, texts, options, bar.Set, cancellation), countsBytes: false);
    }

    private static ConversionRequest Sized(ConversionRequest request, long targetBytes, string[] texts, CancellationToken cancellation) =>
        VerbProgress.Run("searching types", bar => SizedConversion.Choose(request, targetBytes, texts, Terminal.Note, bar.Set, cancellation).Request, countsBytes: false);

    private static void Run(ConversionRequest request, bool dryRun, bool json, CancellationToken cancellation)
    {
        using ModelConversion conversion = ModelConversion.Prepare(request);
        foreach (string note in conversion.Notes)
            Terminal.Note(note);
        if (!json)
            PrintTypes(conversion);
        ConversionResult? result = null;
        if (!dryRun)
        {
            string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(request.OutputPath));
            // Bytes of BF16: the bar's rate is then the usual measure of a quantizer.
            try
            {
                result = VerbProgress.Run(
                    $"writing {name}",
                    bar => conversion.Write(new Listener(value => bar.Set(2 * value.ValuesDone, 2 * value.ValuesTotal)), cancellation, Terminal.Note));
            }
            finally
            {
                if (conversion.Unfinished is { } unfinished)
                    Terminal.Note(unfinished);
            }
        }

        if (json)
            PrintJson(conversion, request, result);
        else
            Print(conversion, result, request);
    }

    private static void PrintTypes(ModelConversion conversion)
    {
        var table = new Table { Border = TableBorder.Simple };
        table.AddColumns("tensors", "count", "types", "size", "bits per weight");
        foreach (int right in (ReadOnlySpan<int>)[1, 3, 4])
            table.Columns[right].Alignment = Justify.Right;
        foreach (IGrouping<string, PlannedTensor> row in conversion.Tensors.GroupBy(tensor => tensor.Class))
        {
            long bytes = row.Sum(tensor => tensor.ByteCount), values = row.Sum(tensor => tensor.ValueCount);
            table.AddRow(row.Key, Number(row.Count()), Types(row), MemoryPlan.Format(bytes), Bits(8.0 * bytes / values));
        }

        Terminal.Out.Write(table);
    }

    // Q4_K, or Q6_K x33, Q4_K x32.
    private static string Types(IGrouping<string, PlannedTensor> tensors)
    {
        List<IGrouping<WeightType, PlannedTensor>> types = [.. tensors.GroupBy(tensor => tensor.Type).OrderByDescending(type => type.Count())];
        return string.Join(", ", types.Select(type => types.Count == 1 ? WeightFormat.Name(type.Key) : $"{WeightFormat.Name(type.Key)} x{type.Count()}"));
    }

    private static void Print(ModelConversion conversion, ConversionResult? result, ConversionRequest request)
    {
        string bits = $"{conversion.ValueCount / 1e9:0.000} B weights at {Bits(conversion.BitsPerWeight)} bits";
        Console.WriteLine(result is null
            ? string.Create(CultureInfo.InvariantCulture, $"{request.OutputPath}: {Mixed(request)}, {bits}, {conversion.TensorBytes / 1e9:0.000} GB of tensors; not written (--dry-run)")
            : string.Create(CultureInfo.InvariantCulture, $"{result.Path}: {Mixed(request)}, {bits}, {result.FileBytes / 1e9:0.000} GB in {result.Elapsed.TotalSeconds:0.0} s, {result.InputBytesPerSecond / 1e6:0} MB/s of BF16"));
    }

    private static void PrintJson(ModelConversion conversion, ConversionRequest request, ConversionResult? result) => JsonOutput.Print(new
    {
        path = request.OutputPath,
        type = Mixed(request),
        weights = conversion.ValueCount,
        tensor_bytes = conversion.TensorBytes,
        bits_per_weight = conversion.BitsPerWeight,
        with_importance = request.Importance is not null,
        fast = request.Fast,
        written = result is not null,
        bytes = result?.FileBytes,
        seconds = result?.Elapsed.TotalSeconds,
        tensors = conversion.Tensors.Select(tensor => new { name = tensor.Name, type = WeightFormat.Name(tensor.Type), bytes = tensor.ByteCount }),
    });

    private static string Mixed(ConversionRequest request) => request.Types is null ? request.Mix.Name : $"types by size, mostly {WeightFormat.Name(request.Mix.Default)}";

    private static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);

    private static string Bits(double value) => value.ToString("0.00", CultureInfo.InvariantCulture);

    // Reports on the writing thread: System.Progress would queue every piece to the pool.
    private sealed class Listener(Action<ConversionProgress> report) : IProgress<ConversionProgress>
    {
        public void Report(ConversionProgress value) => report(value);
    }
}
