using Qian.Inference.Chat;
using Qian.Inference.Constraint;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Inference.Runtime;
using Qian.Inference.Text;
using Qian.Kernels;

namespace Qian.Inference;

/// <summary>
/// A loaded model, ready to serve any number of sessions. Start here: <see cref="Load"/>, then <see cref="NewSession"/> for
/// tokens and text, <see cref="ChatSession"/> for conversations, <see cref="QianChatClient"/> for Microsoft.Extensions.AI.
/// </summary>
public sealed class Engine : IDisposable
{
    private const int UsualContext = 32768;
    private const int UsualReply = 8192;

    private readonly LoadedModel _model;
    private readonly Scheduler _scheduler;
    private readonly PrefixStore _store;
    private readonly string? _replyFile;
    private readonly Speculator? _speculator;
    private readonly Tokenizer? _tokenizer;
    private readonly VocabularyMask _vocabulary;
    private readonly SamplingScratch _samplingScratch;
    private readonly ConstraintShelf? _constraints;
    private readonly Lazy<ChatTemplate> _template;
    private readonly Lock _adapterLock = new();
    private readonly List<Adapter> _adapters = [];
    private readonly HashSet<Session> _sessions = [];
    private bool _disposed;

    private Engine(LoadedModel model, EngineOptions options, MemoryPlan memory, int contextLength, Tokenizer? tokenizer)
    {
        PrefixDisk? disk = options.PrefixDirectory is { } folder && memory.PrefixCacheBytes > 0
            ? new PrefixDisk(folder, options.PrefixDirectoryBytes, PrefixIdentity.OfModel(model, options, model.Checkpoint.ChatTemplate ?? ""))
            : null;
        _model = model;
        _tokenizer = tokenizer;
        Options = options;
        Memory = memory;
        ContextLength = contextLength;
        _vocabulary = VocabularyOf(tokenizer, Config.VocabularySize);
        _samplingScratch = new SamplingScratch(Config.VocabularySize);
        _constraints = tokenizer is null ? null : new ConstraintShelf(tokenizer, Config.VocabularySize);
        _speculator = options.Speculation == Speculation.Off ? null : new Speculator(model.Network, _vocabulary);
        _replyFile = disk?.ReplyFile;
        _store = new PrefixStore(model.Pool, memory.PrefixCacheBytes, disk);
        if (disk is not null)
            ReplyFile.Load(disk.ReplyFile, Replies);
        if (disk is { CanWrite: true })
            _store.WhenSaved = SaveReplies;
        int messageStart = tokenizer is not null && tokenizer.TryGetId("<|im_start|>", out int start) ? start : -1;
        var plan = new KeepPlan(messageStart, memory.SequenceStateBytes, memory.KvBytesPerToken, memory.PrefixCacheBytes);
        _scheduler = new Scheduler(model.Network, Config.VocabularySize, _store, plan, TryGiveUpIdle, _speculator);
        _template = new Lazy<ChatTemplate>(() => model.Checkpoint.ChatTemplate is { } source ? ChatTemplate.Compile(source) : ChatTemplate.Default);
    }

    /// <summary>The network's shape.</summary>
    public ModelConfig Config => _model.Config;

    /// <summary>The options it was loaded with.</summary>
    public EngineOptions Options { get; }

    /// <summary>What it takes in memory.</summary>
    public MemoryPlan Memory { get; }

    /// <summary>Tokens that one session may hold.</summary>
    public int ContextLength { get; }

    /// <summary>The checkpoint's tokenizer.</summary>
    /// <exception cref="BadModelFileException">The checkpoint has none; token ids still work.</exception>
    public Tokenizer Tokenizer => _tokenizer ?? throw new BadModelFileException("This checkpoint has no tokenizer: put its tokenizer.json beside the model, or work with token ids.");

    /// <summary>True when the checkpoint has a tokenizer.</summary>
    public bool HasTokenizer => _tokenizer is not null;

    /// <summary>What happened while loading that the user should know: why a packed cache was not used, or could not be written.</summary>
    public IReadOnlyList<string> LoadNotes => _model.LoadNotes;

    internal ChatTemplate Template => _template.Value;

    // Ids that end the model's turn.
    internal IReadOnlyCollection<int> EndIds { get; private init; } = [];

    internal LoadedModel Model => _model;

    internal PrefixStore Prefixes => _store;

    // What the model said, to be recognised when clients send it back.
    internal ReplyMemory Replies { get; } = new();

    // Times that a request gave up its memory for others and was computed again.
    internal long SetAsideCount => _scheduler.SetAsideCount;

    /// <summary>Loads a model: a <c>.gguf</c> file (or the first of a split set), or a Hugging Face folder.</summary>
    /// <param name="path">File or folder.</param>
    /// <param name="options">How to run it; null for the defaults.</param>
    /// <param name="progress">Told after each tensor.</param>
    /// <param name="cancellationToken">Stops between two tensors.</param>
    /// <exception cref="BadModelFileException">The file is not a sound model of the family.</exception>
    /// <exception cref="BadRequestException">An option is out of range, or the model would not fit in memory.</exception>
    public static Engine Load(string path, EngineOptions? options = null, IProgress<LoadProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        options ??= new EngineOptions();
        options.Validate();
        Checkpoint checkpoint = Checkpoint.Open(path, options.MtpPath);
        MemoryPlan memory;
        int contextLength;
        Tokenizer? tokenizer;
        try
        {
            options = WithDrafting(options, checkpoint);
            memory = MemoryEstimate.For(checkpoint, options, LayerRange.All(checkpoint.Config));
            contextLength = MemoryEstimate.ChooseContext(memory, checkpoint.Config, options);
            tokenizer = checkpoint.LoadTokenizer() is { } spec ? new Tokenizer(spec) : null;
            if (tokenizer is not null && tokenizer.VocabularySize > checkpoint.Config.VocabularySize)
                throw new BadModelFileException($"The tokenizer defines {tokenizer.VocabularySize} ids, the embedding has {checkpoint.Config.VocabularySize} rows: they do not belong together.");
        }
        catch
        {
            checkpoint.Dispose();
            throw;
        }

        int maxBlocks = MemoryEstimate.KvBlockBudget(memory, contextLength);
        LoadedModel model = LoadedModel.Load(checkpoint, options, contextLength, maxBlocks, progress, cancellationToken);
        try
        {
            return new Engine(model, options, memory, contextLength, tokenizer) { EndIds = EndIdsOf(checkpoint, tokenizer) };
        }
        catch (BadRequestException)
        {
            // The folder for prefixes is refused before anything of the engine runs.
            model.Dispose();
            throw;
        }
    }

    /// <summary>The adapters that are loaded, oldest first.</summary>
    public IReadOnlyList<Adapter> Adapters
    {
        get
        {
            lock (_adapterLock)
                return [.. _adapters];
        }
    }

    /// <summary>
    /// Loads a LoRA adapter beside the model: a folder of Hugging Face's PEFT (<c>adapter_config.json</c> and
    /// <c>adapter_model.safetensors</c>) or a <c>.gguf</c> adapter. Either fits a model of either format: the order of the value
    /// heads, in which the formats differ, is taken care of. May be called while sessions generate.
    /// </summary>
    /// <param name="path">Folder or file.</param>
    /// <param name="name">What to call it; null takes the file's own name. Two adapters of one engine must differ in it.</param>
    /// <returns>The adapter, for <see cref="NewSession"/>; disposing it unloads it, else it stays until the engine goes.</returns>
    /// <exception cref="BadModelFileException">The adapter is damaged, of a kind that is not supported, or for another model.</exception>
    /// <exception cref="BadRequestException">The name is empty or taken.</exception>
    public Adapter LoadAdapter(string path, string? name = null)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        AdapterWeights weights;
        using (AdapterFile file = AdapterFile.Open(path))
            weights = file.Read(Config);
        name ??= weights.Name;
        if (string.IsNullOrWhiteSpace(name))
            throw new BadRequestException("An adapter needs a name.");
        lock (_adapterLock)
        {
            if (FindAdapter(name) is not null)
                throw new BadRequestException($"An adapter called '{name}' is loaded already; give this one another name, or unload that one first.");
            var adapter = new Adapter(this, name, new LowRankAdapter(weights, Config, _model.Network.MaxRows));
            _adapters.Add(adapter);
            return adapter;
        }
    }

    /// <summary>A new, empty session.</summary>
    /// <param name="adapter">An adapter of this engine that all of its tokens are computed with; null for the model as it is.</param>
    /// <exception cref="BadRequestException">The adapter was unloaded, or belongs to another engine.</exception>
    public Session NewSession(Adapter? adapter = null) => NewSession(adapter, "");

    // What it reads and writes is known again in the same scope only.
    internal Session NewSession(Adapter? adapter, string scope)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        adapter?.RequireLoaded();
        if (adapter?.BelongsTo(this) == false)
            throw new BadRequestException($"The adapter '{adapter.Name}' was loaded by another engine.");
        return new Session(this, new Timeline(_model.NewSequence(adapter?.Values), scope), adapter);
    }

    /// <summary>Stops computing and frees everything. Sessions must not be used afterwards.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _scheduler.Dispose();
        _store.WhenSaved?.Invoke();
        _store.Dispose();
        foreach (Adapter adapter in Adapters)
        {
            adapter.Dispose();
            adapter.Values.Dispose();
        }

        _model.Dispose();
    }

    // Request over the preset of the checkpoint's name over generation_config.json, and everything that stands between
    // logits and tokens.
    internal Generation NewGeneration(
        Timeline timeline, SamplingOptions? request, CancellationToken cancellation, SamplingMode? mode = null, bool insideThinking = false, Action<PrefixMatch, int>? whenBegun = null)
    {
        request?.Validate();
        SamplingOptions? preset = mode is { } known ? SamplingPresets.For(Config.Name, known) : null;
        SamplingOptions options = SamplingOptions.Merge(request, preset, _model.Checkpoint.Generation?.Sampling);
        var sampler = new Sampler(options, _vocabulary, ContextLength + 1, _samplingScratch, DryBreakers(options));
        sampler.Begin(timeline.AllTokens);
        LoopGuard? loops = options.LoopGuard == true && options.IgnoreEos != true ? new LoopGuard() : null;
        ThinkingBudget? thinking = ThinkingBudgetOf(options, insideThinking, loops is not null);
        var picker = new TokenPicker(options, sampler, _tokenizer, thinking, NewConstraint(options, insideThinking), EndIds, ContextLength);
        DraftSlot? drafts = options.DraftTokens == 0 ? null : _speculator?.NewSlot(options.DraftTokens, ExpectedLength(timeline, options));
        return new Generation(timeline, cancellation, picker, drafts) { WhenBegun = whenBegun, Loops = loops, Thinking = thinking };
    }

    // Null when no adapter of that name is loaded.
    internal Adapter? FindAdapter(string name)
    {
        lock (_adapterLock)
            return _adapters.Find(adapter => adapter.Name == name);
    }

    internal void Forget(Adapter adapter)
    {
        lock (_adapterLock)
            _adapters.Remove(adapter);
        _store.Forget(adapter.Values);
    }

    // For people: where a prompt left what is known.
    internal PrefixUse Describe(PrefixMatch match, int cachedCount) => PrefixNote.Of(match, cachedCount, _tokenizer);

    // Before a request: what is on disk of its beginning comes back to memory.
    internal Task WarmAsync(Timeline timeline, CancellationToken cancellation) => _replyFile is not null && timeline.ComputedCount + 1 < timeline.TotalCount
        ? _store.LoadAsync(timeline.Root, [.. timeline.Tokens], timeline.ComputedCount, () => _model.NewSequence(timeline.State.Adapter), cancellation)
        : Task.CompletedTask;

    internal void Remember(Session session)
    {
        lock (_sessions)
            _sessions.Add(session);
    }

    internal void Forget(Session session)
    {
        lock (_sessions)
            _sessions.Remove(session);
    }

    // The session that was idle longest makes room for requests.
    private bool TryGiveUpIdle()
    {
        Session[] sessions;
        lock (_sessions)
            sessions = [.. _sessions];
        return sessions.OrderBy(session => session.LastUsed).Any(session => session.TryGiveUpState());
    }

    private void SaveReplies()
    {
        if (_replyFile is not null)
            ReplyFile.Save(_replyFile, Replies.All);
    }

    // The prompt of a conversation, with the replies that the model gave as it gave them.
    internal EncodedPrompt EncodeChat(IReadOnlyList<Message> messages, IReadOnlyList<ToolDefinition>? tools, ChatTemplateOptions options, string scope = "") =>
        ConversationEncoder.Encode(Tokenizer, Template, Replies, MessageNormalizer.Normalize(messages, Template.Summary), tools, options, scope);

    // The `replyCount` tokens that a session generated after its first `promptCount` are `message` to clients. What a stop string
    // ended is not: the string is among the tokens and not in the message.
    internal void Remember(IReadOnlyList<int> tokens, int promptCount, int replyCount, Message message, bool thinks, bool isThinking, FinishReason? finish, string scope = "")
    {
        int[] all = [.. tokens.Take(promptCount + replyCount)];
        if (finish != FinishReason.Stop || EndIds.Contains(all[^1]))
            Replies.Add(Tokenizer, all.AsSpan(0, promptCount), all.AsSpan(promptCount), message, thinks, isThinking, EndIds, scope);
    }

    internal PromptScorer NewScorer(int alternativeCount) => new(_vocabulary, alternativeCount, _samplingScratch);

    internal void Submit(Generation generation) => _scheduler.Submit(generation);

    // A reply's place in what its options ask for; null when they ask for nothing. Compiled ones are kept, so asking early costs nothing later.
    internal TokenConstraint? NewConstraint(SamplingOptions options, bool insideThinking)
    {
        if (options.Constraint is not { } constraint)
            return null;
        if (_constraints is null)
            throw new BadRequestException("a constraint was given, but this checkpoint has no tokenizer: put its tokenizer.json beside the model.");
        IEnumerable<int> stops = options.StopTokenIds?.Where(id => id < Tokenizer.VocabularySize && Tokenizer.IsControl(id)) ?? [];
        try
        {
            return _constraints.Begin(constraint, insideThinking, options.IgnoreEos == true ? stops : EndIds.Concat(stops));
        }
        catch (BadRequestException) when (constraint.IsAdvice)
        {
            return null;
        }
    }

    // The MTP head comes along for drafting where it fits beside a context of the length that was asked for.
    private static EngineOptions WithDrafting(EngineOptions options, Checkpoint checkpoint)
    {
        if (options.Speculation != Speculation.Auto || options.LoadMtp || checkpoint.Config.MtpLayerCount == 0)
            return options;
        EngineOptions drafting = options with { LoadMtp = true };
        MemoryPlan plan = MemoryEstimate.For(checkpoint, drafting, LayerRange.All(checkpoint.Config));
        int context = options.ContextLength ?? Math.Min(checkpoint.Config.ContextLength, UsualContext);
        return plan.TotalBytes(context) <= plan.AvailableBytes ? drafting : options;
    }

    // Room to look for repetitions in, without growing while a reply is written; a longer one grows it.
    private int ExpectedLength(Timeline timeline, SamplingOptions options) =>
        (int)Math.Min(ContextLength, timeline.TotalCount + (long)Math.Min(options.MaxTokens ?? UsualReply, UsualReply));

    // Without a budget, thinking may still have to be closed because it circles.
    private ThinkingBudget? ThinkingBudgetOf(SamplingOptions options, bool insideThinking, bool isGuarded)
    {
        if (options.ThinkingBudget is null && !isGuarded)
            return null;
        int budget = options.ThinkingBudget ?? int.MaxValue;
        if (_tokenizer is null || !_tokenizer.TryGetId("<think>", out int open) || !_tokenizer.TryGetId("</think>", out int close))
            return options.ThinkingBudget is null ? null : throw new BadRequestException("A thinking budget was given, but this checkpoint's tokenizer has no <think> and </think> tokens.");
        int[] closing = _tokenizer.Encode(ThinkingBudget.DefaultClosingText, matchAddedTokens: true);
        return new ThinkingBudget(budget, open, close, closing, insideThinking);
    }

    // Tokens that contain one of the DRY sequence breakers.
    private int[] DryBreakers(SamplingOptions options)
    {
        if (options.Dry is not { Multiplier: > 0 } dry || _tokenizer is null)
            return [];
        byte[][] breakers = [.. dry.SequenceBreakers.Select(System.Text.Encoding.UTF8.GetBytes)];
        var ids = new List<int>();
        for (int id = 0; id < _tokenizer.VocabularySize; id++)
        {
            ReadOnlySpan<byte> bytes = _tokenizer.TokenBytes(id);
            foreach (byte[] breaker in breakers)
            {
                if (bytes.IndexOf(breaker) < 0)
                    continue;
                ids.Add(id);
                break;
            }
        }

        return [.. ids];
    }

    private static VocabularyMask VocabularyOf(Tokenizer? tokenizer, int vocabularySize)
    {
        if (tokenizer is null)
            return VocabularyMask.All(vocabularySize);
        var defined = new ulong[(vocabularySize + 63) / 64];
        for (int id = 0; id < vocabularySize; id++)
        {
            if (tokenizer.IsDefined(id))
                defined[id >> 6] |= 1UL << (id & 63);
        }

        return VocabularyMask.FromDefined(defined, vocabularySize);
    }

    // The turn ends at the file's eos ids and at <|im_end|> and <|endoftext|> where the tokenizer has them: published GGUF
    // files name only one of the two.
    private static HashSet<int> EndIdsOf(Checkpoint checkpoint, Tokenizer? tokenizer)
    {
        HashSet<int> ids = [.. checkpoint.Generation?.EosTokenIds ?? []];
        foreach (string name in (ReadOnlySpan<string>)["<|im_end|>", "<|endoftext|>"])
        {
            if (tokenizer is not null && tokenizer.TryGetId(name, out int id))
                ids.Add(id);
        }

        return ids;
    }
}
