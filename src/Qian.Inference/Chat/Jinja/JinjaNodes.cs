namespace Qian.Inference.Chat.Jinja;

// The syntax tree. Nodes are plain data; JinjaInterpreter gives them meaning. Line is where the node starts in the template.
internal abstract record JinjaNode(int Line);

internal abstract record JinjaExpression(int Line) : JinjaNode(Line);

internal abstract record JinjaStatement(int Line) : JinjaNode(Line);

internal sealed record ConstantNode(int Line, JinjaValue Value) : JinjaExpression(Line);

internal sealed record NameNode(int Line, string Name) : JinjaExpression(Line);

internal sealed record ListNode(int Line, IReadOnlyList<JinjaExpression> Items, JinjaListForm Form) : JinjaExpression(Line);

internal sealed record DictNode(int Line, IReadOnlyList<(JinjaExpression Key, JinjaExpression Value)> Pairs) : JinjaExpression(Line);

// owner.name
internal sealed record AttributeNode(int Line, JinjaExpression Owner, string Name) : JinjaExpression(Line);

// owner[key]
internal sealed record ItemNode(int Line, JinjaExpression Owner, JinjaExpression Key) : JinjaExpression(Line);

// owner[start:stop:step]
internal sealed record SliceNode(
    int Line, JinjaExpression Owner, JinjaExpression? Start, JinjaExpression? Stop, JinjaExpression? Step) : JinjaExpression(Line);

internal sealed record CallNode(int Line, JinjaExpression Callee, ArgumentNodes Arguments) : JinjaExpression(Line);

internal sealed record FilterNode(int Line, JinjaExpression Operand, string Name, ArgumentNodes Arguments) : JinjaExpression(Line);

internal sealed record TestNode(int Line, JinjaExpression Operand, string Name, ArgumentNodes Arguments) : JinjaExpression(Line);

internal sealed record NotNode(int Line, JinjaExpression Operand) : JinjaExpression(Line);

internal sealed record SignNode(int Line, JinjaExpression Operand, bool IsNegative) : JinjaExpression(Line);

internal sealed record LogicNode(int Line, JinjaExpression Left, JinjaExpression Right, bool IsAnd) : JinjaExpression(Line);

internal sealed record ArithmeticNode(int Line, string Operator, JinjaExpression Left, JinjaExpression Right) : JinjaExpression(Line);

// a < b < c: every operand is evaluated once.
internal sealed record CompareNode(
    int Line, JinjaExpression First, IReadOnlyList<(string Operator, JinjaExpression Operand)> Rest) : JinjaExpression(Line);

internal sealed record ConcatNode(int Line, IReadOnlyList<JinjaExpression> Parts) : JinjaExpression(Line);

internal sealed record ConditionNode(
    int Line, JinjaExpression Condition, JinjaExpression Then, JinjaExpression? Else) : JinjaExpression(Line);

internal sealed record ArgumentNodes(
    IReadOnlyList<JinjaExpression> Positional,
    IReadOnlyList<(string Name, JinjaExpression Value)> Named,
    JinjaExpression? SpreadList,
    JinjaExpression? SpreadMapping)
{
    public static ArgumentNodes Empty { get; } = new([], [], null, null);
}

internal sealed record DataNode(int Line, JinjaText Text) : JinjaStatement(Line);

internal sealed record PrintNode(int Line, JinjaExpression Value) : JinjaStatement(Line);

internal sealed record IfNode(
    int Line, IReadOnlyList<(JinjaExpression Condition, BlockNode Body)> Branches, BlockNode? Else) : JinjaStatement(Line);

internal sealed record ForNode(
    int Line, TargetNode Target, JinjaExpression Items, JinjaExpression? Filter, BlockNode Body, BlockNode? Else) : JinjaStatement(Line);

internal sealed record SetNode(int Line, TargetNode Target, JinjaExpression Value) : JinjaStatement(Line);

// {% set x | filter %}...{% endset %}: the filters apply to a NameNode of CaptureName.
internal sealed record SetBlockNode(int Line, TargetNode Target, BlockNode Body, JinjaExpression? Filter) : JinjaStatement(Line);

internal sealed record FilterBlockNode(int Line, BlockNode Body, JinjaExpression Filter) : JinjaStatement(Line);

internal sealed record WithNode(
    int Line, IReadOnlyList<(TargetNode Target, JinjaExpression Value)> Bindings, BlockNode Body) : JinjaStatement(Line);

internal sealed record MacroNode(
    int Line, string Name, IReadOnlyList<string> Parameters, IReadOnlyList<JinjaExpression?> Defaults, BlockNode Body) : JinjaStatement(Line);

internal sealed record CallBlockNode(int Line, CallNode Call, MacroNode Caller) : JinjaStatement(Line);

internal sealed record LoopExitNode(int Line, bool IsBreak) : JinjaStatement(Line);

internal sealed record BlockNode(int Line, IReadOnlyList<JinjaStatement> Statements) : JinjaStatement(Line);

// What an assignment writes to: a name, a namespace attribute (Attribute set), or several targets.
internal sealed record TargetNode(int Line, string Name, string? Attribute, IReadOnlyList<TargetNode>? Parts);
