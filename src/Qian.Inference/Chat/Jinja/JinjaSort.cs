namespace Qian.Inference.Chat.Jinja;

// A merge sort of its own, because the framework's sort is not stable, wraps what the comparison throws and objects to NaN.
internal static class JinjaSort
{
    // The order in which to take the keys; equal ones keep theirs, also when reversed, as in Python.
    public static int[] Order(IReadOnlyList<JinjaValue> keys, bool isReversed, JinjaBudget budget)
    {
        var order = new int[keys.Count];
        for (int i = 0; i < order.Length; i++)
        {
            order[i] = i;
        }

        var merged = new int[order.Length];
        for (long width = 1; width < order.Length; width *= 2)
        {
            for (long start = 0; start < order.Length; start += 2 * width)
            {
                int middle = (int)Math.Min(start + width, order.Length);
                int end = (int)Math.Min(start + (2 * width), order.Length);
                int left = (int)start;
                int right = middle;
                for (int i = left; i < end; i++)
                {
                    bool takesRight = left == middle
                        || (right < end && IsBefore(keys[order[right]], keys[order[left]], isReversed, budget));
                    merged[i] = takesRight ? order[right++] : order[left++];
                }
            }

            (order, merged) = (merged, order);
        }

        return order;
    }

    private static bool IsBefore(JinjaValue a, JinjaValue b, bool isReversed, JinjaBudget budget) =>
        isReversed ? JinjaOperators.Order(b, a, budget) < 0 : JinjaOperators.Order(a, b, budget) < 0;
}
