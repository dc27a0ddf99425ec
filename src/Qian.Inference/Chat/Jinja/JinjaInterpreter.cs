namespace Qian.Inference.Chat.Jinja;

// Runs a parsed template: this part executes statements, the other evaluates expressions. One instance renders once. Everything it
// does is charged to a budget, and any failure leaves as a TemplateException that knows the template line.
internal sealed partial class JinjaInterpreter
{
    private readonly JinjaScope _globals = new(null);
    private JinjaTextBuilder _output;
    private int _line;

    private JinjaInterpreter(JinjaLimits limits)
    {
        Budget = new JinjaBudget(limits);
        _output = new JinjaTextBuilder(Budget);
    }

    private enum Flow
    {
        Onward,
        Break,
        Continue,
    }

    public JinjaBudget Budget { get; }

    // now: what strftime_now tells.
    public static JinjaText Render(
        BlockNode template, IEnumerable<KeyValuePair<string, JinjaValue>> variables, DateTimeOffset now, JinjaLimits limits)
    {
        var interpreter = new JinjaInterpreter(limits);
        try
        {
            JinjaGlobals.AddTo(interpreter._globals, now);
            foreach ((string name, JinjaValue value) in variables)
            {
                interpreter._globals.Set(name, value);
            }

            interpreter.Execute(template, new JinjaScope(interpreter._globals));
            return interpreter._output.ToText();
        }
        catch (TemplateException failure)
        {
            failure.AtLine(interpreter._line);
            throw;
        }
    }

    private Flow Execute(BlockNode block, JinjaScope scope)
    {
        Budget.Enter();
        foreach (JinjaStatement statement in block.Statements)
        {
            Flow flow = Execute(statement, scope);
            if (flow != Flow.Onward)
            {
                Budget.Leave();
                return flow;
            }
        }

        Budget.Leave();
        return Flow.Onward;
    }

    private Flow Execute(JinjaStatement statement, JinjaScope scope)
    {
        Budget.Step();
        _line = statement.Line;
        switch (statement)
        {
            case DataNode data:
                _output.Append(data.Text);
                return Flow.Onward;
            case PrintNode print:
                _output.Append(PythonText.Str(Evaluate(print.Value, scope), Budget));
                return Flow.Onward;
            case SetNode set:
                Assign(set.Target, Evaluate(set.Value, scope), scope);
                return Flow.Onward;
            case IfNode choice:
                return ExecuteIf(choice, scope);
            case ForNode loop:
                return ExecuteFor(loop, scope);
            case SetBlockNode set:
                Assign(set.Target, Filtered(Capture(set.Body, new JinjaScope(scope)), set.Filter, scope), scope);
                return Flow.Onward;
            case FilterBlockNode filter:
                JinjaText captured = Capture(filter.Body, new JinjaScope(scope));
                _output.Append(PythonText.Str(Filtered(captured, filter.Filter, scope), Budget));
                return Flow.Onward;
            case WithNode with:
                var inner = new JinjaScope(scope);
                foreach ((TargetNode target, JinjaExpression value) in with.Bindings)
                {
                    Assign(target, Evaluate(value, scope), inner);
                }

                return Execute(with.Body, inner);
            case MacroNode macro:
                scope.Set(macro.Name, JinjaValue.FromFunction(arguments => CallMacro(macro, scope, arguments)));
                return Flow.Onward;
            case CallBlockNode block:
                JinjaValue caller = JinjaValue.FromFunction(arguments => CallMacro(block.Caller, scope, arguments));
                _output.Append(PythonText.Str(Call(block.Call, scope, caller), Budget));
                return Flow.Onward;
            case LoopExitNode exit:
                return exit.IsBreak ? Flow.Break : Flow.Continue;
            default:
                return Execute((BlockNode)statement, new JinjaScope(scope));
        }
    }

    private Flow ExecuteIf(IfNode choice, JinjaScope scope)
    {
        foreach ((JinjaExpression condition, BlockNode body) in choice.Branches)
        {
            if (Evaluate(condition, scope).IsTrue)
            {
                return Execute(body, scope);
            }
        }

        return choice.Else is null ? Flow.Onward : Execute(choice.Else, scope);
    }

    private Flow ExecuteFor(ForNode node, JinjaScope scope)
    {
        IReadOnlyList<JinjaValue> items = Items(Evaluate(node.Items, scope));
        if (node.Filter is not null)
        {
            var kept = new List<JinjaValue>();
            foreach (JinjaValue item in items)
            {
                Budget.Step();
                var trial = new JinjaScope(scope);
                Assign(node.Target, item, trial);
                if (Evaluate(node.Filter, trial).IsTrue)
                {
                    kept.Add(item);
                }
            }

            items = kept;
        }

        if (items.Count == 0)
        {
            return node.Else is null ? Flow.Onward : Execute(node.Else, new JinjaScope(scope));
        }

        var loop = new JinjaLoop(items);
        JinjaValue loopValue = JinjaValue.FromLoop(loop);
        for (int i = 0; i < items.Count; i++)
        {
            Budget.Step();
            loop.Index = i;
            var inner = new JinjaScope(scope);
            inner.Set("loop", loopValue);
            Assign(node.Target, items[i], inner);
            if (Execute(node.Body, inner) == Flow.Break)
            {
                break;
            }
        }

        return Flow.Onward;
    }

    private void Assign(TargetNode target, JinjaValue value, JinjaScope scope)
    {
        if (target.Parts is not null)
        {
            IReadOnlyList<JinjaValue> items = Items(value);
            if (items.Count != target.Parts.Count)
            {
                throw new TemplateException(
                    TemplateFault.Value,
                    items.Count > target.Parts.Count
                        ? $"too many values to unpack (expected {target.Parts.Count})"
                        : $"not enough values to unpack (expected {target.Parts.Count}, got {items.Count})");
            }

            for (int i = 0; i < items.Count; i++)
            {
                Assign(target.Parts[i], items[i], scope);
            }
        }
        else if (target.Attribute is null)
        {
            scope.Set(target.Name, value);
        }
        else
        {
            JinjaValue owner = scope.Get(target.Name);
            if (owner.Kind != JinjaKind.Namespace)
            {
                throw new TemplateException(TemplateFault.TemplateRuntime, "cannot assign attribute on non-namespace object");
            }

            owner.Namespace[target.Attribute] = value;
        }
    }

    private JinjaText Capture(BlockNode body, JinjaScope scope)
    {
        JinjaTextBuilder outer = _output;
        _output = new JinjaTextBuilder(Budget);
        Execute(body, scope);
        JinjaText captured = _output.ToText();
        _output = outer;
        return captured;
    }

    private JinjaValue Filtered(JinjaText captured, JinjaExpression? filter, JinjaScope scope)
    {
        if (filter is null)
        {
            return JinjaValue.FromText(captured);
        }

        var inner = new JinjaScope(scope);
        inner.Set(JinjaParser.CaptureName, JinjaValue.FromText(captured));
        return Evaluate(filter, inner);
    }

    private JinjaValue CallMacro(MacroNode macro, JinjaScope definedIn, JinjaArguments arguments)
    {
        if (arguments.Count > macro.Parameters.Count)
        {
            throw new TemplateException(
                TemplateFault.Type, $"macro '{macro.Name}' takes not more than {macro.Parameters.Count} argument(s)");
        }

        var scope = new JinjaScope(definedIn);
        foreach ((string name, JinjaValue value) in arguments.Named)
        {
            if (name != "caller" && !macro.Parameters.Contains(name))
            {
                throw new TemplateException(TemplateFault.Type, $"macro '{macro.Name}' takes no keyword argument '{name}'");
            }

            scope.Set(name, value);
        }

        for (int i = 0; i < macro.Parameters.Count; i++)
        {
            string name = macro.Parameters[i];
            JinjaValue value = arguments.Find(i, name)
                ?? (macro.Defaults[i] is { } byDefault ? Evaluate(byDefault, scope) : JinjaValue.UndefinedName(name));
            scope.Set(name, value);
        }

        return JinjaValue.FromText(Capture(macro.Body, scope));
    }
}
