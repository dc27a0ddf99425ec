using System.Globalization;
using System.Text;

namespace Qian.Inference.Constraint;

// A cursor over the text of a regex or a grammar, and what both write alike: escapes, character classes, counts. Reads code points; every refusal
// names what is read and where.
internal sealed class CharacterSyntax
{
    private readonly int[] _text;

    public CharacterSyntax(string text, string what)
    {
        ConstraintLimits.CheckText(text, what);
        _text = [.. text.EnumerateRunes().Select(rune => rune.Value)];
        What = what;
    }

    public string What { get; }

    public int At { get; set; }

    public bool IsEnd => At >= _text.Length;

    // -1 at the end.
    public int Current => At < _text.Length ? _text[At] : -1;

    public int Peek(int distance) => At + distance < _text.Length ? _text[At + distance] : -1;

    public int Take()
    {
        if (IsEnd)
            throw Bad("it ends too early");
        return _text[At++];
    }

    public bool TryTake(string expected)
    {
        for (int i = 0; i < expected.Length; i++)
        {
            if (Peek(i) != expected[i])
                return false;
        }

        At += expected.Length;
        return true;
    }

    public BadRequestException Bad(string problem, int? at = null)
    {
        int index = Math.Min(at ?? At, _text.Length);
        int line = 1 + _text.AsSpan(0, index).Count('\n');
        return new BadRequestException(FormattableString.Invariant($"{What}: {problem} (line {line}, character {index - _text.AsSpan(0, index).LastIndexOf('\n')})."));
    }

    // After '{': "m}", "m,}", "m,n}" or ",n}". False, and nothing taken, when that is not what follows.
    public bool TryTakeCounts(out int min, out int? max)
    {
        int start = At;
        int? low = TakeNumber();
        max = low;
        if (TryTake(","))
            max = TakeNumber();
        else if (low is null)
            max = -1;
        min = low ?? 0;
        if (max == -1 || (low is null && max is null) || !TryTake("}"))
        {
            At = start;
            return false;
        }

        if (min > ConstraintLimits.MaxRepeatCount || max > ConstraintLimits.MaxRepeatCount)
            throw Bad($"a count may be {ConstraintLimits.MaxRepeatCount} at most", start);
        if (max < min)
            throw Bad("the greater count must come second", start);
        return true;
    }

    // After '[': to the closing bracket.
    public CodePointSet TakeClass()
    {
        int start = At;
        bool isNegated = TryTake("^");
        var ranges = new List<(int, int)>();
        CodePointSet sets = CodePointSet.None;
        bool isFirst = true;
        while (IsEnd || Current != ']' || isFirst && Peek(1) >= 0 && HasLaterBracket())
        {
            if (IsEnd)
                throw Bad("a character class is not closed", start);
            isFirst = false;
            if (TakeMember() is { } set)
            {
                sets = sets.Union(set);
                continue;
            }

            int low = _member, high = low;
            if (Current == '-' && Peek(1) is not (']' or -1))
            {
                At++;
                if (TakeMember() is not null)
                    throw Bad("a range of characters cannot end in a class");
                high = _member;
                if (high < low)
                    throw Bad("a range of characters must not run backwards");
            }

            ranges.Add((low, high));
        }

        At++;
        CodePointSet all = CodePointSet.Of(ranges).Union(sets);
        return isNegated ? all.Negate() : all;
    }

    private int _member;

    // A first ']' stands for itself only where another one closes the class; "[]" is otherwise an empty class.
    private bool HasLaterBracket()
    {
        for (int i = 1; Peek(i) >= 0 && Peek(i) != '\n'; i++)
        {
            if (Peek(i) == ']')
                return true;
        }

        return false;
    }

    // A class such as \d, or null and one character in _member.
    private CodePointSet? TakeMember()
    {
        int value = Take();
        if (value != '\\')
        {
            _member = value;
            return null;
        }

        if (Current == 'b')
        {
            At++;
            _member = '\b';
            return null;
        }

        return TakeEscape();
    }

    // After '\': a class, or null and one character in Escaped.
    public CodePointSet? TakeEscape()
    {
        int start = At;
        int value = Take();
        switch (value)
        {
            case 'd':
                return Digits;
            case 'D':
                return Digits.Negate();
            case 'w':
                return WordCharacters;
            case 'W':
                return WordCharacters.Negate();
            case 's':
                return Blanks;
            case 'S':
                return Blanks.Negate();
            case 'p' or 'P':
                CodePointSet category = TakeCategory();
                return value == 'p' ? category : category.Negate();
            case 'x':
                _member = TakeHex(2);
                return null;
            case 'u':
                _member = Current == '{' ? TakeBracedHex() : TakeUnit();
                return null;
            case 'U':
                _member = TakeHex(8);
                return null;
        }

        _member = value switch
        {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'f' => '\f',
            'v' => '\v',
            '0' => 0,
            _ => value,
        };
        if (value is >= '1' and <= '9' || (value < 128 && char.IsAsciiLetter((char)value) && _member == value))
            throw Bad($"'\\{(char)value}' is not supported", start);
        return null;
    }

    // What TakeEscape read when it read one character.
    public int Escaped => _member;

    public static CodePointSet Digits { get; } = CodePointSet.Of(('0', '9'));

    public static CodePointSet WordCharacters { get; } = CodePointSet.Of(('0', '9'), ('A', 'Z'), ('a', 'z'), ('_', '_'));

    public static CodePointSet Blanks { get; } = CodePointSet.Of(" \t\n\r\f\v\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000\ufeff");

    public static string Show(int value) => value < 0 ? "the end" : $"'{new Rune(value)}'";

    private CodePointSet TakeCategory()
    {
        int start = At;
        var name = new StringBuilder();
        if (TryTake("{"))
        {
            while (Current is not ('}' or -1) && name.Length < 32)
                name.Append(new Rune(Take()));
            if (!TryTake("}"))
                throw Bad("the name of a category is not closed", start);
        }
        else
        {
            name.Append(new Rune(Take()));
        }

        return CodePointSet.Category(name.ToString()) ?? throw Bad("only general categories such as L, Lu or Nd are supported", start);
    }

    private int? TakeNumber()
    {
        long number = 0;
        int start = At;
        while (Current is >= '0' and <= '9')
            number = Math.Min((10 * number) + Take() - '0', int.MaxValue);
        return At == start ? null : (int)number;
    }

    // \uD83D\uDE00 is one character.
    private int TakeUnit()
    {
        int start = At;
        int unit = TakeHexDigits(4);
        if (unit is >= 0xD800 and <= 0xDBFF && TryTake("\\u"))
        {
            int low = TakeHexDigits(4);
            if (low is >= 0xDC00 and <= 0xDFFF)
                return char.ConvertToUtf32((char)unit, (char)low);
        }

        return Checked(unit, start);
    }

    private int TakeHex(int digits)
    {
        int start = At;
        return Checked(TakeHexDigits(digits), start);
    }

    private int TakeBracedHex()
    {
        int start = At++;
        long value = 0;
        int count = 0;
        for (; Current is not ('}' or -1) && count < 8; count++)
            value = (value << 4) | (uint)HexDigit();
        if (count == 0 || !TryTake("}"))
            throw Bad("expected hexadecimal digits and '}'");
        return Checked(value, start);
    }

    private int TakeHexDigits(int digits)
    {
        long value = 0;
        for (int i = 0; i < digits; i++)
            value = (value << 4) | (uint)HexDigit();
        return (int)Math.Min(value, int.MaxValue);
    }

    private int Checked(long value, int start) => Rune.IsValid((uint)Math.Min(value, uint.MaxValue)) ? (int)value : throw Bad("this is no Unicode character", start);

    private int HexDigit()
    {
        int value = Current;
        if (value is < 0 or > 127 || !char.IsAsciiHexDigit((char)value))
            throw Bad("expected a hexadecimal digit");
        At++;
        return int.Parse(((char)value).ToString(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }
}
