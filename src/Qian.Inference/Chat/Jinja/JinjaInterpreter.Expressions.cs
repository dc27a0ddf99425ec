using System.Numerics;

namespace Qian.Inference.Chat.Jinja;

internal sealed partial class JinjaInterpreter
{
    // What iterating over the value gives, in Python's sense: items, keys or characters.
    public IReadOnlyList<JinjaValue> Items(JinjaValue value)
    {
        switch (value.Kind)
        {
            case JinjaKind.Undefined:
                return [];
            case JinjaKind.List:
                return value.List.Items;
            case JinjaKind.Mapping:
                Budget.Step(value.Mapping.Count);
                var keys = new JinjaValue[value.Mapping.Count];
                for (int i = 0; i < keys.Length; i++)
                {
                    keys[i] = value.Mapping.KeyAt(i);
                }

                return keys;
            case JinjaKind.Text:
                Budget.Step(value.Text.Length);
                var characters = new List<JinjaValue>();
                for (int i = 0; i < value.Text.Length;)
                {
                    int width = CodePoints.WidthAt(value.Text.Value, i);
                    characters.Add(JinjaValue.FromText(value.Text.Slice(i, width)));
                    i += width;
                }

                return characters;
            default:
                throw new TemplateException(TemplateFault.Type, $"'{value.TypeName}' object is not iterable");
        }
    }

    // owner.name: a method wins over a key of that name.
    public JinjaValue Attribute(JinjaValue owner, string name)
    {
        if (JinjaMethods.Exists(owner.Kind, name))
        {
            return JinjaValue.FromFunction(arguments => JinjaMethods.Call(owner, name, arguments));
        }

        switch (owner.Kind)
        {
            case JinjaKind.Undefined:
                throw owner.UndefinedError();
            case JinjaKind.Mapping:
                return owner.Mapping.TryGet(name, out JinjaValue value) ? value : JinjaValue.UndefinedMember(owner, name);
            case JinjaKind.Namespace:
                return owner.Namespace.TryGetValue(name, out JinjaValue attribute) ? attribute : JinjaValue.UndefinedMember(owner, name);
            case JinjaKind.Loop:
                return owner.Loop.Get(name);
            default:
                return JinjaValue.UndefinedMember(owner, name);
        }
    }

    // owner[key]: a key wins over a method.
    public JinjaValue Item(JinjaValue owner, JinjaValue key)
    {
        switch (owner.Kind)
        {
            case JinjaKind.Undefined:
                throw owner.UndefinedError();
            case JinjaKind.Mapping when key.Kind != JinjaKind.Undefined && owner.Mapping.TryGet(key, out JinjaValue value):
                return value;
            case JinjaKind.List when key.IsIntegral && owner.List.Form != JinjaListForm.Iterator:
                BigInteger index = key.Integer.Sign < 0 ? key.Integer + owner.List.Items.Count : key.Integer;
                return index >= 0 && index < owner.List.Items.Count
                    ? owner.List.Items[(int)index]
                    : JinjaValue.UndefinedElement(owner, PythonText.Integer(key.Integer));
            case JinjaKind.Text when key.IsIntegral:
                Budget.Chars(owner.Text.Length);
                BigInteger position = key.Integer.Sign < 0 ? key.Integer + CodePoints.Count(owner.Text.Value) : key.Integer;
                int at = position < 0 || position >= owner.Text.Length ? -1 : CodePoints.IndexOf(owner.Text.Value, (int)position);
                return at >= 0 && at < owner.Text.Length
                    ? JinjaValue.FromText(owner.Text.Slice(at, CodePoints.WidthAt(owner.Text.Value, at)))
                    : JinjaValue.UndefinedElement(owner, PythonText.Integer(key.Integer));
        }

        if (key.Kind == JinjaKind.Text)
        {
            return Attribute(owner, key.Text.Value);
        }

        return JinjaValue.UndefinedElement(owner, PythonText.Str(key, Budget).Value);
    }

    public JinjaValue CallFunction(JinjaValue callee, JinjaArguments arguments)
    {
        if (callee.Kind != JinjaKind.Callable)
        {
            throw callee.IsUndefined
                ? callee.UndefinedError()
                : new TemplateException(TemplateFault.Type, $"'{callee.TypeName}' object is not callable");
        }

        return callee.Function(arguments);
    }

    private JinjaValue Evaluate(JinjaExpression node, JinjaScope scope)
    {
        Budget.Step();
        Budget.Enter();
        _line = node.Line;
        JinjaValue value = node switch
        {
            ConstantNode constant => constant.Value,
            NameNode name => scope.Get(name.Name),
            AttributeNode attribute => Attribute(Evaluate(attribute.Owner, scope), attribute.Name),
            ItemNode item => Item(Evaluate(item.Owner, scope), Evaluate(item.Key, scope)),
            CallNode call => Call(call, scope, caller: null),
            FilterNode filter => JinjaFilters.Apply(filter.Name, Evaluate(filter.Operand, scope), Arguments(filter.Arguments, scope, null)),
            TestNode test => JinjaValue.FromBoolean(
                JinjaPredicates.Test(test.Name, Evaluate(test.Operand, scope), Arguments(test.Arguments, scope, null))),
            CompareNode compare => JinjaValue.FromBoolean(Compare(compare, scope)),
            LogicNode logic => Logic(logic, scope),
            NotNode not => JinjaValue.FromBoolean(!Evaluate(not.Operand, scope).IsTrue),
            ArithmeticNode sum => JinjaOperators.Apply(sum.Operator, Evaluate(sum.Left, scope), Evaluate(sum.Right, scope), Budget),
            ConcatNode concat => Concat(concat, scope),
            ConditionNode choice => Evaluate(choice.Condition, scope).IsTrue
                ? Evaluate(choice.Then, scope)
                : choice.Else is null ? JinjaValue.UndefinedName("the inline if-expression without an else section") : Evaluate(choice.Else, scope),
            ListNode list => JinjaValue.FromList(EvaluateAll(list.Items, scope), list.Form),
            DictNode dict => Dict(dict, scope),
            SliceNode slice => Slice(slice, scope),
            SignNode sign => Sign(sign, Evaluate(sign.Operand, scope)),
            _ => throw new InvalidOperationException($"No rule for {node.GetType().Name}."),
        };
        Budget.Leave();
        return value;
    }

    private JinjaValue[] EvaluateAll(IReadOnlyList<JinjaExpression> nodes, JinjaScope scope)
    {
        var values = new JinjaValue[nodes.Count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = Evaluate(nodes[i], scope);
        }

        return values;
    }

    private JinjaValue Call(CallNode call, JinjaScope scope, JinjaValue? caller)
    {
        if (call.Callee is AttributeNode method)
        {
            // Skips the bound method that Attribute would make.
            JinjaValue owner = Evaluate(method.Owner, scope);
            if (JinjaMethods.Exists(owner.Kind, method.Name))
            {
                return JinjaMethods.Call(owner, method.Name, Arguments(call.Arguments, scope, caller));
            }

            return CallFunction(Attribute(owner, method.Name), Arguments(call.Arguments, scope, caller));
        }

        return CallFunction(Evaluate(call.Callee, scope), Arguments(call.Arguments, scope, caller));
    }

    private JinjaArguments Arguments(ArgumentNodes nodes, JinjaScope scope, JinjaValue? caller)
    {
        IReadOnlyList<JinjaValue> positional = EvaluateAll(nodes.Positional, scope);
        if (nodes.SpreadList is not null)
        {
            IReadOnlyList<JinjaValue> more = Items(Evaluate(nodes.SpreadList, scope));
            Budget.Step(more.Count);
            positional = [.. positional, .. more];
        }

        if (nodes.Named.Count == 0 && nodes.SpreadMapping is null && caller is null)
        {
            return new JinjaArguments(this, positional, []);
        }

        var named = new List<(string, JinjaValue)>();
        foreach ((string name, JinjaExpression value) in nodes.Named)
        {
            named.Add((name, Evaluate(value, scope)));
        }

        if (nodes.SpreadMapping is not null)
        {
            JinjaValue spread = Evaluate(nodes.SpreadMapping, scope);
            if (spread.Kind != JinjaKind.Mapping)
            {
                throw new TemplateException(TemplateFault.Type, $"argument after ** must be a mapping, not {spread.TypeName}");
            }

            Budget.Step(spread.Mapping.Count);
            for (int i = 0; i < spread.Mapping.Count; i++)
            {
                named.Add((PythonText.Str(spread.Mapping.KeyAt(i), Budget).Value, spread.Mapping.ValueAt(i)));
            }
        }

        if (caller is { } callerValue)
        {
            named.Add(("caller", callerValue));
        }

        return new JinjaArguments(this, positional, named);
    }

    private bool Compare(CompareNode compare, JinjaScope scope)
    {
        JinjaValue left = Evaluate(compare.First, scope);
        foreach ((string name, JinjaExpression operand) in compare.Rest)
        {
            JinjaValue right = Evaluate(operand, scope);
            bool holds = name switch
            {
                "==" => JinjaOperators.AreEqual(left, right, Budget),
                "!=" => !JinjaOperators.AreEqual(left, right, Budget),
                "in" => JinjaOperators.Contains(right, left, Budget),
                "not in" => !JinjaOperators.Contains(right, left, Budget),
                "<" => JinjaOperators.Order(left, right, Budget) < 0,
                "<=" => JinjaOperators.Order(left, right, Budget) <= 0,
                ">" => JinjaOperators.Order(right, left, Budget) < 0,
                _ => JinjaOperators.Order(right, left, Budget) <= 0,
            };
            if (!holds)
            {
                return false;
            }

            left = right;
        }

        return true;
    }

    private JinjaValue Logic(LogicNode logic, JinjaScope scope)
    {
        JinjaValue left = Evaluate(logic.Left, scope);
        return left.IsTrue == logic.IsAnd ? Evaluate(logic.Right, scope) : left;
    }

    private JinjaValue Concat(ConcatNode concat, JinjaScope scope)
    {
        var builder = new JinjaTextBuilder(Budget);
        foreach (JinjaExpression part in concat.Parts)
        {
            builder.Append(PythonText.Str(Evaluate(part, scope), Budget));
        }

        return JinjaValue.FromText(builder.ToText());
    }

    private JinjaValue Dict(DictNode dict, JinjaScope scope)
    {
        var mapping = new JinjaMapping();
        foreach ((JinjaExpression key, JinjaExpression value) in dict.Pairs)
        {
            mapping.Set(Evaluate(key, scope), Evaluate(value, scope));
        }

        return JinjaValue.FromMapping(mapping);
    }

    private static JinjaValue Sign(SignNode sign, JinjaValue value) =>
        sign.IsNegative ? JinjaOperators.Negate(value) : JinjaOperators.Negate(JinjaOperators.Negate(value));

    private JinjaValue Slice(SliceNode slice, JinjaScope scope)
    {
        JinjaValue owner = Evaluate(slice.Owner, scope);
        BigInteger? start = SliceBound(slice.Start, scope);
        BigInteger? stop = SliceBound(slice.Stop, scope);
        BigInteger step = SliceBound(slice.Step, scope) ?? 1;
        if (step.IsZero)
        {
            throw new TemplateException(TemplateFault.Value, "slice step cannot be zero");
        }

        switch (owner.Kind)
        {
            case JinjaKind.Undefined:
                throw owner.UndefinedError();
            case JinjaKind.List when owner.List.Form != JinjaListForm.Iterator:
                IReadOnlyList<JinjaValue> items = owner.List.Items;
                (int first, int count, int stride) = SliceRange(items.Count, start, stop, step);
                Budget.Step(count);
                var taken = new JinjaValue[count];
                for (int i = 0; i < count; i++)
                {
                    taken[i] = items[first + (i * stride)];
                }

                return JinjaValue.FromList(taken, owner.List.Form);
            case JinjaKind.Text:
                return JinjaValue.FromText(SliceText(owner.Text, start, stop, step));
            default:
                return JinjaValue.UndefinedElement(owner, "slice");
        }
    }

    private BigInteger? SliceBound(JinjaExpression? node, JinjaScope scope)
    {
        JinjaValue value = node is null ? JinjaValue.None : Evaluate(node, scope);
        return value.Kind == JinjaKind.None ? null
            : value.IsIntegral ? value.Integer
            : throw new TemplateException(TemplateFault.Type, "slice indices must be integers or None or have an __index__ method");
    }

    private static (int First, int Count, int Stride) SliceRange(int length, BigInteger? start, BigInteger? stop, BigInteger step)
    {
        bool isBackward = step.Sign < 0;
        int lowest = isBackward ? -1 : 0;
        int highest = isBackward ? length - 1 : length;
        int Bound(BigInteger? bound, int absent) => bound is not { } given
            ? absent
            : (int)BigInteger.Clamp(given.Sign < 0 ? given + length : given, lowest, highest);

        int first = Bound(start, isBackward ? highest : lowest);
        int end = Bound(stop, isBackward ? lowest : highest);
        int stride = (int)BigInteger.Clamp(step, -length - 1, length + 1);
        int distance = isBackward ? first - end : end - first;
        int count = distance <= 0 ? 0 : ((distance - 1) / Math.Abs(stride)) + 1;
        return (first, count, stride);
    }

    private JinjaText SliceText(JinjaText text, BigInteger? start, BigInteger? stop, BigInteger step)
    {
        Budget.Chars(text.Length);
        int length = CodePoints.Count(text.Value);
        (int first, int count, int stride) = SliceRange(length, start, stop, step);
        if (stride == 1)
        {
            int from = CodePoints.IndexOf(text.Value, first);
            return text.Slice(from, CodePoints.IndexOf(text.Value, first + count) - from);
        }

        int[] offsets = CodePoints.Offsets(text.Value);
        var builder = new JinjaTextBuilder(Budget);
        for (int i = 0; i < count; i++)
        {
            int at = first + (i * stride);
            builder.Append(text, offsets[at], offsets[at + 1] - offsets[at]);
        }

        return builder.ToText();
    }
}
