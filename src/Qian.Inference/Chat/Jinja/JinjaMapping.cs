using System.Numerics;

namespace Qian.Inference.Chat.Jinja;

// A Python dict: keeps the order of insertion, and takes 1, 1.0 and True for the same key. Keys are looked up by what Python would
// hash (a string, a number or None); the key values themselves are kept beside, with the marks of their origin.
internal sealed class JinjaMapping
{
    private readonly Dictionary<object, int> _indexes = [];
    private readonly List<JinjaValue> _keys = [];
    private readonly List<JinjaValue> _values = [];

    public int Count => _keys.Count;

    public JinjaValue KeyAt(int index) => _keys[index];

    public JinjaValue ValueAt(int index) => _values[index];

    public void Set(JinjaValue key, JinjaValue value)
    {
        object lookup = LookupOf(key);
        if (_indexes.TryGetValue(lookup, out int index))
        {
            _values[index] = value;
            return;
        }

        _indexes.Add(lookup, _keys.Count);
        _keys.Add(key);
        _values.Add(value);
    }

    public bool TryGet(string key, out JinjaValue value)
    {
        if (_indexes.TryGetValue(key, out int index))
        {
            value = _values[index];
            return true;
        }

        value = default;
        return false;
    }

    public bool TryGet(JinjaValue key, out JinjaValue value)
    {
        if (_indexes.TryGetValue(LookupOf(key), out int index))
        {
            value = _values[index];
            return true;
        }

        value = default;
        return false;
    }

    private static object LookupOf(JinjaValue key) => key.Kind switch
    {
        JinjaKind.Text => key.Text.Value,
        JinjaKind.Integer or JinjaKind.Boolean => key.Integer,
        JinjaKind.Float => double.IsInteger(key.Float) ? new BigInteger(key.Float) : key.Float,
        JinjaKind.None => DBNull.Value,
        _ => throw new TemplateException(TemplateFault.Type, $"unhashable type: '{key.TypeName}'"),
    };
}
