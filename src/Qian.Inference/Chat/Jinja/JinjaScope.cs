namespace Qian.Inference.Chat.Jinja;

// Names in force at one place of the template. Loops, macros and captured blocks open a scope, {% if %} does not; an assignment
// always writes to the innermost one, so what a loop sets is gone at its end (which is why templates use namespaces).
internal sealed class JinjaScope
{
    private readonly JinjaScope? _outer;
    private readonly Dictionary<string, JinjaValue> _values = [];

    public JinjaScope(JinjaScope? outer)
    {
        _outer = outer;
    }

    public JinjaValue Get(string name)
    {
        for (JinjaScope? scope = this; scope is not null; scope = scope._outer)
        {
            if (scope._values.TryGetValue(name, out JinjaValue value))
            {
                return value;
            }
        }

        return JinjaValue.UndefinedName(name);
    }

    public void Set(string name, JinjaValue value) => _values[name] = value;
}

// What a template finds under the name "loop".
internal sealed class JinjaLoop
{
    private readonly IReadOnlyList<JinjaValue> _items;
    private JinjaValue? _changedOn;

    public JinjaLoop(IReadOnlyList<JinjaValue> items)
    {
        _items = items;
    }

    public int Index { get; set; }

    public JinjaValue Get(string name) => name switch
    {
        "index" => JinjaValue.FromInteger(Index + 1),
        "index0" => JinjaValue.FromInteger(Index),
        "revindex" => JinjaValue.FromInteger(_items.Count - Index),
        "revindex0" => JinjaValue.FromInteger(_items.Count - Index - 1),
        "first" => JinjaValue.FromBoolean(Index == 0),
        "last" => JinjaValue.FromBoolean(Index == _items.Count - 1),
        "length" => JinjaValue.FromInteger(_items.Count),

        // Counts recursive calls of one loop, which are left out here, not loops within loops.
        "depth" => JinjaValue.FromInteger(1),
        "depth0" => JinjaValue.FromInteger(0),
        "previtem" => Index > 0 ? _items[Index - 1] : JinjaValue.UndefinedName("there is no previous item"),
        "nextitem" => Index + 1 < _items.Count ? _items[Index + 1] : JinjaValue.UndefinedName("there is no next item"),
        "cycle" => JinjaValue.FromFunction(Cycle),
        "changed" => JinjaValue.FromFunction(Changed),
        _ => JinjaValue.UndefinedMember(JinjaValue.FromLoop(this), name),
    };

    private JinjaValue Cycle(JinjaArguments arguments) => arguments.Count == 0
        ? throw new TemplateException(TemplateFault.Type, "no items for cycling given")
        : arguments.At(Index % arguments.Count);

    private JinjaValue Changed(JinjaArguments arguments)
    {
        var values = JinjaValue.FromList(arguments.Positional, JinjaListForm.Tuple);
        bool isSame = _changedOn is { } before && JinjaOperators.AreEqual(before, values, arguments.Budget);
        _changedOn = values;
        return JinjaValue.FromBoolean(!isSame);
    }
}

// The arguments of one call, evaluated, and what a function needs beside them.
internal sealed class JinjaArguments
{
    private readonly IReadOnlyList<(string Name, JinjaValue Value)> _named;

    public JinjaArguments(
        JinjaInterpreter interpreter, IReadOnlyList<JinjaValue> positional, IReadOnlyList<(string Name, JinjaValue Value)> named)
    {
        Interpreter = interpreter;
        Positional = positional;
        _named = named;
    }

    public JinjaInterpreter Interpreter { get; }

    public JinjaBudget Budget => Interpreter.Budget;

    public IReadOnlyList<JinjaValue> Positional { get; }

    public IReadOnlyList<(string Name, JinjaValue Value)> Named => _named;

    public int Count => Positional.Count;

    public JinjaValue At(int index) => Positional[index];

    // By position or by name; null when not given.
    public JinjaValue? Find(int index, string name)
    {
        if (index < Positional.Count)
        {
            return Positional[index];
        }

        foreach ((string candidate, JinjaValue value) in _named)
        {
            if (candidate == name)
            {
                return value;
            }
        }

        return null;
    }

    public JinjaValue Require(int index, string name) =>
        Find(index, name) ?? throw new TemplateException(TemplateFault.Type, $"missing required argument: '{name}'");

    public JinjaText RequireText(int index, string name)
    {
        JinjaValue value = Require(index, name);
        if (value.IsUndefined)
        {
            throw value.UndefinedError();
        }

        return value.Kind == JinjaKind.Text
            ? value.Text
            : throw new TemplateException(TemplateFault.Type, $"argument '{name}' must be str, not {value.TypeName}");
    }

    public bool Flag(int index, string name, bool fallback) => Find(index, name)?.IsTrue ?? fallback;

    // An integer argument, clamped to what fits an int; None and absence give the fallback.
    public int Integer(int index, string name, int fallback)
    {
        JinjaValue value = Find(index, name) ?? JinjaValue.None;
        if (value.Kind == JinjaKind.None)
        {
            return fallback;
        }

        if (!value.IsIntegral)
        {
            throw value.IsUndefined
                ? value.UndefinedError()
                : new TemplateException(TemplateFault.Type, $"'{value.TypeName}' object cannot be interpreted as an integer");
        }

        return (int)System.Numerics.BigInteger.Clamp(value.Integer, int.MinValue, int.MaxValue);
    }

    // The arguments behind the first ones: what map and select hand on to a filter or test.
    public JinjaArguments After(int count) => new(Interpreter, [.. Positional.Skip(count)], _named);
}
