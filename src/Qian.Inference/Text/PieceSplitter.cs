using System.Runtime.CompilerServices;

using Qian.Inference.Formats;

namespace Qian.Inference.Text;

// Cuts UTF-8 text where the family's pre-tokenizer regex would. The regex, with its seven alternatives tried in order at each position
// (qwen2 reads \p{L} for [\p{L}\p{M}] and leaves \p{M} out of the fourth):
//
//   (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// Written by hand over code points because .NET's regex sees UTF-16 units, and letters above the BMP would not be letters. The text must be
// valid UTF-8 (the caller transcodes). Knows nothing of tokens.
internal readonly struct PieceSplitter
{
    private readonly CharacterClass _letters;
    private readonly CharacterClass _others;

    public PieceSplitter(PreTokenizer kind)
    {
        _letters = kind == PreTokenizer.Qwen35 ? CharacterClass.Letter | CharacterClass.Mark : CharacterClass.Letter;
        _others = kind == PreTokenizer.Qwen35 ? CharacterClass.Other : CharacterClass.Other | CharacterClass.Mark;
    }

    // The end of the piece that starts at start, which must be less than the length.
    public int FindEnd(ReadOnlySpan<byte> text, int start)
    {
        CharacterClass first = ClassAt(text, start, out int length);
        int next = start + length;
        if ((first & _letters) != 0)
        {
            // A mark is letter-like and also a possible prefix; either way the piece is the whole run.
            return SkipRun(text, next, _letters);
        }

        if (first == CharacterClass.Number)
        {
            return next;
        }

        if (first != CharacterClass.Newline)
        {
            byte lead = text[start];
            if (lead == (byte)'\'' && ContractionLength(text[next..]) is int contraction and > 0)
            {
                return next + contraction;
            }

            CharacterClass second = next < text.Length ? ClassAt(text, next, out length) : CharacterClass.None;
            if ((second & _letters) != 0)
            {
                return SkipRun(text, next + length, _letters);
            }

            if ((first & _others) != 0)
            {
                return SkipRun(text, SkipRun(text, next, _others), CharacterClass.Newline);
            }

            if (lead == (byte)' ' && (second & _others) != 0)
            {
                return SkipRun(text, SkipRun(text, next + length, _others), CharacterClass.Newline);
            }
        }

        return FindWhiteSpaceEnd(text, start);
    }

    // \s*[\r\n]+ takes the run up to its last line break; without one, \s+(?!\S) leaves the last space to the word that follows.
    private static int FindWhiteSpaceEnd(ReadOnlySpan<byte> text, int start)
    {
        int end = start;
        int last = start;
        int newlineEnd = -1;
        while (end < text.Length)
        {
            CharacterClass found = ClassAt(text, end, out int length);
            if ((found & (CharacterClass.Space | CharacterClass.Newline)) == 0)
            {
                break;
            }

            last = end;
            end += length;
            if (found == CharacterClass.Newline)
            {
                newlineEnd = end;
            }
        }

        if (newlineEnd >= 0)
        {
            return newlineEnd;
        }

        return end == text.Length || last == start ? end : last;
    }

    // The bytes after the apostrophe that make it a contraction, or 0.
    private static int ContractionLength(ReadOnlySpan<byte> rest)
    {
        if (rest.IsEmpty)
        {
            return 0;
        }

        switch (rest[0] | 0x20)
        {
            case 's' or 't' or 'm' or 'd':
                return 1;
            case 'r' or 'v':
                return rest.Length > 1 && (rest[1] | 0x20) == 'e' ? 2 : 0;
            case 'l':
                return rest.Length > 1 && (rest[1] | 0x20) == 'l' ? 2 : 0;
            default:
                // U+017F, long s, is an s to a case-insensitive regex.
                return rest.StartsWith("\u017F"u8) ? 2 : 0;
        }
    }

    private static int SkipRun(ReadOnlySpan<byte> text, int index, CharacterClass wanted)
    {
        ReadOnlySpan<CharacterClass> classes = CharacterClasses.Bmp[..128];
        while (index < text.Length)
        {
            byte lead = text[index];
            if (lead < classes.Length)
            {
                if ((classes[lead] & wanted) == 0)
                {
                    return index;
                }

                index++;
            }
            else
            {
                if ((ClassAt(text, index, out int length) & wanted) == 0)
                {
                    return index;
                }

                index += length;
            }
        }

        return index;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static CharacterClass ClassAt(ReadOnlySpan<byte> text, int index, out int length)
    {
        byte lead = text[index];
        if (lead < 0x80)
        {
            length = 1;
            return CharacterClasses.Bmp[lead];
        }

        return ClassOfLongerAt(text, index, out length);
    }

    private static CharacterClass ClassOfLongerAt(ReadOnlySpan<byte> text, int index, out int length)
    {
        byte lead = text[index];
        if (lead < 0xE0)
        {
            length = 2;
            return CharacterClasses.Bmp[((lead & 0x1F) << 6) | (text[index + 1] & 0x3F)];
        }

        if (lead < 0xF0)
        {
            length = 3;
            return CharacterClasses.Bmp[((lead & 0x0F) << 12) | ((text[index + 1] & 0x3F) << 6) | (text[index + 2] & 0x3F)];
        }

        length = 4;
        return CharacterClasses.Of(
            ((lead & 0x07) << 18) | ((text[index + 1] & 0x3F) << 12) | ((text[index + 2] & 0x3F) << 6) | (text[index + 3] & 0x3F));
    }
}
