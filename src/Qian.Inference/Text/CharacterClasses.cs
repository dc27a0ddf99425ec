using System.Globalization;

namespace Qian.Inference.Text;

// What the splitter asks of a character, one bit each so that a regex class is a mask.
[Flags]
internal enum CharacterClass : byte
{
    None = 0,
    Letter = 1,    // \p{L}
    Mark = 2,      // \p{M}
    Number = 4,    // \p{N}
    Newline = 8,   // CR and LF
    Space = 16,    // \s without CR and LF: Unicode White_Space
    Other = 32,    // everything else
}

// Classes of code points: a table for the BMP, computed once from the runtime's Unicode data, and the runtime itself above it.
internal static class CharacterClasses
{
    private static readonly CharacterClass[] s_bmp = MakeBmp();

    public static ReadOnlySpan<CharacterClass> Bmp => s_bmp;

    public static CharacterClass Of(int codePoint)
    {
        return codePoint < 0x10000 ? s_bmp[codePoint] : OfCategory(CharUnicodeInfo.GetUnicodeCategory(codePoint));
    }

    private static CharacterClass[] MakeBmp()
    {
        var classes = new CharacterClass[0x10000];
        for (int c = 0; c < classes.Length; c++)
        {
            classes[c] = c is '\r' or '\n'
                ? CharacterClass.Newline
                : char.IsWhiteSpace((char)c) ? CharacterClass.Space : OfCategory(CharUnicodeInfo.GetUnicodeCategory(c));
        }

        return classes;
    }

    private static CharacterClass OfCategory(UnicodeCategory category)
    {
        return category switch
        {
            <= UnicodeCategory.OtherLetter => CharacterClass.Letter,
            <= UnicodeCategory.EnclosingMark => CharacterClass.Mark,
            <= UnicodeCategory.OtherNumber => CharacterClass.Number,
            _ => CharacterClass.Other,
        };
    }
}
