using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace Qian.Kernels;

/// <summary>Argument checks of the operations: one comparison when all is well, one sentence when not.</summary>
internal static class Expect
{
    /// <summary>At least <paramref name="count"/> floats; kernels write through raw pointers, so this is the only fence.</summary>
    public static void Floats(FloatView view, long count, [CallerArgumentExpression(nameof(view))] string? name = null)
    {
        if (view.Length < count)
            ThrowTooShort(name, count, view.Length);
    }

    public static void AtLeast(int value, int minimum, [CallerArgumentExpression(nameof(value))] string? name = null)
    {
        if (value < minimum)
            ThrowTooSmall(name, minimum, value);
    }

    [DoesNotReturn]
    private static void ThrowTooShort(string? name, long expected, long found) =>
        throw new ArgumentException($"{name}: expected at least {expected} floats, found {found}", name);

    [DoesNotReturn]
    private static void ThrowTooSmall(string? name, int minimum, int found) =>
        throw new ArgumentOutOfRangeException(name, found, $"{name}: expected at least {minimum}");
}
