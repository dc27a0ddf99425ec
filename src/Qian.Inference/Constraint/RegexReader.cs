namespace Qian.Inference.Constraint;

// Regular expressions in the syntax that JavaScript, Python and .NET share, as far as it is regular: what looks around, refers back or tests word
// borders is refused. Lazy and greedy repetition match the same texts here. ^ and $ may stand at the ends of the whole or of its alternatives.
internal sealed class RegexReader
{
    private static readonly CodePointSet s_anyButLineFeed = CodePointSet.Of("\n").Negate();

    private readonly CharacterSyntax _text;

    private RegexReader(string pattern, string what) => _text = new CharacterSyntax(pattern, what);

    // Texts that match as a whole.
    public static Term ReadWhole(string pattern, string what) =>
        Term.AnyOf([.. new RegexReader(pattern, what).ReadTop().Select(alternative => alternative.Body)]);

    // Texts that hold a match, as JSON schema has it.
    public static Term ReadSearch(string pattern, string what)
    {
        Term anything = new Term.Repeat(new Term.Chars(CodePointSet.Any), 0, null);
        return Term.AnyOf([.. new RegexReader(pattern, what).ReadTop().Select(alternative =>
            Term.Of(alternative.FromStart ? Term.Empty : anything, alternative.Body, alternative.ToEnd ? Term.Empty : anything))]);
    }

    private List<(Term Body, bool FromStart, bool ToEnd)> ReadTop()
    {
        var alternatives = new List<(Term, bool, bool)>();
        do
        {
            bool fromStart = false;
            while (_text.TryTake("^") || _text.TryTake("\\A"))
                fromStart = true;
            Term body = ReadSequence(0, out bool toEnd);
            alternatives.Add((body, fromStart, toEnd));
        }
        while (_text.TryTake("|"));
        if (!_text.IsEnd)
            throw _text.Bad("a ')' has no '('");
        return alternatives;
    }

    // `toEnd`: at the top level, a $ stood at its end.
    private Term ReadSequence(int depth, out bool toEnd)
    {
        var items = new List<Term>();
        toEnd = false;
        while (_text.Current is not (-1 or '|' or ')'))
        {
            if (toEnd)
                throw _text.Bad("'$' is supported at the end of the pattern only");
            if (depth == 0 && (_text.TryTake("$") || _text.TryTake("\\z") || _text.TryTake("\\Z")))
            {
                toEnd = true;
                continue;
            }

            items.Add(ReadRepeated(depth));
        }

        return Term.Of([.. items]);
    }

    private Term ReadRepeated(int depth)
    {
        int start = _text.At;
        Term item = ReadItem(depth);
        int nesting = 0;
        while (TryTakeQuantifier(out int min, out int? max))
        {
            // Lazy; and "possessive", which would match less, is refused.
            if (!_text.TryTake("?") && _text.Current == '+')
                throw _text.Bad("possessive repetition is not supported");
            if (++nesting > 4)
                throw _text.Bad("too many repetitions of a repetition", start);
            item = new Term.Repeat(item, min, max);
        }

        return item;
    }

    private bool TryTakeQuantifier(out int min, out int? max)
    {
        (min, max) = (0, null);
        if (_text.TryTake("*"))
            return true;
        if (_text.TryTake("+"))
        {
            min = 1;
            return true;
        }

        if (_text.TryTake("?"))
        {
            max = 1;
            return true;
        }

        if (_text.Current != '{')
            return false;
        _text.At++;
        if (_text.TryTakeCounts(out min, out max))
            return true;
        _text.At--;
        return false;
    }

    private Term ReadItem(int depth)
    {
        int start = _text.At;
        int value = _text.Take();
        switch (value)
        {
            case '(':
                return ReadGroup(depth, start);
            case '[':
                return Chars(_text.TakeClass(), start);
            case '.':
                return new Term.Chars(s_anyButLineFeed);
            case '\\':
                if (_text.Current is 'b' or 'B')
                    throw _text.Bad("word borders are not supported", start);
                return Chars(_text.TakeEscape() ?? Single(_text.Escaped), start);
            case '^' or '$':
                throw _text.Bad("'^' and '$' are supported at the ends of the pattern only", start);
            case '*' or '+' or '?':
                throw _text.Bad("there is nothing to repeat", start);
            default:
                return Chars(Single(value), start);
        }
    }

    private Term ReadGroup(int depth, int start)
    {
        if (depth >= ConstraintLimits.MaxNesting)
            throw _text.Bad($"groups may nest {ConstraintLimits.MaxNesting} deep at most", start);
        if (_text.TryTake("?"))
        {
            if (_text.TryTake("P<") || (_text.Current == '<' && _text.Peek(1) is not ('=' or '!')))
            {
                while (_text.Take() != '>')
                {
                }
            }
            else if (!_text.TryTake(":"))
            {
                throw _text.Bad("look-around, flags and conditions are not supported", start);
            }
        }

        var alternatives = new List<Term>();
        do
            alternatives.Add(ReadSequence(depth + 1, out _));
        while (_text.TryTake("|"));
        if (!_text.TryTake(")"))
            throw _text.Bad("a '(' is not closed", start);
        return Term.AnyOf([.. alternatives]);
    }

    private static CodePointSet Single(int value) => CodePointSet.Of((value, value));

    private Term Chars(CodePointSet set, int start) => set.IsEmpty ? throw _text.Bad("this class holds no character", start) : new Term.Chars(set);
}
