using System.Runtime.CompilerServices;

namespace Qian.Inference.Chat.Jinja;

// What one rendering may spend. A template comes from a model file that nobody has vetted, so each loop pass, each list item and
// each character that is copied or scanned is charged here; whatever the template does, it ends after a bounded amount of work.
// The defaults leave much room over the longest real conversation (a million characters, a few thousand messages).
internal sealed record JinjaLimits
{
    public static JinjaLimits Default { get; } = new();

    public long StepCount { get; init; } = 5_000_000;

    public long CharCount { get; init; } = 256_000_000;

    public int OutputCharCount { get; init; } = 32 * 1024 * 1024;

    public int DepthCount { get; init; } = 1000;

    public int RangeCount { get; init; } = 100_000;
}

internal sealed class JinjaBudget
{
    private readonly JinjaLimits _limits;
    private long _stepCount;
    private long _charCount;
    private int _depth;

    public JinjaBudget(JinjaLimits limits)
    {
        _limits = limits;
        _stepCount = limits.StepCount;
        _charCount = limits.CharCount;
    }

    public JinjaLimits Limits => _limits;

    public void Step(long count = 1)
    {
        _stepCount -= count;
        if (_stepCount < 0)
        {
            throw new TemplateException(TemplateFault.Limit, $"The template did not finish within {_limits.StepCount} steps.");
        }
    }

    public void Chars(long count)
    {
        _charCount -= count;
        if (_charCount < 0)
        {
            throw new TemplateException(TemplateFault.Limit, $"The template handled more than {_limits.CharCount} characters.");
        }
    }

    // The logical cap bounds well-behaved recursion; the stack check is what makes an overflow impossible whatever the thread.
    public void Enter()
    {
        if (++_depth > _limits.DepthCount || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw new TemplateException(TemplateFault.Limit, $"The template nests deeper than {_limits.DepthCount} levels.");
        }
    }

    public void Leave() => _depth--;
}
