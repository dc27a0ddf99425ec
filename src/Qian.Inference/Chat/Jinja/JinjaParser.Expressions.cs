using System.Globalization;
using System.Numerics;

namespace Qian.Inference.Chat.Jinja;

// Expressions, one method per precedence level, loosest first: inline if, or, and, not, comparison, + and -, ~, * / // %, **, sign,
// then (in the Postfix part) attributes, calls, filters and tests. The order is jinja2's, which differs from Python's in ~, ** and the sign.
internal sealed partial class JinjaParser
{
    private JinjaExpression ParseExpression()
    {
        Enter();
        int line = Current.Line;
        JinjaExpression value = ParseOr();
        while (TakeName("if"))
        {
            JinjaExpression condition = ParseOr();
            JinjaExpression? otherwise = TakeName("else") ? ParseExpression() : null;
            value = new ConditionNode(line, condition, value, otherwise);
        }

        _depth--;
        return value;
    }

    private JinjaExpression ParseTupleOrExpression() => ParseTuple(ParseExpression, isBracketed: false);

    private JinjaExpression ParseTuple(Func<JinjaExpression> parseItem, bool isBracketed)
    {
        int line = Current.Line;
        var items = new List<JinjaExpression>();
        bool isTuple = false;
        while (!IsTupleEnd())
        {
            items.Add(parseItem());
            if (!TakeOperator(","))
            {
                break;
            }

            isTuple = true;
        }

        if (!isTuple && items.Count == 1)
        {
            return items[0];
        }

        if (!isTuple && !isBracketed)
        {
            throw Error($"Expected an expression, got '{Current.Text}'", Current.Line);
        }

        return new ListNode(line, items, JinjaListForm.Tuple);
    }

    private bool IsTupleEnd() =>
        Current.Kind is JinjaTokenKind.PrintEnd or JinjaTokenKind.BlockEnd or JinjaTokenKind.End || IsOperator(")");

    private JinjaExpression ParseOr()
    {
        JinjaExpression left = ParseAnd();
        while (TakeName("or"))
        {
            left = new LogicNode(left.Line, left, ParseAnd(), IsAnd: false);
        }

        return left;
    }

    private JinjaExpression ParseAnd()
    {
        JinjaExpression left = ParseNot();
        while (TakeName("and"))
        {
            left = new LogicNode(left.Line, left, ParseNot(), IsAnd: true);
        }

        return left;
    }

    private JinjaExpression ParseNot()
    {
        int line = Current.Line;
        if (!TakeName("not"))
        {
            return ParseCompare();
        }

        Enter();
        var node = new NotNode(line, ParseNot());
        _depth--;
        return node;
    }

    private JinjaExpression ParseCompare()
    {
        JinjaExpression first = ParseSum();
        List<(string, JinjaExpression)>? rest = null;
        while (TakeComparison() is { } comparison)
        {
            rest ??= [];
            rest.Add((comparison, ParseSum()));
        }

        return rest is null ? first : new CompareNode(first.Line, first, rest);
    }

    private string? TakeComparison()
    {
        JinjaToken token = Current;
        if (token.Kind == JinjaTokenKind.Operator && token.Text is "==" or "!=" or "<" or "<=" or ">" or ">=")
        {
            _at++;
            return token.Text;
        }

        if (TakeName("in"))
        {
            return "in";
        }

        if (token is { Kind: JinjaTokenKind.Name, Text: "not" } && _tokens[_at + 1] is { Kind: JinjaTokenKind.Name, Text: "in" })
        {
            _at += 2;
            return "not in";
        }

        return null;
    }

    private JinjaExpression ParseSum()
    {
        JinjaExpression left = ParseConcat();
        while (IsOperator("+") || IsOperator("-"))
        {
            string sign = Next().Text;
            left = new ArithmeticNode(left.Line, sign, left, ParseConcat());
        }

        return left;
    }

    private JinjaExpression ParseConcat()
    {
        JinjaExpression first = ParseProduct();
        if (!IsOperator("~"))
        {
            return first;
        }

        var parts = new List<JinjaExpression> { first };
        while (TakeOperator("~"))
        {
            parts.Add(ParseProduct());
        }

        return new ConcatNode(first.Line, parts);
    }

    private JinjaExpression ParseProduct()
    {
        JinjaExpression left = ParsePower();
        while (IsOperator("*") || IsOperator("/") || IsOperator("//") || IsOperator("%"))
        {
            string sign = Next().Text;
            left = new ArithmeticNode(left.Line, sign, left, ParsePower());
        }

        return left;
    }

    private JinjaExpression ParsePower()
    {
        JinjaExpression left = ParseSigned(withFilters: true);
        while (TakeOperator("**"))
        {
            left = new ArithmeticNode(left.Line, "**", left, ParseSigned(withFilters: true));
        }

        return left;
    }

    private JinjaExpression ParseSigned(bool withFilters)
    {
        int line = Current.Line;
        JinjaExpression node;
        if (IsOperator("-") || IsOperator("+"))
        {
            Enter();
            bool isNegative = Next().Text == "-";
            node = new SignNode(line, ParseSigned(withFilters: false), isNegative);
            _depth--;
        }
        else
        {
            node = ParsePrimary();
        }

        node = ParsePostfix(node);
        return withFilters ? ParseFiltersAndTests(node) : node;
    }

    private JinjaExpression ParsePrimary()
    {
        JinjaToken token = Next();
        switch (token.Kind)
        {
            case JinjaTokenKind.Name:
                return token.Text switch
                {
                    "true" or "True" => new ConstantNode(token.Line, JinjaValue.True),
                    "false" or "False" => new ConstantNode(token.Line, JinjaValue.False),
                    "none" or "None" => new ConstantNode(token.Line, JinjaValue.None),
                    _ => Used(token),
                };
            case JinjaTokenKind.Text:
                string text = token.Text;
                while (Current.Kind == JinjaTokenKind.Text)
                {
                    text += Next().Text;
                }

                return new ConstantNode(token.Line, JinjaValue.FromLiteral(text));
            case JinjaTokenKind.Integer:
                var integer = BigInteger.Parse(token.Text, NumberStyles.None, CultureInfo.InvariantCulture);
                return new ConstantNode(token.Line, JinjaValue.FromInteger(integer));
            case JinjaTokenKind.Float:
                double number = double.Parse(token.Text, NumberStyles.Float, CultureInfo.InvariantCulture);
                return new ConstantNode(token.Line, JinjaValue.FromFloat(number));
            case JinjaTokenKind.Operator when token.Text == "(":
                JinjaExpression inner = ParseTuple(ParseExpression, isBracketed: true);
                ExpectOperator(")");
                return inner;
            case JinjaTokenKind.Operator when token.Text == "[":
                return ParseList(token.Line);
            case JinjaTokenKind.Operator when token.Text == "{":
                return ParseDict(token.Line);
            default:
                throw Error($"unexpected '{token.Text}'", token.Line);
        }
    }

    private NameNode Used(JinjaToken name)
    {
        _usedNames.Add(name.Text);
        return new NameNode(name.Line, name.Text);
    }

    private ListNode ParseList(int line)
    {
        var items = new List<JinjaExpression>();
        while (!TakeOperator("]"))
        {
            if (items.Count > 0)
            {
                ExpectOperator(",");
                if (TakeOperator("]"))
                {
                    break;
                }
            }

            items.Add(ParseExpression());
        }

        return new ListNode(line, items, JinjaListForm.List);
    }

    private DictNode ParseDict(int line)
    {
        var pairs = new List<(JinjaExpression, JinjaExpression)>();
        while (!TakeOperator("}"))
        {
            if (pairs.Count > 0)
            {
                ExpectOperator(",");
                if (TakeOperator("}"))
                {
                    break;
                }
            }

            JinjaExpression key = ParseExpression();
            ExpectOperator(":");
            pairs.Add((key, ParseExpression()));
        }

        return new DictNode(line, pairs);
    }
}
