using System.Diagnostics;
using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Weights;

// Writes a model of random weights: any shape of the family, as a GGUF file or a Hugging Face folder, as fast as the disk takes it.
// Decides everything first (tokenizer, sizes, tensors, room on the disk), then writes; what exists afterwards is whole.
internal static class SynthWriter
{
    // A path that ends in a separator, or names a folder, gets a Hugging Face folder; any other a GGUF file.
    public static bool IsFolder(string path) => Path.EndsInDirectorySeparator(path) || Directory.Exists(path);

    public static SynthResult Write(string path, SynthRequest request, IProgress<SynthProgress>? progress, CancellationToken cancellation)
    {
        bool folder = IsFolder(path);
        RefuseExisting(path, folder, request.Overwrite);
        var clock = Stopwatch.StartNew();
        TokenizerSpec tokenizer = SynthTokenizer.Resolve(request);
        ModelConfig config = request.Shape.ToConfig(request.LayerCount, request.WithMtp, tokenizer.RowCount);
        var plan = new SynthPlan(request, config, tokenizer, SynthTensor.List(config));
        long fileBytes = folder
            ? HuggingFaceSynth.Write(path, plan, progress, cancellation)
            : GgufSynth.Write(path, plan, progress, cancellation);
        return new SynthResult(path, config, fileBytes, plan.Tensors.Sum(tensor => tensor.ValueCount), clock.Elapsed);
    }

    // Throws before anything is written when the disk cannot hold it.
    internal static void CheckRoom(string path, long neededBytes) => DiskRoom.Require(path, neededBytes, "use another disk, a smaller --type or fewer --layers");

    private static void RefuseExisting(string path, bool folder, bool overwrite)
    {
        bool exists = folder ? Directory.Exists(path) && Directory.EnumerateFileSystemEntries(path).Any() : File.Exists(path);
        if (exists && !overwrite)
            throw new BadRequestException($"{path} exists{(folder ? " and is not empty" : "")}; use --force to replace it");
        if (folder && File.Exists(Path.TrimEndingDirectorySeparator(path)))
            throw new BadRequestException($"{path} is a file; a Hugging Face model is a folder");
    }
}
