using System.Text;

namespace Qian.Inference.Constraint;

// Gives the terms of a grammar their states. Rules that do not recur and stay small are copied into their callers, so that
// ordinary grammars become a few automata without calls; only what recurs, or would grow too large, is called.
internal sealed class NfaBuilder
{
    private readonly Nfa _nfa = new();
    private readonly WorkBudget _budget;
    private readonly Dictionary<Term, Term.Graph> _products = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<Rule, int> _sizes = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<Rule> _called = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<Rule, int> _indexes = new(ReferenceEqualityComparer.Instance);
    private readonly List<Rule> _rules = [];

    private NfaBuilder(WorkBudget budget) => _budget = budget;

    public static NfaRules Build(Term root, WorkBudget budget)
    {
        var builder = new NfaBuilder(budget);
        var top = new Rule("the constraint") { Body = root };
        builder.Measure(root, 0);
        builder.IndexOf(top);
        var bounds = new List<(int Start, int End)>();
        for (int i = 0; i < builder._rules.Count; i++)
        {
            (int start, int end) = (builder._nfa.AddState(), builder._nfa.AddState());
            bounds.Add((start, end));
            builder.Add(builder._rules[i].Body, start, end);
        }

        return new NfaRules(builder._nfa, [.. bounds], [.. builder._rules.Select(rule => rule.Name)]);
    }

    private int IndexOf(Rule rule)
    {
        if (_indexes.TryGetValue(rule, out int index))
            return index;
        if (_rules.Count >= ConstraintLimits.MaxRuleCount)
            ConstraintLimits.ThrowTooLarge();
        _indexes.Add(rule, _rules.Count);
        _rules.Add(rule);
        return _rules.Count - 1;
    }

    // The size a term will have once its rules are copied in; finds the rules that recur on the way. Saturates.
    private int Measure(Term term, int depth)
    {
        if (depth > 16 * ConstraintLimits.MaxNesting)
            throw new BadRequestException($"the constraint's rules refer to one another in chains longer than {16 * ConstraintLimits.MaxNesting}; nest them less deep.");
        switch (term)
        {
            case Term.Literal literal:
                return literal.Text.Length + 1;
            case Term.Chars chars:
                return Math.Max(4, chars.Set.Ranges.Count);
            case Term.Sequence sequence:
                return Sum(sequence.Items, depth);
            case Term.Choice choice:
                return Sum(choice.Items, depth);
            case Term.Repeat repeat:
                return Saturate((long)Measure(repeat.Item, depth + 1) * Math.Max(1, repeat.Max ?? repeat.Min + 1));
            case Term.Ordered ordered:
                return Saturate((long)Sum([.. ordered.Items.Select(item => item.Term)], depth) + Measure(ordered.Separator, depth + 1) + (ordered.More is { } more ? Measure(more, depth + 1) : 0));
            case Term.AnyOrder any:
                return Saturate((long)Sum([.. any.Items.Select(item => item.Term)], depth) << any.Items.Count);
            case Term.Graph graph:
                return graph.Edges.Count;
            case Term.Both both:
                Measure(both.Left, depth + 1);
                Measure(both.Right, depth + 1);
                return ConstraintLimits.MaxInlinedSize / 2;
            default:
                return MeasureCall(((Term.Call)term).Rule, depth);
        }
    }

    private int MeasureCall(Rule rule, int depth)
    {
        if (_sizes.TryGetValue(rule, out int size))
        {
            // Still being measured: it contains itself.
            if (size < 0)
                _called.Add(rule);
            return _called.Contains(rule) ? 1 : size;
        }

        _sizes[rule] = -1;
        size = Measure(rule.Body, depth + 1);
        _sizes[rule] = size;
        if (size > ConstraintLimits.MaxInlinedSize || rule.StandsAlone)
            _called.Add(rule);
        return _called.Contains(rule) ? 1 : size;
    }

    private int Sum(IReadOnlyList<Term> items, int depth)
    {
        long sum = 1;
        foreach (Term item in items)
            sum += Measure(item, depth + 1);
        return Saturate(sum);
    }

    private static int Saturate(long size) => (int)Math.Min(size, 1 << 28);

    private void Add(Term term, int from, int to)
    {
        switch (term)
        {
            case Term.Literal literal:
                AddLiteral(literal.Text, from, to);
                break;
            case Term.Chars chars:
                AddChars(chars.Set, from, to);
                break;
            case Term.Sequence sequence:
                AddSequence(sequence.Items, from, to);
                break;
            case Term.Choice choice:
                foreach (Term item in choice.Items)
                    Add(item, from, to);
                break;
            case Term.Repeat repeat:
                AddRepeat(repeat, from, to);
                break;
            case Term.Ordered ordered:
                AddOrdered(ordered, from, to);
                break;
            case Term.AnyOrder any:
                AddAnyOrder(any, from, to);
                break;
            case Term.Graph graph:
                AddGraph(graph, from, to);
                break;
            case Term.Both both:
                if (!_products.TryGetValue(both, out Term.Graph? product))
                    _products.Add(both, product = RegularProduct.Of(both.Left, both.Right, _budget));
                AddGraph(product, from, to);
                break;
            default:
                Rule rule = ((Term.Call)term).Rule;
                if (_called.Contains(rule))
                    _nfa.AddCall(from, IndexOf(rule), to);
                else
                    AddApart(rule.Body, from, to);
                break;
        }
    }

    // Between states of its own, so that no loop inside touches what is outside.
    private void AddApart(Term term, int from, int to)
    {
        (int start, int end) = (_nfa.AddState(), _nfa.AddState());
        _nfa.AddEmpty(from, start);
        Add(term, start, end);
        _nfa.AddEmpty(end, to);
    }

    private void AddLiteral(string text, int from, int to)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        if (bytes.Length == 0)
        {
            _nfa.AddEmpty(from, to);
            return;
        }

        for (int i = 0; i < bytes.Length; i++)
        {
            int next = i == bytes.Length - 1 ? to : _nfa.AddState();
            _nfa.AddBytes(from, bytes[i], bytes[i], next);
            from = next;
        }
    }

    private void AddChars(CodePointSet set, int from, int to)
    {
        var sequences = new List<(byte Low, byte High)[]>();
        Utf8Sequences.Add(set, sequences);
        // Sequences with the same tail share its states: [E1-EC][80-BF][80-BF] and [EE-EF][80-BF][80-BF].
        var tails = new Dictionary<string, int>();
        foreach ((byte Low, byte High)[] sequence in sequences)
        {
            int next = to;
            string key = "";
            for (int i = sequence.Length - 1; i > 0; i--)
            {
                key += $"{sequence[i].Low:x2}{sequence[i].High:x2}";
                if (!tails.TryGetValue(key, out int state))
                {
                    state = _nfa.AddState();
                    _nfa.AddBytes(state, sequence[i].Low, sequence[i].High, next);
                    tails.Add(key, state);
                }

                next = state;
            }

            _nfa.AddBytes(from, sequence[0].Low, sequence[0].High, next);
        }
    }

    private void AddSequence(IReadOnlyList<Term> items, int from, int to)
    {
        if (items.Count == 0)
            _nfa.AddEmpty(from, to);
        for (int i = 0; i < items.Count; i++)
        {
            int next = i == items.Count - 1 ? to : _nfa.AddState();
            Add(items[i], from, next);
            from = next;
        }
    }

    private void AddRepeat(Term.Repeat repeat, int from, int to)
    {
        for (int i = 0; i < repeat.Min; i++)
        {
            int next = _nfa.AddState();
            Add(repeat.Item, from, next);
            from = next;
        }

        if (repeat.Max is null)
        {
            int loop = _nfa.AddState();
            _nfa.AddEmpty(from, loop);
            AddApart(repeat.Item, loop, loop);
            _nfa.AddEmpty(loop, to);
            return;
        }

        // Every place may leave for the end at once: chains of "or skip" would make closures quadratic.
        for (int i = repeat.Min; i < repeat.Max; i++)
        {
            _nfa.AddEmpty(from, to);
            int next = _nfa.AddState();
            Add(repeat.Item, from, next);
            from = next;
        }

        _nfa.AddEmpty(from, to);
    }

    private void AddOrdered(Term.Ordered ordered, int from, int to)
    {
        // Two rails: nothing came yet, and something came, so that a separator is due.
        int first = from, later = _nfa.AddState();
        foreach (Term.Member item in ordered.Items)
        {
            (int start, int nextFirst, int nextLater) = (_nfa.AddState(), _nfa.AddState(), _nfa.AddState());
            _nfa.AddEmpty(first, start);
            Add(ordered.Separator, later, start);
            Add(item.Term, start, nextLater);
            if (!item.IsRequired)
            {
                _nfa.AddEmpty(first, nextFirst);
                _nfa.AddEmpty(later, nextLater);
            }

            (first, later) = (nextFirst, nextLater);
        }

        if (ordered.More is { } more)
        {
            int start = _nfa.AddState(), loop = _nfa.AddState();
            _nfa.AddEmpty(first, start);
            _nfa.AddEmpty(later, loop);
            AddApart(ordered.Separator, loop, start);
            AddApart(more, start, loop);
            _nfa.AddEmpty(loop, to);
        }

        _nfa.AddEmpty(first, to);
        _nfa.AddEmpty(later, to);
    }

    private void AddAnyOrder(Term.AnyOrder any, int from, int to)
    {
        int count = any.Items.Count;
        if (count > Term.AnyOrder.MostItems)
            throw new ArgumentException($"{count} items in any order; at most {Term.AnyOrder.MostItems} are supported.", nameof(any));
        var states = new int[1 << count];
        for (int taken = 0; taken < states.Length; taken++)
            states[taken] = _nfa.AddState();
        _nfa.AddEmpty(from, states[0]);
        for (int taken = 0; taken < states.Length; taken++)
        {
            bool isWhole = true;
            for (int i = 0; i < count; i++)
            {
                if ((taken >> i & 1) != 0)
                    continue;
                isWhole &= !any.Items[i].IsRequired;
                Add(any.Items[i].Term, states[taken], states[taken | 1 << i]);
            }

            if (isWhole)
                _nfa.AddEmpty(states[taken], to);
        }
    }

    private void AddGraph(Term.Graph graph, int from, int to)
    {
        int[] states = new int[graph.StateCount];
        for (int i = 0; i < states.Length; i++)
            states[i] = _nfa.AddState();
        _nfa.AddEmpty(from, states[0]);
        foreach (Term.Edge edge in graph.Edges)
            _nfa.AddBytes(states[edge.From], edge.Low, edge.High, edge.To < 0 ? to : states[edge.To]);
        foreach (int state in graph.Accepting)
            _nfa.AddEmpty(states[state], to);
    }
}

// The states of all rules, rule 0 being the whole constraint.
internal sealed record NfaRules(Nfa Nfa, (int Start, int End)[] Bounds, string[] Names);
