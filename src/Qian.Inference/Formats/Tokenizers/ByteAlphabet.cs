namespace Qian.Inference.Formats;

// The GPT-2 byte alphabet: each byte as one printable character, so that vocabularies can be written as text. Printable Latin-1 stands for
// itself; the other 68 bytes, in order, are U+0100 to U+0143.
internal static class ByteAlphabet
{
    private const int LargestCharacter = 0x143;

    private static readonly char[] s_characters = MakeCharacters();
    private static readonly short[] s_bytes = MakeBytes();

    public static char CharacterOf(byte value)
    {
        return s_characters[value];
    }

    public static string Spell(ReadOnlySpan<byte> bytes)
    {
        return string.Create(bytes.Length, bytes, static (target, source) =>
        {
            for (int i = 0; i < target.Length; i++)
            {
                target[i] = s_characters[source[i]];
            }
        });
    }

    // The byte a character stands for, or -1 when it is not of the alphabet.
    public static int ByteOf(char character)
    {
        return character <= LargestCharacter ? s_bytes[character] : -1;
    }

    private static char[] MakeCharacters()
    {
        var characters = new char[256];
        int next = 0x100;
        for (int value = 0; value < 256; value++)
        {
            bool printable = value is (>= 33 and <= 126) or (>= 161 and <= 172) or (>= 174 and <= 255);
            characters[value] = (char)(printable ? value : next++);
        }

        return characters;
    }

    private static short[] MakeBytes()
    {
        var bytes = new short[LargestCharacter + 1];
        Array.Fill(bytes, (short)-1);
        for (int value = 0; value < 256; value++)
        {
            bytes[s_characters[value]] = (short)value;
        }

        return bytes;
    }
}
