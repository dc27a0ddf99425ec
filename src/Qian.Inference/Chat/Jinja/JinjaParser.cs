using System.Runtime.CompilerServices;

namespace Qian.Inference.Chat.Jinja;

// Statements of the template language, by recursive descent over the lexer's tokens; the expressions are in the other part.
// Also what transformers adds to jinja2: break and continue, and {% generation %}, which marks text for training and prints as is.
// Left out, with an error that says so: template inheritance, includes, imports and recursive loops. No chat template uses them.
internal sealed partial class JinjaParser
{
    // The name under which a block's captured text reaches its filters; not a name that a template can spell.
    public const string CaptureName = "<captured>";

    private const int MaxDepth = 200;

    private readonly List<JinjaToken> _tokens;
    private int _at;
    private int _depth;
    private readonly HashSet<string> _usedNames = [];
    private readonly HashSet<string> _assignedNames = ["loop", "caller", CaptureName];
    private int _loopDepth;

    private JinjaParser(List<JinjaToken> tokens)
    {
        _tokens = tokens;
    }

    private JinjaToken Current => _tokens[_at];

    // variables: the names that the template reads and nowhere sets itself, functions included.
    public static BlockNode Parse(string source, out IReadOnlyList<string> variables)
    {
        var parser = new JinjaParser(JinjaLexer.Tokenize(source));
        BlockNode template = parser.ParseBody([]);
        parser._usedNames.ExceptWith(parser._assignedNames);
        variables = [.. parser._usedNames.Order(StringComparer.Ordinal)];
        return template;
    }

    // Statements up to a block tag that starts with one of these words; the tag's begin and word are consumed.
    private BlockNode ParseBody(ReadOnlySpan<string> endWords) => ParseBody(endWords, out _);

    private BlockNode ParseBody(ReadOnlySpan<string> endWords, out string endWord)
    {
        Enter();
        int line = Current.Line;
        var statements = new List<JinjaStatement>();
        while (true)
        {
            JinjaToken token = Next();
            switch (token.Kind)
            {
                case JinjaTokenKind.Data:
                    statements.Add(new DataNode(token.Line, new JinjaText(token.Text, isTemplate: true)));
                    break;
                case JinjaTokenKind.PrintBegin:
                    statements.Add(new PrintNode(token.Line, ParseTupleOrExpression()));
                    Expect(JinjaTokenKind.PrintEnd, "}}");
                    break;
                case JinjaTokenKind.BlockBegin:
                    JinjaToken word = ExpectName();
                    if (endWords.Contains(word.Text))
                    {
                        endWord = word.Text;
                        _depth--;
                        return new BlockNode(line, statements);
                    }

                    statements.Add(ParseStatement(word));
                    break;
                default:
                    if (endWords.Length > 0)
                    {
                        throw Error($"unexpected end of template, looking for '{endWords[^1]}'", token.Line);
                    }

                    endWord = string.Empty;
                    return new BlockNode(line, statements);
            }
        }
    }

    private JinjaStatement ParseStatement(JinjaToken word)
    {
        switch (word.Text)
        {
            case "if":
                return ParseIf(word.Line);
            case "for":
                return ParseFor(word.Line);
            case "set":
                return ParseSet(word.Line);
            case "macro":
                return ParseMacro(word.Line);
            case "call":
                return ParseCallBlock(word.Line);
            case "filter":
                JinjaExpression filter = ParseFilters(new NameNode(word.Line, CaptureName), startsInline: true);
                BlockEnd();
                return new FilterBlockNode(word.Line, ParseClosed("endfilter"), filter);
            case "with":
                return ParseWith(word.Line);
            case "generation":
                BlockEnd();
                return ParseClosed("endgeneration");
            case "break" or "continue":
                if (_loopDepth == 0)
                {
                    throw Error($"'{word.Text}' outside a loop", word.Line);
                }

                BlockEnd();
                return new LoopExitNode(word.Line, word.Text == "break");
            case "include" or "import" or "from" or "extends" or "block" or "autoescape" or "do" or "trans":
                throw Error($"the tag '{word.Text}' is not part of chat templates", word.Line);
            default:
                throw Error($"Encountered unknown tag '{word.Text}'.", word.Line);
        }
    }

    private BlockNode ParseClosed(string endWord)
    {
        BlockNode body = ParseBody([endWord]);
        BlockEnd();
        return body;
    }

    private IfNode ParseIf(int line)
    {
        var branches = new List<(JinjaExpression, BlockNode)>();
        while (true)
        {
            JinjaExpression condition = ParseTupleOrExpression();
            BlockEnd();
            BlockNode body = ParseBody(["elif", "else", "endif"], out string endWord);
            branches.Add((condition, body));
            if (endWord == "elif")
            {
                continue;
            }

            BlockEnd();
            return new IfNode(line, branches, endWord == "else" ? ParseClosed("endif") : null);
        }
    }

    private ForNode ParseFor(int line)
    {
        TargetNode target = ParseTarget(allowsAttribute: false);
        if (!TakeName("in"))
        {
            throw Error($"expected 'in', got '{Current.Text}'", Current.Line);
        }

        // Without the inline if, which belongs to the loop here.
        JinjaExpression items = ParseTuple(ParseOr, isBracketed: false);
        JinjaExpression? filter = TakeName("if") ? ParseExpression() : null;
        if (Current is { Kind: JinjaTokenKind.Name, Text: "recursive" })
        {
            throw Error("recursive loops are not part of chat templates", Current.Line);
        }

        BlockEnd();
        _loopDepth++;
        BlockNode body = ParseBody(["else", "endfor"], out string endWord);
        _loopDepth--;
        BlockEnd();
        return new ForNode(line, target, items, filter, body, endWord == "else" ? ParseClosed("endfor") : null);
    }

    private JinjaStatement ParseSet(int line)
    {
        TargetNode target = ParseTarget(allowsAttribute: true);
        if (TakeOperator("="))
        {
            JinjaExpression value = ParseTupleOrExpression();
            BlockEnd();
            return new SetNode(line, target, value);
        }

        JinjaExpression? filter =
            IsOperator("|") ? ParseFilters(new NameNode(line, CaptureName), startsInline: false) : null;
        BlockEnd();
        return new SetBlockNode(line, target, ParseClosed("endset"), filter);
    }

    private WithNode ParseWith(int line)
    {
        var bindings = new List<(TargetNode, JinjaExpression)>();
        while (Current.Kind != JinjaTokenKind.BlockEnd)
        {
            if (bindings.Count > 0)
            {
                ExpectOperator(",");
            }

            TargetNode target = ParseTarget(allowsAttribute: false);
            ExpectOperator("=");
            bindings.Add((target, ParseExpression()));
        }

        BlockEnd();
        return new WithNode(line, bindings, ParseClosed("endwith"));
    }

    private MacroNode ParseMacro(int line)
    {
        string name = ExpectName().Text;
        _assignedNames.Add(name);
        (List<string> parameters, List<JinjaExpression?> defaults) = ParseSignature();
        BlockEnd();
        return new MacroNode(line, name, parameters, defaults, ParseOwnBody("endmacro"));
    }

    private CallBlockNode ParseCallBlock(int line)
    {
        (List<string> parameters, List<JinjaExpression?> defaults) = IsOperator("(") ? ParseSignature() : ([], []);
        if (ParseExpression() is not CallNode call)
        {
            throw Error("expected call", line);
        }

        BlockEnd();
        return new CallBlockNode(line, call, new MacroNode(line, "caller", parameters, defaults, ParseOwnBody("endcall")));
    }

    // A macro's body does not see the loop around its definition.
    private BlockNode ParseOwnBody(string endWord)
    {
        int loopDepth = _loopDepth;
        _loopDepth = 0;
        BlockNode body = ParseClosed(endWord);
        _loopDepth = loopDepth;
        return body;
    }

    private (List<string> Parameters, List<JinjaExpression?> Defaults) ParseSignature()
    {
        var parameters = new List<string>();
        var defaults = new List<JinjaExpression?>();
        bool hasDefault = false;
        ExpectOperator("(");
        while (!TakeOperator(")"))
        {
            if (parameters.Count > 0)
            {
                ExpectOperator(",");
            }

            JinjaToken name = ExpectName();
            JinjaExpression? value = TakeOperator("=") ? ParseExpression() : null;
            if (value is null && hasDefault)
            {
                throw Error("non-default argument follows default argument", name.Line);
            }

            hasDefault |= value is not null;
            parameters.Add(name.Text);
            _assignedNames.Add(name.Text);
            defaults.Add(value);
        }

        return (parameters, defaults);
    }

    private TargetNode ParseTarget(bool allowsAttribute)
    {
        int line = Current.Line;
        var parts = new List<TargetNode>();
        while (true)
        {
            parts.Add(ParseSingleTarget(allowsAttribute));
            if (!TakeOperator(","))
            {
                return parts.Count == 1 ? parts[0] : new TargetNode(line, string.Empty, null, parts);
            }

            // A trailing comma still makes a tuple.
            if (Current.Kind != JinjaTokenKind.Name && !IsOperator("(") || Current is { Kind: JinjaTokenKind.Name, Text: "in" })
            {
                return new TargetNode(line, string.Empty, null, parts);
            }
        }
    }

    private TargetNode ParseSingleTarget(bool allowsAttribute)
    {
        if (IsOperator("("))
        {
            Enter();
            _at++;
            TargetNode inner = ParseTarget(allowsAttribute);
            ExpectOperator(")");
            _depth--;
            return inner;
        }

        JinjaToken name = ExpectName();
        if (name.Text is "true" or "false" or "none" or "True" or "False" or "None")
        {
            throw Error("can't assign to 'const'", name.Line);
        }

        string? attribute = allowsAttribute && TakeOperator(".") ? ExpectName().Text : null;
        if (attribute is null)
        {
            _assignedNames.Add(name.Text);
        }

        return new TargetNode(name.Line, name.Text, attribute, null);
    }

    private JinjaToken Next() => Current.Kind == JinjaTokenKind.End ? Current : _tokens[_at++];

    private void BlockEnd() => Expect(JinjaTokenKind.BlockEnd, "%}");

    private void Expect(JinjaTokenKind kind, string spelled)
    {
        if (Current.Kind != kind)
        {
            throw Error($"expected '{spelled}', got '{Current.Text}'", Current.Line);
        }

        _at++;
    }

    private JinjaToken ExpectName()
    {
        JinjaToken token = Current;
        Expect(JinjaTokenKind.Name, "name");
        return token;
    }

    private bool IsOperator(string text) => Current.Kind == JinjaTokenKind.Operator && Current.Text == text;

    private bool TakeOperator(string text)
    {
        bool isIt = IsOperator(text);
        _at += isIt ? 1 : 0;
        return isIt;
    }

    private void ExpectOperator(string text)
    {
        if (!TakeOperator(text))
        {
            throw Error($"expected '{text}', got '{Current.Text}'", Current.Line);
        }
    }

    private bool TakeName(string text)
    {
        bool isIt = Current.Kind == JinjaTokenKind.Name && Current.Text == text;
        _at += isIt ? 1 : 0;
        return isIt;
    }

    private void Enter()
    {
        if (++_depth > MaxDepth || !RuntimeHelpers.TryEnsureSufficientExecutionStack())
        {
            throw Error($"the template nests deeper than {MaxDepth} levels", Current.Line);
        }
    }

    private static TemplateException Error(string message, int line) => new(TemplateFault.Syntax, message, line);
}
