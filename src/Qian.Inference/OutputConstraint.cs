using System.Text;
using System.Text.Json;
using Qian.Inference.Constraint;
using Qian.Inference.Constraint.Json;

namespace Qian.Inference;

/// <summary>
/// What a reply must look like, enforced while tokens are chosen: only tokens that keep to it can be sampled, and the turn ends only where it is
/// fulfilled. Thinking stays free; the constraint begins after it. A reply that a token limit cuts may be a beginning only. Immutable; a compiled
/// form is kept by each engine, so reuse is cheap.
/// </summary>
public sealed class OutputConstraint
{
    private readonly Func<Grammar> _read;

    private OutputConstraint(string key, Func<Grammar> read)
    {
        Key = key;
        _read = read;
    }

    /// <summary>Any JSON object.</summary>
    public static OutputConstraint JsonObject { get; } = new("json_object", SchemaReader.AnyObjectGrammar);

    // Keeps to a form that replies have anyway: where it is too large to compile, the reply is free.
    internal bool IsAdvice { get; private init; }

    // Equal keys mean equal constraints.
    internal string Key { get; }

    /// <summary>
    /// A value that fulfils a JSON schema (draft 2020-12): properties in the order of the schema, all types, enum, const, anyOf, oneOf of what is plainly
    /// apart, allOf of what can be merged, references within the schema (recursion included), patterns, formats, lengths, counts, ranges, multiples.
    /// </summary>
    /// <param name="schema">The schema.</param>
    /// <exception cref="BadRequestException">A keyword is not supported or makes no sense; the message names its place.</exception>
    public static OutputConstraint JsonSchema(JsonElement schema)
    {
        string text = schema.GetRawText();
        ConstraintLimits.CheckText(text, "schema");
        JsonElement copy = schema.Clone();
        return Checked(new OutputConstraint("json_schema " + text, () => SchemaReader.Read(copy, "schema")));
    }

    /// <summary>The same, of a schema as text.</summary>
    /// <param name="schema">The schema's JSON.</param>
    /// <exception cref="BadRequestException">The text is no JSON, or the schema is refused.</exception>
    public static OutputConstraint JsonSchema(string schema)
    {
        ArgumentNullException.ThrowIfNull(schema);
        ConstraintLimits.CheckText(schema, "schema");
        try
        {
            using JsonDocument document = JsonDocument.Parse(schema);
            return JsonSchema(document.RootElement);
        }
        catch (JsonException broken)
        {
            throw new BadRequestException($"schema: this is no JSON: {broken.Message}", broken);
        }
    }

    /// <summary>Text that a regular expression matches as a whole. No look-around, no back references, no word borders.</summary>
    /// <param name="pattern">The expression.</param>
    /// <exception cref="BadRequestException">The expression is refused; the message names the place.</exception>
    public static OutputConstraint Regex(string pattern)
    {
        ArgumentNullException.ThrowIfNull(pattern);
        return Checked(new OutputConstraint("regex " + pattern, () => new Grammar(RegexReader.ReadWhole(pattern, "regex"), 1)));
    }

    /// <summary>Text of a grammar in GBNF notation (<c>root ::= "yes" | "no"</c>), its start being <c>root</c>. Rules may recur, but not begin with themselves.</summary>
    /// <param name="grammar">The rules.</param>
    /// <exception cref="BadRequestException">The grammar is refused; the message names the place.</exception>
    public static OutputConstraint Grammar(string grammar)
    {
        ArgumentNullException.ThrowIfNull(grammar);
        return Checked(new OutputConstraint("grammar " + grammar, () => GrammarReader.Read(grammar)));
    }

    // One of some texts.
    internal static OutputConstraint Choice(IReadOnlyList<string> texts)
    {
        string key = JsonSerializer.Serialize(texts);
        ConstraintLimits.CheckText(key, "choice");
        Term[] literals = [.. texts.Select(text => new Term.Literal(text))];
        return new OutputConstraint("choice " + key, () => new Grammar(Term.AnyOf(literals), 1));
    }

    // A reply that may or must call tools: calls keep to the template's form; what is not a call keeps to `format`, or is free text.
    internal static OutputConstraint ForCalls(IReadOnlyList<CallableTool> tools, bool mustCall, bool severalCalls, OutputConstraint? format)
    {
        var key = new StringBuilder($"tools {mustCall} {severalCalls} ");
        foreach (CallableTool tool in tools)
            key.Append(JsonLiteral.Write(JsonSerializer.SerializeToElement(tool.Name))).Append(tool.Parameters.ValueKind == JsonValueKind.Undefined ? "" : tool.Parameters.GetRawText()).Append(' ');
        CallableTool[] copies = [.. tools.Select(tool => tool with { Parameters = tool.Parameters.ValueKind == JsonValueKind.Undefined ? default : tool.Parameters.Clone() })];
        return new OutputConstraint(key.Append(mustCall ? "" : format?.Key).ToString(), () => CallGrammar(copies, mustCall, severalCalls, mustCall ? null : format))
        {
            IsAdvice = !mustCall && format is null,
        };
    }

    internal Grammar ToGrammar() => _read();

    private static Grammar CallGrammar(CallableTool[] tools, bool mustCall, bool severalCalls, OutputConstraint? format)
    {
        Term call = new Term.Call(ToolCallGrammar.CallOf(tools, out int maxDepth));
        Term opener = new Term.Literal(ReplyText.CallOpener);
        Term more = severalCalls ? new Term.Repeat(Term.Of(new Term.Literal("\n" + ReplyText.CallOpener), call), 0, null) : Term.Empty;
        Term calls = Term.Of(opener, call, more);
        if (mustCall)
            return new Grammar(calls, maxDepth) { UsesMarkup = true };
        if (format is null)
            return new Grammar(Term.AnyOf(ReplyText.Content, Term.Of(ReplyText.UpToCall, call, more)), maxDepth) { UsesMarkup = true };
        Grammar text = format.ToGrammar();
        return new Grammar(Term.AnyOf(text.Root, calls), Math.Max(maxDepth, text.MaxDepth)) { UsesMarkup = true };
    }

    // What cannot be read is refused where it is given; what is too large, when an engine compiles it.
    private static OutputConstraint Checked(OutputConstraint constraint)
    {
        constraint._read();
        return constraint;
    }
}
