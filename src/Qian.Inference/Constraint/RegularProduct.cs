namespace Qian.Inference.Constraint;

// The texts that two regular terms have in common, as states of their own: pairs of states that are reached together.
internal static class RegularProduct
{
    public static Term.Graph Of(Term left, Term right, WorkBudget budget)
    {
        StateTable a = TableOf(left, budget), b = TableOf(right, budget);
        var known = new Dictionary<(int, int), int>();
        var pairs = new List<(int A, int B)>();
        var edges = new List<Term.Edge>();
        var accepting = new List<int>();
        StateOf((a.RuleStarts[0], b.RuleStarts[0]));
        for (int state = 0; state < pairs.Count; state++)
        {
            (int fromA, int fromB) = pairs[state];
            if (a.Accepts[fromA] && b.Accepts[fromB])
                accepting.Add(state);
            budget.Spend(256);
            for (int low = 0; low < 256;)
            {
                int toA = a.Next[(fromA * a.ClassCount) + a.ClassOf[low]];
                int toB = b.Next[(fromB * b.ClassCount) + b.ClassOf[low]];
                int high = low;
                while (high < 255 && a.Next[(fromA * a.ClassCount) + a.ClassOf[high + 1]] == toA && b.Next[(fromB * b.ClassCount) + b.ClassOf[high + 1]] == toB)
                    high++;
                if (toA >= 0 && toB >= 0)
                    edges.Add(new Term.Edge(state, (byte)low, (byte)high, StateOf((toA, toB))));
                low = high + 1;
            }
        }

        return new Term.Graph(pairs.Count, edges, accepting);

        int StateOf((int, int) pair)
        {
            if (known.TryGetValue(pair, out int state))
                return state;
            if (pairs.Count >= ConstraintLimits.MaxStates)
                ConstraintLimits.ThrowTooLarge();
            known.Add(pair, pairs.Count);
            pairs.Add(pair);
            return pairs.Count - 1;
        }
    }

    private static StateTable TableOf(Term term, WorkBudget budget)
    {
        NfaRules rules = NfaBuilder.Build(term, budget);
        return rules.Bounds.Length == 1 ? Determinizer.Run(rules, budget) : throw new BadRequestException("a part that recurs cannot be combined with another restriction of the same text.");
    }
}
