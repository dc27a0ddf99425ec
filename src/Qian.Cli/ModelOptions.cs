using System.CommandLine;
using Qian.Inference;
using Qian.Kernels;

namespace Qian.Cli;

// The options of every verb that loads a model, and the loading with its progress bar.
internal sealed class ModelOptions
{
    private readonly Option<string?> _model = new("--model", "-m") { Description = "Model: a .gguf file (the first of a split set too), a Hugging Face folder, or a pulled name (default: the embedded nano)", HelpName = "PATH" };
    private readonly Option<int?> _threads = new("--threads", "-t") { Description = "Threads that compute (default: one per processor)", HelpName = "N" };
    private readonly Option<int?> _context = new("--context", "-c") { Description = "Tokens of context (default: what fits, up to the model's own)", HelpName = "N" };
    private readonly Option<string> _kv = new("--kv") { Description = "Type of attention keys and values: f16, bf16, f32 or q8_0", DefaultValueFactory = _ => "f16", HelpName = "TYPE" };
    private readonly Option<bool> _exact = new("--exact") { Description = "Float32 arithmetic throughout: slow, for verification" };
    private readonly Option<string?> _loadAs = new("--load-as") { Description = "Convert float weights while loading: q8_0, q4_k, bf16, f32, …", HelpName = "TYPE" };
    private readonly Option<string?> _packedCache = new("--packed-cache") { Description = "Keep the packed weights in a file, so that the next start is instant: on (beside the model), a file or a folder", HelpName = "on|off|PATH" };
    private readonly Option<double?> _yarn = new("--yarn") { Description = "YaRN factor for contexts longer than the model was trained for (2 doubles it)", HelpName = "FACTOR" };

    private readonly Option<string?> _adapter = new("--adapter") { Description = "LoRA adapter to run with: a PEFT folder or a .gguf adapter", HelpName = "PATH" };

    private readonly Option<string?> _prefixCache = new("--prefix-cache") { Description = "Memory for states of prompts that may come again: a size such as 4G or 512M, or off (default: half of what is free, at most 8G)", HelpName = "SIZE" };
    private readonly Option<string?> _prefixDir = new("--prefix-dir") { Description = "Folder in which such states outlive the program; it holds what was said, so keep it private", HelpName = "DIR" };
    private readonly Option<string?> _prefixDirSize = new("--prefix-dir-size") { Description = "Most that the folder may take for one model (default: 32G)", HelpName = "SIZE" };

    public ModelOptions(Command command, bool withAdapter = false, bool withPrefixes = false)
    {
        if (withPrefixes)
        {
            command.Add(_prefixCache);
            command.Add(_prefixDir);
            command.Add(_prefixDirSize);
        }

        _kv.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, "f16", "bf16", "f32", "q8_0");
        foreach (Option option in (Option[])[_model, _threads, _context, _kv, _exact, _loadAs, _packedCache, _yarn])
            command.Add(option);
        if (withAdapter)
            command.Add(_adapter);
    }

    public string Path(ParseResult parsed) => ModelPath.Of(parsed.GetValue(_model));

    public EngineOptions Engine(ParseResult parsed)
    {
        var options = new EngineOptions
        {
            ThreadCount = parsed.GetValue(_threads),
            ContextLength = parsed.GetValue(_context),
            KvType = Enum.Parse<KvType>(parsed.GetValue(_kv)!, ignoreCase: true),
            ExactArithmetic = parsed.GetValue(_exact),
            PackedCache = parsed.GetValue(_packedCache) is { } place && place != "off" ? place : null,
        };
        if (parsed.GetValue(_loadAs) is { } name)
        {
            if (!WeightFormat.TryParse(name, out WeightType type))
                throw new BadRequestException($"--load-as {name}: no such weight type.");
            options = options with { LoadAs = type };
        }

        if (parsed.GetValue(_prefixCache) is { } cache)
            options = options with { PrefixCacheBytes = cache.Equals("off", StringComparison.OrdinalIgnoreCase) ? 0 : ByteSize.Parse(cache, _prefixCache.Name) };
        options = options with { PrefixDirectory = parsed.GetValue(_prefixDir) };
        if (parsed.GetValue(_prefixDirSize) is { } size)
            options = options with { PrefixDirectoryBytes = ByteSize.Parse(size, _prefixDirSize.Name) };
        Check(options);
        if (parsed.GetValue(_yarn) is { } factor)
        {
            using var checkpoint = Inference.Formats.Checkpoint.Open(Path(parsed));
            options = options with { Yarn = new YarnScaling(factor, checkpoint.Config.Yarn?.OriginalContext ?? checkpoint.Config.ContextLength) };
            Check(options);
        }

        return options;
    }

    // Without drafts nothing is loaded for them.
    public Engine Load(ParseResult parsed, bool drafts, CancellationToken cancellation) =>
        Load(Path(parsed), Engine(parsed) with { Speculation = drafts ? Speculation.Auto : Speculation.Off }, cancellation);

    public string? AdapterPath(ParseResult parsed) => parsed.GetValue(_adapter);

    public Adapter? Adapter(ParseResult parsed, Engine engine) => parsed.GetValue(_adapter) is { } path ? engine.LoadAdapter(path) : null;

    private static void Check(EngineOptions options)
    {
        try
        {
            options.Validate();
        }
        catch (BadRequestException error)
        {
            throw FlagNames.Rename(error);
        }
    }

    private static Engine Load(string path, EngineOptions options, CancellationToken cancellation)
    {
        Engine engine = LoadBar.Under($"loading {System.IO.Path.GetFileName(path.TrimEnd('/', '\\'))}", progress => Inference.Engine.Load(path, options, progress, cancellation));
        foreach (string note in engine.LoadNotes)
            Terminal.Note(note);
        return engine;
    }
}
