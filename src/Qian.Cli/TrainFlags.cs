using System.CommandLine;
using System.Globalization;
using Qian.Inference;
using Qian.Kernels;
using Qian.Training;
using Qian.Training.Model;
using Qian.Training.Optimization;
using Qian.Training.Run;

namespace Qian.Cli;

// The options of `qian train`, and the request that they make.
internal sealed class TrainFlags
{
    private readonly Option<string?> _model = new("--model", "-m") { Description = "Model to start from: a Hugging Face folder, or for adapters any model file (default: the embedded nano)", HelpName = "PATH" };
    private readonly Option<string?> _adapterFor = new("--adapter-for") { Description = "The same, for an adapter", HelpName = "PATH" };
    private readonly Option<string[]?> _data = new("--data", "-d") { Description = "Texts to learn from: .jsonl (chats, or objects with a text), .txt and .md files, or folders of such; may be repeated", HelpName = "PATH" };
    private readonly Option<string[]?> _code = new("--code") { Description = "Source tree to learn from, as whole files and as gaps to fill; respects .gitignore; may be repeated", HelpName = "DIR" };
    private readonly Option<string?> _out = new("--out", "-o") { Description = "Folder for the trained model; log, curve and states go into training/ inside", HelpName = "DIR" };
    private readonly Option<string?> _heldOut = new("--held-out") { Description = "What is measured and not learned: a file or folder, or a fraction of the data (default 0.02; 0 for none)", HelpName = "PATH|FRACTION" };
    private readonly Option<string[]?> _watch = new("--watch") { Description = "Other text whose loss is shown beside, to see what the model forgets; takes what --data takes; may be repeated", HelpName = "PATH" };
    private readonly Option<string> _loss = new("--loss") { Description = "Which tokens of a chat are learned: assistant (its replies) or all", DefaultValueFactory = _ => "assistant", HelpName = "assistant|all" };

    private readonly Option<bool> _full = new("--full") { Description = "Train all weights; without it an adapter (LoRA) is trained" };
    private readonly Option<int?> _rank = new("--rank") { Description = "Rank of the adapter (default 16)", HelpName = "R" };
    private readonly Option<double?> _alpha = new("--alpha") { Description = "Scale of the adapter: alpha / rank (default 2 x rank)", HelpName = "A" };
    private readonly Option<bool> _rsLora = new("--rslora") { Description = "Scale by alpha / sqrt(rank) instead" };
    private readonly Option<double?> _dropout = new("--dropout") { Description = "Share of an adapter's inputs that is dropped in each step (default 0)", HelpName = "P" };
    private readonly Option<string[]?> _targets = new("--targets") { Description = $"Projections that get an adapter (default: all): {string.Join(", ", LoraOptions.AllTargets)}", HelpName = "NAME", AllowMultipleArgumentsPerToken = true };

    private readonly Option<double?> _epochs = new("--epochs") { Description = "Passes over the data (default 1, where no other limit is given)", HelpName = "E" };
    private readonly Option<long?> _steps = new("--steps") { Description = "Steps of the optimiser", HelpName = "N" };
    private readonly Option<long?> _tokens = new("--tokens") { Description = "Tokens to train on", HelpName = "N" };
    private readonly Option<double?> _hours = new("--hours") { Description = "Hours to work; the learning rate's end is planned by the time that remains", HelpName = "H" };
    private readonly Option<int> _batchTokens = new("--batch-tokens") { Description = "Tokens of a step", DefaultValueFactory = _ => 4096, HelpName = "N" };
    private readonly Option<int?> _microBatchTokens = new("--micro-batch-tokens") { Description = "Tokens that go through the model at once; less takes less memory (default: at most 2048)", HelpName = "N" };
    private readonly Option<int> _sequence = new("--sequence") { Description = "Tokens of a sample at most", DefaultValueFactory = _ => 512, HelpName = "N" };
    private readonly Option<string> _long = new("--long") { Description = "What becomes of longer samples: cut into pieces, truncate, or drop", DefaultValueFactory = _ => "cut", HelpName = "cut|truncate|drop" };

    private readonly Option<double?> _rate = new("--lr") { Description = "Peak of the learning rate (default: 2e-4 for adapters, 3e-4 for --full)", HelpName = "RATE" };
    private readonly Option<string?> _schedule = new("--schedule") { Description = "Learning rate over the run: constant, linear, cosine, or wsd (constant with a final decay; default: cosine, with --hours wsd)", HelpName = "NAME" };
    private readonly Option<int?> _warmup = new("--warmup") { Description = "Steps in which the rate rises to its peak (default: 3 % of the run, at most 100)", HelpName = "N" };
    private readonly Option<double> _decayShare = new("--decay-share") { Description = "Share of the run in which wsd decays", DefaultValueFactory = _ => 0.2, HelpName = "SHARE" };
    private readonly Option<double?> _weightDecay = new("--weight-decay") { Description = "Decoupled weight decay of matrices (default: 0 for adapters, 0.1 for --full)", HelpName = "W" };
    private readonly Option<bool> _decayAll = new("--decay-all") { Description = "Let norms, gates and filters decay too" };
    private readonly Option<double> _clip = new("--clip") { Description = "Longest gradient, all parameters together; 0 for no limit", DefaultValueFactory = _ => 1, HelpName = "NORM" };
    private readonly Option<string> _optimizer = new("--optimizer") { Description = "adamw, or muon (for matrices; AdamW for the rest)", DefaultValueFactory = _ => "adamw", HelpName = "adamw|muon" };
    private readonly Option<string> _precision = new("--precision") { Description = "Products in bf16 with float32 sums where the CPU has them, or f32", DefaultValueFactory = _ => "bf16", HelpName = "bf16|f32" };
    private readonly Option<bool> _recompute = new("--recompute") { Description = "Keep only each layer's input and compute the rest again on the way back: less memory, a third more time" };
    private readonly Option<double?> _mtpWeight = new("--mtp-weight") { Description = "Weight of the MTP head's loss (with --full, where the model has one: default 0.3; 0 leaves it alone)", HelpName = "W" };

    private readonly Option<ulong> _seed = new("--seed") { Description = "Same seed, same run (at the same number of threads)", DefaultValueFactory = _ => 1, HelpName = "S" };
    private readonly Option<int?> _threads = new("--threads", "-t") { Description = "Threads that compute (default: one per processor)", HelpName = "N" };
    private readonly Option<int?> _evaluateEvery = new("--eval-every") { Description = "Steps between measurements of the held-out loss (default: 25 in a run, at most every 200 steps)", HelpName = "N" };
    private readonly Option<int?> _saveEvery = new("--save-every") { Description = "Steps between states to resume from (default: every ten minutes)", HelpName = "N" };
    private readonly Option<bool> _saveModel = new("--save-model") { Description = "Write the model with every state, and not only at the end" };
    private readonly Option<bool> _resume = new("--resume") { Description = "Go on from the newest state in --out" };
    private readonly Option<bool> _dryRun = new("--dry-run") { Description = "Read the data, print the plan and the memory, and stop" };
    private readonly Option<bool> _json = new("--json") { Description = "Print the result (or the plan) as JSON" };

    public TrainFlags(Command command)
    {
        foreach ((Option<string> option, string[] values) in ((Option<string>, string[])[])[(_loss, ["assistant", "all"]), (_long, ["cut", "truncate", "drop"]), (_optimizer, ["adamw", "muon"]), (_precision, ["bf16", "f32"])])
            option.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, values);
        _schedule.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, [.. Schedule.Names.Select(known => known.Name)]);
        foreach (Option option in (Option[])
            [
                _model, _adapterFor, _data, _code, _out, _heldOut, _watch, _loss, _full, _rank, _alpha, _rsLora, _dropout, _targets, _epochs, _steps, _tokens, _hours,
                _batchTokens, _microBatchTokens, _sequence, _long, _rate, _schedule, _warmup, _decayShare, _weightDecay, _decayAll, _clip, _optimizer, _precision, _recompute, _mtpWeight,
                _seed, _threads, _evaluateEvery, _saveEvery, _saveModel, _resume, _dryRun, _json,
            ])
            command.Add(option);
    }

    public bool IsDryRun(ParseResult parsed) => parsed.GetValue(_dryRun);

    public bool IsJson(ParseResult parsed) => parsed.GetValue(_json);

    public TrainRequest Request(ParseResult parsed)
    {
        bool isFull = parsed.GetValue(_full);
        string? adapterFor = parsed.GetValue(_adapterFor);
        if (parsed.GetValue(_model) is not null && adapterFor is not null)
            throw new BadRequestException("give either -m or --adapter-for, not both.");
        if (isFull)
            RefuseAdapterFlags(parsed);
        ulong seed = parsed.GetValue(_seed);
        return new TrainRequest
        {
            OutFolder = parsed.GetValue(_out) ?? throw new BadRequestException("no --out DIR given: where should the trained model go?"),
            ModelPath = ModelPath.Of(parsed.GetValue(_model) ?? adapterFor),
            Data = Data(parsed, seed),
            WatchedPaths = parsed.GetValue(_watch) ?? [],
            Lora = isFull ? null : Adapter(parsed, seed),
            Epochs = parsed.GetValue(_epochs),
            Steps = parsed.GetValue(_steps),
            Tokens = parsed.GetValue(_tokens),
            Hours = parsed.GetValue(_hours),
            BatchTokens = parsed.GetValue(_batchTokens),
            MicroBatchTokens = parsed.GetValue(_microBatchTokens),
            Sequence = parsed.GetValue(_sequence),
            LongSamples = Enum.Parse<LongSamples>(parsed.GetValue(_long)!, ignoreCase: true),
            LearningRate = parsed.GetValue(_rate),
            Schedule = parsed.GetValue(_schedule) is { } name ? Schedule.Names.First(known => known.Name.Equals(name, StringComparison.OrdinalIgnoreCase)).Kind : null,
            WarmupSteps = parsed.GetValue(_warmup),
            DecayShare = parsed.GetValue(_decayShare),
            WeightDecay = parsed.GetValue(_weightDecay),
            DecayAll = parsed.GetValue(_decayAll),
            Clip = parsed.GetValue(_clip),
            Optimizer = Enum.Parse<OptimizerKind>(parsed.GetValue(_optimizer)!, ignoreCase: true),
            Precision = parsed.GetValue(_precision)!.Equals("f32", StringComparison.OrdinalIgnoreCase) ? MatmulPrecision.Float32 : MatmulPrecision.BFloat16,
            Recompute = parsed.GetValue(_recompute),
            MtpWeight = parsed.GetValue(_mtpWeight),
            Seed = seed,
            ThreadCount = parsed.GetValue(_threads),
            EvaluateEvery = parsed.GetValue(_evaluateEvery),
            SaveEvery = parsed.GetValue(_saveEvery),
            SaveModelWithState = parsed.GetValue(_saveModel),
            Resume = parsed.GetValue(_resume),
        };
    }

    private DataOptions Data(ParseResult parsed, ulong seed)
    {
        string[] paths = parsed.GetValue(_data) ?? [], code = parsed.GetValue(_code) ?? [];
        if (paths.Length + code.Length == 0)
            throw new BadRequestException("no data given: name texts with --data PATH, or a source tree with --code DIR.");
        string heldOut = parsed.GetValue(_heldOut) ?? "0.02";
        // A file may be called 0.1; what exists is meant.
        bool isPath = File.Exists(heldOut) || Directory.Exists(heldOut);
        double fraction = 0;
        if (!isPath && !(double.TryParse(heldOut, NumberStyles.Float, CultureInfo.InvariantCulture, out fraction) && fraction is >= 0 and < 1))
            throw new BadRequestException($"--held-out {heldOut}: expected a file or folder that exists, or a fraction of at least 0 and less than 1.");
        return new DataOptions
        {
            Paths = paths,
            CodeFolders = code,
            Code = new CodeOptions { LongestSampleTokens = parsed.GetValue(_sequence) },
            HeldOutPaths = isPath ? [heldOut] : [],
            HeldOutFraction = fraction,
            Loss = Enum.Parse<LossTokens>(parsed.GetValue(_loss)!, ignoreCase: true),
            Seed = seed,
        };
    }

    private LoraOptions Adapter(ParseResult parsed, ulong seed)
    {
        var defaults = new LoraOptions();
        int rank = parsed.GetValue(_rank) ?? defaults.Rank;
        return new LoraOptions
        {
            Rank = rank,
            Alpha = parsed.GetValue(_alpha) ?? 2 * rank,
            UseRsLora = parsed.GetValue(_rsLora),
            Dropout = parsed.GetValue(_dropout) ?? defaults.Dropout,
            Targets = parsed.GetValue(_targets) is { Length: > 0 } targets ? [.. targets.SelectMany(names => names.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))] : defaults.Targets,
            Seed = seed,
        };
    }

    private void RefuseAdapterFlags(ParseResult parsed)
    {
        foreach (Option option in (Option[])[_rank, _alpha, _rsLora, _dropout, _targets, _adapterFor])
        {
            if (parsed.GetResult(option) is { Implicit: false })
                throw new BadRequestException($"{option.Name} is for adapters; --full trains all weights.");
        }
    }
}
