using System.Numerics;

namespace Qian.Inference.Chat.Jinja;

// Python's operators on template values: arithmetic, equality, order and membership, with Python's error messages.
internal static class JinjaOperators
{
    private const int MaxIntegerBits = 1 << 16;

    public static JinjaValue Apply(string name, JinjaValue left, JinjaValue right, JinjaBudget budget)
    {
        if (left.IsUndefined || right.IsUndefined)
        {
            throw (left.IsUndefined ? left : right).UndefinedError();
        }

        if (left.IsNumber && right.IsNumber)
        {
            return Arithmetic(name, left, right);
        }

        switch (name)
        {
            case "+" when left.Kind == JinjaKind.Text:
                if (right.Kind != JinjaKind.Text)
                {
                    throw Type($"can only concatenate str (not \"{right.TypeName}\") to str");
                }

                var builder = new JinjaTextBuilder(budget);
                builder.Append(left.Text);
                builder.Append(right.Text);
                return JinjaValue.FromText(builder.ToText());
            case "+" when left.Kind == JinjaKind.List:
                if (right.Kind != JinjaKind.List || right.List.Form != left.List.Form)
                {
                    throw Type($"can only concatenate {left.TypeName} (not \"{right.TypeName}\") to {left.TypeName}");
                }

                budget.Step((long)left.List.Items.Count + right.List.Items.Count);
                return JinjaValue.FromList([.. left.List.Items, .. right.List.Items], left.List.Form);
            case "*" when left.Kind is JinjaKind.Text or JinjaKind.List && right.IsIntegral:
                return Repeat(left, right.Integer, budget);
            case "*" when right.Kind is JinjaKind.Text or JinjaKind.List && left.IsIntegral:
                return Repeat(right, left.Integer, budget);
            case "%" when left.Kind == JinjaKind.Text:
                throw Type("formatting with % is not part of chat templates; use ~");
            default:
                string spelled = name == "**" ? "** or pow()" : name;
                throw Type($"unsupported operand type(s) for {spelled}: '{left.TypeName}' and '{right.TypeName}'");
        }
    }

    public static JinjaValue Negate(JinjaValue value)
    {
        if (value.IsUndefined)
        {
            throw value.UndefinedError();
        }

        return value.Kind == JinjaKind.Float ? JinjaValue.FromFloat(-value.Float)
            : value.IsIntegral ? JinjaValue.FromInteger(-value.Integer)
            : throw Type($"bad operand type for unary -: '{value.TypeName}'");
    }

    public static double ToFloat(JinjaValue value) => value.Kind == JinjaKind.Float ? value.Float : (double)value.Integer;

    public static bool AreEqual(JinjaValue left, JinjaValue right, JinjaBudget budget)
    {
        budget.Step();
        if (left.IsNumber && right.IsNumber)
        {
            return left.IsIntegral && right.IsIntegral ? left.Integer == right.Integer : CompareNumbers(left, right) == 0;
        }

        if (left.Kind != right.Kind)
        {
            return false;
        }

        switch (left.Kind)
        {
            case JinjaKind.Undefined or JinjaKind.None:
                return true;
            case JinjaKind.Text:
                budget.Chars(Math.Min(left.Text.Length, right.Text.Length));
                return string.Equals(left.Text.Value, right.Text.Value, StringComparison.Ordinal);
            case JinjaKind.List:
                return left.List.Form == right.List.Form && AreEqual(left.List.Items, right.List.Items, budget);
            case JinjaKind.Mapping:
                return AreEqual(left.Mapping, right.Mapping, budget);
            case JinjaKind.Namespace:
                return ReferenceEquals(left.Namespace, right.Namespace);
            case JinjaKind.Loop:
                return ReferenceEquals(left.Loop, right.Loop);
            default:
                return Equals(left.Function, right.Function);
        }
    }

    // Negative, zero or positive; throws for values without an order, and for NaN gives 1 (so that "<" and "==" are false).
    public static int Order(JinjaValue left, JinjaValue right, JinjaBudget budget)
    {
        budget.Step();
        if (left.IsUndefined || right.IsUndefined)
        {
            throw (left.IsUndefined ? left : right).UndefinedError();
        }

        if (left.IsNumber && right.IsNumber)
        {
            return CompareNumbers(left, right);
        }

        if (left.Kind == JinjaKind.Text && right.Kind == JinjaKind.Text)
        {
            budget.Chars(Math.Min(left.Text.Length, right.Text.Length));
            return CompareCodePoints(left.Text.Value, right.Text.Value);
        }

        if (left.Kind == JinjaKind.List && right.Kind == JinjaKind.List && left.List.Form == right.List.Form)
        {
            budget.Enter();
            IReadOnlyList<JinjaValue> a = left.List.Items;
            IReadOnlyList<JinjaValue> b = right.List.Items;
            int order = 0;
            for (int i = 0; order == 0 && i < Math.Min(a.Count, b.Count); i++)
            {
                order = AreEqual(a[i], b[i], budget) ? 0 : Order(a[i], b[i], budget);
            }

            budget.Leave();
            return order != 0 ? order : a.Count.CompareTo(b.Count);
        }

        throw Type($"'<' not supported between instances of '{left.TypeName}' and '{right.TypeName}'");
    }

    public static bool Contains(JinjaValue container, JinjaValue item, JinjaBudget budget)
    {
        switch (container.Kind)
        {
            case JinjaKind.Undefined:
                return false;
            case JinjaKind.Text:
                if (item.Kind != JinjaKind.Text)
                {
                    throw item.IsUndefined
                        ? item.UndefinedError()
                        : Type($"'in <string>' requires string as left operand, not {item.TypeName}");
                }

                budget.Chars(container.Text.Length);
                return container.Text.Value.Contains(item.Text.Value, StringComparison.Ordinal);
            case JinjaKind.List:
                foreach (JinjaValue candidate in container.List.Items)
                {
                    if (AreEqual(candidate, item, budget))
                    {
                        return true;
                    }
                }

                return false;
            case JinjaKind.Mapping:
                return !item.IsUndefined && container.Mapping.TryGet(item, out _);
            default:
                throw Type($"argument of type '{container.TypeName}' is not iterable");
        }
    }

    private static bool AreEqual(IReadOnlyList<JinjaValue> left, IReadOnlyList<JinjaValue> right, JinjaBudget budget)
    {
        if (left.Count != right.Count)
        {
            return false;
        }

        budget.Enter();
        for (int i = 0; i < left.Count; i++)
        {
            if (!AreEqual(left[i], right[i], budget))
            {
                budget.Leave();
                return false;
            }
        }

        budget.Leave();
        return true;
    }

    private static bool AreEqual(JinjaMapping left, JinjaMapping right, JinjaBudget budget)
    {
        if (left.Count != right.Count)
        {
            return false;
        }

        budget.Enter();
        for (int i = 0; i < left.Count; i++)
        {
            if (!right.TryGet(left.KeyAt(i), out JinjaValue other) || !AreEqual(left.ValueAt(i), other, budget))
            {
                budget.Leave();
                return false;
            }
        }

        budget.Leave();
        return true;
    }

    private static int CompareNumbers(JinjaValue left, JinjaValue right)
    {
        if (left.IsIntegral && right.IsIntegral)
        {
            return left.Integer.CompareTo(right.Integer);
        }

        double a = ToFloat(left);
        double b = ToFloat(right);
        return double.IsNaN(a) || double.IsNaN(b) ? 1 : a.CompareTo(b);
    }

    // UTF-16 order puts U+E000..U+FFFF behind the surrogates; Python's order is by code point.
    private static int CompareCodePoints(string left, string right)
    {
        int common = left.AsSpan().CommonPrefixLength(right);
        if (common == left.Length || common == right.Length)
        {
            return left.Length.CompareTo(right.Length);
        }

        int a = left[common];
        int b = right[common];
        return (char.IsSurrogate((char)a) ? a + 0x10000 : a).CompareTo(char.IsSurrogate((char)b) ? b + 0x10000 : b);
    }

    private static JinjaValue Repeat(JinjaValue value, BigInteger times, JinjaBudget budget)
    {
        int count = times <= 0 ? 0 : times > int.MaxValue ? int.MaxValue : (int)times;
        if (value.Kind == JinjaKind.Text)
        {
            var builder = new JinjaTextBuilder(budget);
            for (int i = 0; i < count && value.Text.Length > 0; i++)
            {
                budget.Step();
                builder.Append(value.Text);
            }

            return JinjaValue.FromText(builder.ToText());
        }

        budget.Step((long)count * value.List.Items.Count);
        var items = new List<JinjaValue>();
        for (int i = 0; i < count && value.List.Items.Count > 0; i++)
        {
            items.AddRange(value.List.Items);
        }

        return JinjaValue.FromList(items, value.List.Form);
    }

    private static JinjaValue Arithmetic(string name, JinjaValue left, JinjaValue right)
    {
        if (name == "/" || left.Kind == JinjaKind.Float || right.Kind == JinjaKind.Float)
        {
            return JinjaValue.FromFloat(FloatArithmetic(name, ToFloat(left), ToFloat(right)));
        }

        BigInteger a = left.Integer;
        BigInteger b = right.Integer;
        switch (name)
        {
            case "+":
                return Bounded(a + b);
            case "-":
                return Bounded(a - b);
            case "*":
                return Bounded(a * b);
            case "//" or "%":
                if (b.IsZero)
                {
                    throw new TemplateException(TemplateFault.ZeroDivision, "integer division or modulo by zero");
                }

                // Python rounds towards minus infinity, .NET towards zero.
                var quotient = BigInteger.DivRem(a, b, out BigInteger remainder);
                bool adjusts = !remainder.IsZero && (remainder.Sign < 0) != (b.Sign < 0);
                return JinjaValue.FromInteger(name == "//" ? quotient - (adjusts ? 1 : 0) : remainder + (adjusts ? b : 0));
            default:
                if (b.Sign < 0)
                {
                    return JinjaValue.FromFloat(FloatArithmetic(name, (double)a, (double)b));
                }

                if (b > MaxIntegerBits || (long)b * (long)a.GetBitLength() > MaxIntegerBits)
                {
                    throw TooBig();
                }

                return JinjaValue.FromInteger(BigInteger.Pow(a, (int)b));
        }
    }

    private static JinjaValue Bounded(BigInteger value) =>
        value.GetBitLength() > MaxIntegerBits ? throw TooBig() : JinjaValue.FromInteger(value);

    private static TemplateException TooBig() => new(TemplateFault.Limit, $"The template made an integer of more than {MaxIntegerBits} bits.");

    private static double FloatArithmetic(string name, double a, double b)
    {
        if (b == 0 && name is "/" or "//" or "%")
        {
            throw new TemplateException(TemplateFault.ZeroDivision, name == "/" ? "division by zero" : "float floor division by zero");
        }

        return name switch
        {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "/" => a / b,
            "//" => Math.Floor(a / b),
            "%" => a - (b * Math.Floor(a / b)),
            _ => Math.Pow(a, b),
        };
    }

    private static TemplateException Type(string message) => new(TemplateFault.Type, message);
}
