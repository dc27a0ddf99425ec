using System.Diagnostics.CodeAnalysis;

namespace Qian.Inference.Constraint;

// Bounds of everything a request can make us build. Constraints come from strangers: nesting, counts and products are cut off here, long before
// memory or time hurts, with a message to whoever wrote the constraint.
internal static class ConstraintLimits
{
    // Characters of a constraint's text.
    public const int MaxTextLength = 1 << 20;

    // Of parentheses, of schemas in schemas.
    public const int MaxNesting = 64;

    public const int MaxRuleCount = 4096;

    // The greatest count in {m,n}, minLength, maxItems and the like.
    public const int MaxRepeatCount = 20_000;

    public const int MaxNfaStates = 600_000;

    public const int MaxNfaEdges = 2_000_000;

    public const int MaxStates = 160_000;

    // States times classes of bytes: entries of the transition table.
    public const int MaxTableEntries = 6_000_000;

    // Steps of turning sets of states into states, which is exponential for hostile patterns.
    public const long MaxWork = 40_000_000;

    // Terms up to this size are copied into their callers.
    public const int MaxInlinedSize = 2048;

    public static void CheckText(string text, string what)
    {
        if (text.Length > MaxTextLength)
            throw new BadRequestException($"{what}: at most {MaxTextLength} characters are read, this has {text.Length}.");
    }

    [DoesNotReturn]
    public static void ThrowTooLarge() =>
        throw new BadRequestException("the constraint is too large: it needs more states than this engine allows. Use smaller counts (maxLength, maxItems, {m,n}), fewer alternatives or a simpler pattern.");
}

// The steps that one constraint's compilation may still take, over all of its parts.
internal sealed class WorkBudget
{
    private long _left = ConstraintLimits.MaxWork;

    public void Spend(int steps)
    {
        _left -= steps;
        if (_left < 0)
            ConstraintLimits.ThrowTooLarge();
    }
}
