using System.Text;

namespace Qian.Inference.Constraint;

// Grammars in the notation that llama.cpp made common (GBNF): rules `name ::= alternatives`, the text to match being `root`. Literals, character
// classes, groups, * + ? {m,n}, comments from # on. Rules may recur, but not begin with themselves. A rule goes on until the next one begins.
internal sealed class GrammarReader
{
    private const int MaxDepth = 200;

    private readonly CharacterSyntax _text;
    private readonly Dictionary<string, (Rule Rule, int FirstUse)> _rules = [];
    private readonly HashSet<string> _defined = [];

    private GrammarReader(string grammar) => _text = new CharacterSyntax(grammar, "grammar");

    public static Grammar Read(string grammar)
    {
        var reader = new GrammarReader(grammar);
        reader.SkipSpace();
        while (!reader._text.IsEnd)
            reader.ReadRule();
        foreach ((string name, (Rule rule, int firstUse)) in reader._rules)
        {
            if (!reader._defined.Contains(name))
                throw reader._text.Bad($"there is no rule '{name}'", firstUse);
        }

        return reader._rules.TryGetValue("root", out (Rule Rule, int) root)
            ? new Grammar(new Term.Call(root.Rule), MaxDepth)
            : throw new BadRequestException("grammar: there is no rule 'root', where the text begins.");
    }

    private void ReadRule()
    {
        int start = _text.At;
        if (!TryTakeName(out string name))
            throw _text.Bad($"expected the name of a rule, found {CharacterSyntax.Show(_text.Current)}");
        SkipSpace();
        if (!_text.TryTake("::="))
            throw _text.Bad($"expected '::=' after '{name}'");
        SkipSpace();
        if (!_defined.Add(name))
            throw _text.Bad($"the rule '{name}' is defined twice", start);
        RuleOf(name, start).Body = ReadAlternatives(0);
        if (_text.Current == ')')
            throw _text.Bad("a ')' has no '('");
    }

    private Rule RuleOf(string name, int at)
    {
        if (_rules.TryGetValue(name, out (Rule Rule, int) known))
            return known.Rule;
        if (_rules.Count >= ConstraintLimits.MaxRuleCount)
            throw _text.Bad($"at most {ConstraintLimits.MaxRuleCount} rules are supported");
        var rule = new Rule(name);
        _rules.Add(name, (rule, at));
        return rule;
    }

    private Term ReadAlternatives(int depth)
    {
        if (depth > ConstraintLimits.MaxNesting)
            throw _text.Bad($"groups may nest {ConstraintLimits.MaxNesting} deep at most");
        var alternatives = new List<Term>();
        do
        {
            SkipSpace();
            alternatives.Add(ReadSequence(depth));
        }
        while (_text.TryTake("|"));
        return Term.AnyOf([.. alternatives]);
    }

    private Term ReadSequence(int depth)
    {
        var items = new List<Term>();
        while (_text.Current is not (-1 or '|' or ')') && !StandsBeforeRule())
        {
            int start = _text.At;
            Term item = ReadItem(depth);
            SkipSpace();
            int nesting = 0;
            while (TryTakeQuantifier(out int min, out int? max))
            {
                if (++nesting > 4)
                    throw _text.Bad("too many repetitions of a repetition", start);
                item = new Term.Repeat(item, min, max);
                SkipSpace();
            }

            items.Add(item);
        }

        return Term.Of([.. items]);
    }

    private Term ReadItem(int depth)
    {
        int start = _text.At;
        if (TryTakeName(out string name))
            return new Term.Call(RuleOf(name, start));
        int value = _text.Take();
        switch (value)
        {
            case '"' or '\'':
                return new Term.Literal(TakeLiteral(value, start));
            case '[':
                CodePointSet set = _text.TakeClass();
                return set.IsEmpty ? throw _text.Bad("this class holds no character", start) : new Term.Chars(set);
            case '.':
                return new Term.Chars(CodePointSet.Any);
            case '(':
                Term group = ReadAlternatives(depth + 1);
                return _text.TryTake(")") ? group : throw _text.Bad("a '(' is not closed", start);
            case '*' or '+' or '?' or '{':
                throw _text.Bad("there is nothing to repeat", start);
            default:
                throw _text.Bad($"found {CharacterSyntax.Show(value)}; expected a rule's name, a \"literal\", a [class] or a (group)", start);
        }
    }

    private string TakeLiteral(int quote, int start)
    {
        var text = new StringBuilder();
        while (true)
        {
            if (_text.IsEnd || _text.Current == '\n')
                throw _text.Bad("a literal is not closed", start);
            int value = _text.Take();
            if (value == quote)
                return text.ToString();
            if (value == '\\')
            {
                if (_text.TakeEscape() is not null)
                    throw _text.Bad("a class of characters cannot stand in a literal");
                value = _text.Escaped;
            }

            text.Append(new Rune(value));
        }
    }

    private bool TryTakeQuantifier(out int min, out int? max)
    {
        (min, max) = (0, null);
        switch (_text.Current)
        {
            case '*':
                _text.At++;
                return true;
            case '+':
                _text.At++;
                min = 1;
                return true;
            case '?':
                _text.At++;
                max = 1;
                return true;
            case '{':
                _text.At++;
                return _text.TryTakeCounts(out min, out max) ? true : throw _text.Bad("expected a count such as {2,5}");
            default:
                return false;
        }
    }

    private bool StandsBeforeRule()
    {
        int start = _text.At;
        bool isRule = TryTakeName(out _);
        if (isRule)
        {
            SkipSpace();
            isRule = _text.TryTake("::=");
        }

        _text.At = start;
        return isRule;
    }

    private bool TryTakeName(out string name)
    {
        var text = new StringBuilder();
        while (_text.Current is >= 0 and < 128 and var value && (char.IsAsciiLetterOrDigit((char)value) || value is '-' or '_'))
            text.Append((char)_text.Take());
        name = text.ToString();
        return name.Length > 0;
    }

    private void SkipSpace()
    {
        while (true)
        {
            if (_text.Current is ' ' or '\t' or '\n' or '\r')
            {
                _text.At++;
            }
            else if (_text.Current == '#')
            {
                while (_text.Current is not (-1 or '\n'))
                    _text.At++;
            }
            else
            {
                return;
            }
        }
    }
}
