using System.Globalization;
using System.Numerics;

namespace Qian.Inference.Chat.Jinja;

// What may stand behind a value: .name, [key], [a:b], (arguments), | filter and is test.
internal sealed partial class JinjaParser
{
    private JinjaExpression ParsePostfix(JinjaExpression node)
    {
        int depth = _depth;
        while (true)
        {
            int line = Current.Line;
            if (TakeOperator("."))
            {
                JinjaToken name = Next();
                node = name.Kind switch
                {
                    JinjaTokenKind.Name => new AttributeNode(line, node, name.Text),
                    JinjaTokenKind.Integer => new ItemNode(
                        line, node, new ConstantNode(line, JinjaValue.FromInteger(BigInteger.Parse(name.Text, CultureInfo.InvariantCulture)))),
                    _ => throw Error("expected name or number", name.Line),
                };
            }
            else if (TakeOperator("["))
            {
                node = ParseSubscript(node, line);
            }
            else if (IsOperator("("))
            {
                node = new CallNode(line, node, ParseArguments());
            }
            else
            {
                _depth = depth;
                return node;
            }

            // A chain is evaluated recursively, so its length counts as depth.
            Enter();
        }
    }

    private JinjaExpression ParseSubscript(JinjaExpression owner, int line)
    {
        JinjaExpression? start = IsOperator(":") ? null : ParseTupleUnlessSlice();
        if (start is not null && TakeOperator("]"))
        {
            return new ItemNode(line, owner, start);
        }

        ExpectOperator(":");
        JinjaExpression? stop = IsOperator(":") || IsOperator("]") ? null : ParseExpression();
        JinjaExpression? step = TakeOperator(":") && !IsOperator("]") ? ParseExpression() : null;
        ExpectOperator("]");
        return new SliceNode(line, owner, start, stop, step);
    }

    private JinjaExpression ParseTupleUnlessSlice()
    {
        JinjaExpression first = ParseExpression();
        return IsOperator(",") ? throw Error("a tuple as subscript is not part of chat templates", first.Line) : first;
    }

    private JinjaExpression ParseFiltersAndTests(JinjaExpression node)
    {
        int depth = _depth;
        while (true)
        {
            if (IsOperator("|"))
            {
                node = ParseFilters(node, startsInline: false);
            }
            else if (Current is { Kind: JinjaTokenKind.Name, Text: "is" })
            {
                node = ParseTest(node);
            }
            else if (IsOperator("("))
            {
                node = new CallNode(Current.Line, node, ParseArguments());
            }
            else
            {
                _depth = depth;
                return node;
            }

            Enter();
        }
    }

    private JinjaExpression ParseFilters(JinjaExpression node, bool startsInline)
    {
        int depth = _depth;
        while (startsInline || TakeOperator("|"))
        {
            startsInline = false;
            Enter();
            JinjaToken name = ExpectName();
            node = new FilterNode(name.Line, node, name.Text, IsOperator("(") ? ParseArguments() : ArgumentNodes.Empty);
        }

        _depth = depth;
        return node;
    }

    private JinjaExpression ParseTest(JinjaExpression node)
    {
        int line = Next().Line;
        bool isNegated = TakeName("not");
        string name = ExpectName().Text;
        ArgumentNodes arguments = ArgumentNodes.Empty;
        if (IsOperator("("))
        {
            arguments = ParseArguments();
        }
        else if (Current.Kind is JinjaTokenKind.Text or JinjaTokenKind.Integer or JinjaTokenKind.Float
            || IsOperator("[") || IsOperator("{")
            || (Current.Kind == JinjaTokenKind.Name && Current.Text is not ("else" or "or" or "and")))
        {
            if (Current is { Kind: JinjaTokenKind.Name, Text: "is" })
            {
                throw Error("You cannot chain multiple tests with is", Current.Line);
            }

            arguments = ArgumentNodes.Empty with { Positional = [ParsePostfix(ParsePrimary())] };
        }

        JinjaExpression test = new TestNode(line, node, name, arguments);
        return isNegated ? new NotNode(line, test) : test;
    }

    private ArgumentNodes ParseArguments()
    {
        int line = Current.Line;
        var positional = new List<JinjaExpression>();
        var named = new List<(string, JinjaExpression)>();
        JinjaExpression? spreadList = null;
        JinjaExpression? spreadMapping = null;
        ExpectOperator("(");
        for (bool isFirst = true; !TakeOperator(")"); isFirst = false)
        {
            if (!isFirst)
            {
                ExpectOperator(",");
                if (TakeOperator(")"))
                {
                    break;
                }
            }

            bool isOrdered = spreadMapping is null;
            if (TakeOperator("*"))
            {
                isOrdered &= spreadList is null;
                spreadList = ParseExpression();
            }
            else if (TakeOperator("**"))
            {
                spreadMapping = ParseExpression();
            }
            else if (Current.Kind == JinjaTokenKind.Name && _tokens[_at + 1] is { Kind: JinjaTokenKind.Operator, Text: "=" })
            {
                string name = Next().Text;
                _at++;
                named.Add((name, ParseExpression()));
            }
            else
            {
                isOrdered &= spreadList is null && named.Count == 0;
                positional.Add(ParseExpression());
            }

            if (!isOrdered)
            {
                throw Error("invalid syntax for function call expression", line);
            }
        }

        return new ArgumentNodes(positional, named, spreadList, spreadMapping);
    }
}
