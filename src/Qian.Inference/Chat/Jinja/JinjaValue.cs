using System.Numerics;

namespace Qian.Inference.Chat.Jinja;

internal enum JinjaKind : byte
{
    Undefined,
    None,
    Boolean,
    Integer,
    Float,
    Text,
    List,
    Mapping,
    Namespace,
    Loop,
    Callable,
}

// Python's three common sequence types differ in how they print, test and count; the items are held the same way.
internal enum JinjaListForm : byte
{
    List,
    Tuple,

    // What map, select and the like give: always true, without a length.
    Iterator,
}

internal sealed record JinjaList(IReadOnlyList<JinjaValue> Items, JinjaListForm Form);

// What an undefined value remembers for its error message: a missing name, or a missing member of a value.
internal sealed record JinjaMissing(string Name, string? OwnerType, bool IsElement = false);

internal delegate JinjaValue JinjaFunction(JinjaArguments arguments);

// One Python value as a template sees it. Immutable, apart from namespaces. Integers keep Python's unbounded size and stay apart
// from floats, because 1 and 1.0 print differently.
internal readonly struct JinjaValue
{
    private readonly object? _reference;
    private readonly long _number;

    private JinjaValue(JinjaKind kind, object? reference, long number = 0)
    {
        Kind = kind;
        _reference = reference;
        _number = number;
    }

    public static JinjaValue None { get; } = new(JinjaKind.None, null);

    public static JinjaValue True { get; } = new(JinjaKind.Boolean, null, 1);

    public static JinjaValue False { get; } = new(JinjaKind.Boolean, null, 0);

    public JinjaKind Kind { get; }

    public JinjaText Text => (JinjaText)_reference!;

    public JinjaList List => (JinjaList)_reference!;

    public JinjaMapping Mapping => (JinjaMapping)_reference!;

    public Dictionary<string, JinjaValue> Namespace => (Dictionary<string, JinjaValue>)_reference!;

    public JinjaLoop Loop => (JinjaLoop)_reference!;

    public JinjaFunction Function => (JinjaFunction)_reference!;

    public JinjaMissing? Missing => _reference as JinjaMissing;

    public double Float => BitConverter.Int64BitsToDouble(_number);

    // Of an integer or a boolean (which counts as 0 or 1, as in Python).
    public BigInteger Integer => _reference is BigInteger big ? big : _number;

    public bool IsSmallInteger => Kind is JinjaKind.Integer or JinjaKind.Boolean && _reference is null;

    public long SmallInteger => _number;

    public bool IsNumber => Kind is JinjaKind.Integer or JinjaKind.Float or JinjaKind.Boolean;

    public bool IsIntegral => Kind is JinjaKind.Integer or JinjaKind.Boolean;

    public bool IsUndefined => Kind == JinjaKind.Undefined;

    public bool IsTrue => Kind switch
    {
        JinjaKind.Undefined or JinjaKind.None => false,
        JinjaKind.Boolean => _number != 0,
        JinjaKind.Integer => _reference is not null || _number != 0,
        JinjaKind.Float => Float != 0,
        JinjaKind.Text => Text.Length != 0,
        JinjaKind.List => List.Form == JinjaListForm.Iterator || List.Items.Count != 0,
        JinjaKind.Mapping => Mapping.Count != 0,
        _ => true,
    };

    // The name that Python's error messages give to the type.
    public string TypeName => Kind switch
    {
        JinjaKind.Undefined => "Undefined",
        JinjaKind.None => "NoneType",
        JinjaKind.Boolean => "bool",
        JinjaKind.Integer => "int",
        JinjaKind.Float => "float",
        JinjaKind.Text => "str",
        JinjaKind.List => List.Form switch
        {
            JinjaListForm.Tuple => "tuple",
            JinjaListForm.Iterator => "generator",
            _ => "list",
        },
        JinjaKind.Mapping => "dict",
        JinjaKind.Namespace => "Namespace",
        JinjaKind.Loop => "LoopContext",
        _ => "function",
    };

    public static JinjaValue FromBoolean(bool value) => value ? True : False;

    public static JinjaValue FromInteger(long value) => new(JinjaKind.Integer, null, value);

    public static JinjaValue FromInteger(BigInteger value) =>
        value >= long.MinValue && value <= long.MaxValue
            ? new JinjaValue(JinjaKind.Integer, null, (long)value)
            : new JinjaValue(JinjaKind.Integer, value);

    public static JinjaValue FromFloat(double value) => new(JinjaKind.Float, null, BitConverter.DoubleToInt64Bits(value));

    public static JinjaValue FromText(JinjaText value) => new(JinjaKind.Text, value);

    // Text that the template or the interpreter wrote.
    public static JinjaValue FromLiteral(string value) => new(JinjaKind.Text, new JinjaText(value, isTemplate: true));

    // Text that came with the request.
    public static JinjaValue FromInput(string value) => new(JinjaKind.Text, new JinjaText(value, isTemplate: false));

    public static JinjaValue FromList(IReadOnlyList<JinjaValue> items, JinjaListForm form = JinjaListForm.List) =>
        new(JinjaKind.List, new JinjaList(items, form));

    public static JinjaValue FromMapping(JinjaMapping value) => new(JinjaKind.Mapping, value);

    public static JinjaValue FromNamespace(Dictionary<string, JinjaValue> value) => new(JinjaKind.Namespace, value);

    public static JinjaValue FromLoop(JinjaLoop value) => new(JinjaKind.Loop, value);

    public static JinjaValue FromFunction(JinjaFunction value) => new(JinjaKind.Callable, value);

    public static JinjaValue UndefinedName(string name) => new(JinjaKind.Undefined, new JinjaMissing(name, null));

    public static JinjaValue UndefinedMember(JinjaValue owner, string name) =>
        new(JinjaKind.Undefined, new JinjaMissing(name, owner.Kind == JinjaKind.None ? "None" : $"{owner.TypeName} object"));

    public static JinjaValue UndefinedElement(JinjaValue owner, string key) =>
        new(JinjaKind.Undefined, new JinjaMissing(key, owner.Kind == JinjaKind.None ? "None" : $"{owner.TypeName} object", IsElement: true));

    public TemplateException UndefinedError()
    {
        JinjaMissing? missing = Missing;
        string message = missing switch
        {
            null => "Undefined value",
            { IsElement: true } => $"{missing.OwnerType} has no element {missing.Name}",
            { OwnerType: null } => $"'{missing.Name}' is undefined",
            _ => $"'{missing.OwnerType}' has no attribute '{missing.Name}'",
        };
        return new TemplateException(TemplateFault.Undefined, message);
    }
}
