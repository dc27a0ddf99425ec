namespace Qian.Inference.Chat.Jinja;

// The tests behind "is": x is defined, x is string, x is divisibleby(3).
internal static class JinjaPredicates
{
    public static bool Test(string name, JinjaValue value, JinjaArguments arguments)
    {
        switch (name)
        {
            case "defined":
                return !value.IsUndefined;
            case "undefined":
                return value.IsUndefined;
            case "none":
                return value.Kind == JinjaKind.None;
            case "string":
                return value.Kind == JinjaKind.Text;
            case "mapping":
                return value.Kind == JinjaKind.Mapping;
            case "number":
                return value.IsNumber;
            case "integer":
                return value.Kind == JinjaKind.Integer;
            case "float":
                return value.Kind == JinjaKind.Float;
            case "boolean":
                return value.Kind == JinjaKind.Boolean;
            case "true":
                return value.Kind == JinjaKind.Boolean && value.IsTrue;
            case "false":
                return value.Kind == JinjaKind.Boolean && !value.IsTrue;
            case "callable":
                return value.Kind == JinjaKind.Callable;

            // Anything with __iter__; jinja2's undefined value has one too.
            case "iterable":
                return value.Kind is JinjaKind.List or JinjaKind.Mapping or JinjaKind.Text or JinjaKind.Undefined or JinjaKind.Loop;

            // Anything with a length and items by key, mappings and undefined included.
            case "sequence":
                return value.Kind is JinjaKind.Mapping or JinjaKind.Text or JinjaKind.Undefined
                    || (value.Kind == JinjaKind.List && value.List.Form != JinjaListForm.Iterator);
            case "odd" or "even":
                JinjaValue rest = JinjaOperators.Apply("%", value, JinjaValue.FromInteger(2), arguments.Budget);
                return JinjaOperators.AreEqual(rest, JinjaValue.FromInteger(name == "odd" ? 1 : 0), arguments.Budget);
            case "divisibleby":
                JinjaValue modulo = JinjaOperators.Apply("%", value, arguments.Require(0, "num"), arguments.Budget);
                return JinjaOperators.AreEqual(modulo, JinjaValue.FromInteger(0), arguments.Budget);
            case "sameas":
                JinjaValue other = arguments.Require(0, "other");
                return value.Kind == other.Kind && JinjaOperators.AreEqual(value, other, arguments.Budget);
            case "in":
                return JinjaOperators.Contains(arguments.Require(0, "seq"), value, arguments.Budget);
            case "eq" or "equalto" or "==":
                return JinjaOperators.AreEqual(value, arguments.Require(0, "other"), arguments.Budget);
            case "ne" or "!=":
                return !JinjaOperators.AreEqual(value, arguments.Require(0, "other"), arguments.Budget);
            case "lt" or "lessthan" or "<":
                return JinjaOperators.Order(value, arguments.Require(0, "other"), arguments.Budget) < 0;
            case "le" or "<=":
                return JinjaOperators.Order(value, arguments.Require(0, "other"), arguments.Budget) <= 0;
            case "gt" or "greaterthan" or ">":
                return JinjaOperators.Order(arguments.Require(0, "other"), value, arguments.Budget) < 0;
            case "ge" or ">=":
                return JinjaOperators.Order(arguments.Require(0, "other"), value, arguments.Budget) <= 0;
            case "upper" or "lower":
                string text = PythonText.Str(value, arguments.Budget).Value;
                return HasCase(text, name == "upper");
            case "filter":
                return JinjaFilters.Exists(PythonText.Str(value, arguments.Budget).Value);
            default:
                throw new TemplateException(TemplateFault.Syntax, $"No test named '{name}'.");
        }
    }

    private static bool HasCase(string text, bool isUpper)
    {
        bool hasCased = false;
        foreach (char c in text)
        {
            if (isUpper ? char.IsLower(c) : char.IsUpper(c))
            {
                return false;
            }

            hasCased |= char.IsLower(c) || char.IsUpper(c);
        }

        return hasCased;
    }
}
