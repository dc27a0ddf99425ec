namespace Qian.Inference.Constraint;

// Finds rules that would call themselves before anything was read: following those would never end.
internal static class LeftRecursion
{
    public static void Refuse(Automaton automaton, StateTable table)
    {
        var ruleOf = new Dictionary<int, int>();
        for (int rule = 0; rule < table.RuleStarts.Length; rule++)
            ruleOf.TryAdd(table.RuleStarts[rule], rule);
        bool[] isNullable = NullableRules(automaton, table, ruleOf);
        var called = new List<int>[table.RuleStarts.Length];
        for (int rule = 0; rule < called.Length; rule++)
            called[rule] = CalledFirst(automaton, table.RuleStarts[rule], ruleOf, isNullable, out _);

        // 1: on the way down, 2: done.
        var mark = new byte[called.Length];
        var path = new Stack<(int Rule, int Next)>();
        for (int root = 0; root < called.Length; root++)
        {
            if (mark[root] != 0)
                continue;
            mark[root] = 1;
            path.Push((root, 0));
            while (path.TryPop(out (int Rule, int Next) at))
            {
                if (at.Next == called[at.Rule].Count)
                {
                    mark[at.Rule] = 2;
                    continue;
                }

                path.Push((at.Rule, at.Next + 1));
                int rule = called[at.Rule][at.Next];
                if (mark[rule] == 1)
                    throw new BadRequestException($"'{table.RuleNames[rule]}' begins with itself (left recursion): write the repetition with * or + or put the recursion at the end.");
                if (mark[rule] == 0)
                {
                    mark[rule] = 1;
                    path.Push((rule, 0));
                }
            }
        }
    }

    private static bool[] NullableRules(Automaton automaton, StateTable table, Dictionary<int, int> ruleOf)
    {
        var isNullable = new bool[table.RuleStarts.Length];
        for (bool changed = true; changed;)
        {
            changed = false;
            for (int rule = 0; rule < isNullable.Length; rule++)
            {
                if (isNullable[rule])
                    continue;
                CalledFirst(automaton, table.RuleStarts[rule], ruleOf, isNullable, out isNullable[rule]);
                changed |= isNullable[rule];
            }
        }

        return isNullable;
    }

    // Rules that may be called before the rule that starts here has read anything; and whether it may end so.
    private static List<int> CalledFirst(Automaton automaton, int start, Dictionary<int, int> ruleOf, bool[] isNullable, out bool ends)
    {
        var rules = new HashSet<int>();
        var seen = new HashSet<int> { start };
        var left = new Stack<int>(seen);
        ends = false;
        while (left.TryPop(out int state))
        {
            ends |= automaton.Accepts[state];
            foreach ((int called, int @return) in automaton.CallsOf(state))
            {
                int rule = ruleOf[called];
                rules.Add(rule);
                if (isNullable[rule] && seen.Add(@return))
                    left.Push(@return);
            }
        }

        return [.. rules];
    }
}
