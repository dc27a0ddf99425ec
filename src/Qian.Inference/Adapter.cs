using Qian.Inference.Model;

namespace Qian.Inference;

/// <summary>
/// A LoRA adapter that <see cref="Engine.LoadAdapter"/> has put beside the model: small matrices A and B for some of its
/// projections, applied as y += scale * B (A x) without touching the weights. Any number may be loaded; each session chooses one,
/// or none, and sessions of different adapters are computed together.
/// </summary>
public sealed class Adapter : IDisposable
{
    private readonly Engine _engine;
    private int _unloaded;

    internal Adapter(Engine engine, string name, LowRankAdapter values)
    {
        _engine = engine;
        Name = name;
        Values = values;
    }

    /// <summary>What it was called when it was loaded; unique within its engine.</summary>
    public string Name { get; }

    /// <summary>Projections that it changes, over all layers.</summary>
    public int TargetCount => Values.TargetCount;

    /// <summary>The largest rank among them.</summary>
    public int Rank => Values.MaxRank;

    /// <summary>Bytes of memory that it takes.</summary>
    public long Bytes => Values.Bytes;

    /// <summary>False after <see cref="Dispose"/>: no session can be started, forked or continued with it any more.</summary>
    public bool IsLoaded => Volatile.Read(ref _unloaded) == 0;

    internal LowRankAdapter Values { get; }

    internal bool BelongsTo(Engine engine) => _engine == engine;

    internal void RequireLoaded()
    {
        if (!IsLoaded)
            throw new BadRequestException($"The adapter '{Name}' was unloaded. Load it again and start a new session with it.");
    }

    /// <summary>Unloads it. What is being generated with it is finished; its memory goes with the last session that has it.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _unloaded, 1) != 0)
            return;
        _engine.Forget(this);
        Values.Release();
    }
}
