namespace Qian.Inference.Text;

// Unicode normalisation form C. Owned here because the runtime's String.Normalize does nothing under invariant globalization, and needs ICU otherwise.
// The trick: one table look-up a character finds the first suspect (a character that may compose with what stands before it, or never occurs in
// NFC, or is a mark out of order); nearly all text has none. Text is copied verbatim except around suspects: there, the stretch from one
// inert character (combining class 0, composes with nothing before it) to the next is decomposed, ordered and composed.
// Lone surrogates pass through.
internal static partial class NfcNormalizer
{
    private const int HangulFirst = 0xAC00;
    private const int HangulCount = 11172;
    private const int LeadFirst = 0x1100;
    private const int LeadCount = 19;
    private const int VowelFirst = 0x1161;
    private const int VowelCount = 21;
    private const int TailFirst = 0x11A7;
    private const int TailCount = 28;

    // No character below U+0300 combines with anything before it or is replaced.
    private const char LastPlain = '\u02FF';

    // What a character's mere presence says: Inert, Suspect, or a combining class when only its order can matter.
    private const byte Inert = 0;
    private const byte Suspect = 255;

    private static readonly byte[] s_bmpConcerns = new byte[0x10000];
    private static readonly Dictionary<int, byte> s_supplementaryConcerns = [];
    private static readonly Dictionary<int, (int First, int Second)> s_decompositions = [];
    private static readonly Dictionary<(int First, int Second), int> s_composites = [];
    private static readonly Dictionary<int, byte> s_combiningClasses = [];

    static NfcNormalizer()
    {
        ReadOnlySpan<int> ranges = CombiningClassRanges;
        for (int i = 0; i < ranges.Length; i += 3)
        {
            for (int codePoint = ranges[i]; codePoint <= ranges[i + 1]; codePoint++)
            {
                s_combiningClasses[codePoint] = (byte)ranges[i + 2];
                SetConcern(codePoint, (byte)ranges[i + 2]);
            }
        }

        ReadOnlySpan<int> composites = Composites;
        for (int i = 0; i < composites.Length; i += 3)
        {
            s_decompositions[composites[i]] = (composites[i + 1], composites[i + 2]);
            s_composites[(composites[i + 1], composites[i + 2])] = composites[i];
            SetConcern(composites[i + 2], Suspect);
        }

        ReadOnlySpan<int> decompositions = Decompositions;
        for (int i = 0; i < decompositions.Length; i += 3)
        {
            s_decompositions[decompositions[i]] = (decompositions[i + 1], decompositions[i + 2]);
            SetConcern(decompositions[i], Suspect);
        }

        for (int i = 0; i < VowelCount; i++)
        {
            SetConcern(VowelFirst + i, Suspect);
        }

        for (int i = 1; i < TailCount; i++)
        {
            SetConcern(TailFirst + i, Suspect);
        }
    }

    // The position of the first character that could make the text not NFC, or -1: then the text is NFC as it stands.
    public static int IndexOfSuspect(ReadOnlySpan<char> text)
    {
        int index = text.IndexOfAnyExceptInRange('\0', LastPlain);
        return index < 0 ? -1 : IndexOfSuspect(text, index);
    }

    // Appends the NFC of the text.
    public static void Normalize(ReadOnlySpan<char> text, ref PooledList<char> output)
    {
        var stretch = new PooledList<uint>(64);
        int copied = 0;
        while (true)
        {
            int suspect = IndexOfSuspect(text, copied);
            if (suspect < 0)
            {
                output.AddRange(text[copied..]);
                break;
            }

            int start = FindStretchStart(text, copied, suspect);
            output.AddRange(text[copied..start]);
            int end = suspect;
            do
            {
                CodePointAt(text, end, out int length);
                end += length;
            }
            while (end < text.Length && ConcernAt(text, end, out _) != Inert);

            stretch.Truncate(0);
            for (int i = start; i < end;)
            {
                int codePoint = CodePointAt(text, i, out int length);
                Decompose(codePoint, ref stretch);
                i += length;
            }

            OrderMarks(stretch.Span);
            int composedCount = Compose(stretch.Span);
            foreach (uint packed in stretch.Span[..composedCount])
            {
                AppendCodePoint(CodePointOf(packed), ref output);
            }

            copied = end;
        }

        stretch.Dispose();
    }

    private static void SetConcern(int codePoint, byte concern)
    {
        if (codePoint < 0x10000)
        {
            s_bmpConcerns[codePoint] = concern;
        }
        else
        {
            s_supplementaryConcerns[codePoint] = concern;
        }
    }

    // The text from start on must not depend on what stands before it.
    private static int IndexOfSuspect(ReadOnlySpan<char> text, int start)
    {
        byte[] concerns = s_bmpConcerns;
        byte last = Inert;
        for (int i = start; i < text.Length; i++)
        {
            char c = text[i];
            byte concern = concerns[c];
            if (char.IsHighSurrogate(c))
            {
                concern = ConcernAt(text, i, out int length);
                i += length - 1;
            }

            if (concern == Suspect || (concern != Inert && concern < last))
            {
                return char.IsLowSurrogate(text[i]) && i > start && char.IsHighSurrogate(text[i - 1]) ? i - 1 : i;
            }

            last = concern;
        }

        return -1;
    }

    private static byte ConcernAt(ReadOnlySpan<char> text, int index, out int length)
    {
        int codePoint = CodePointAt(text, index, out length);
        return codePoint < 0x10000
            ? s_bmpConcerns[codePoint]
            : s_supplementaryConcerns.TryGetValue(codePoint, out byte concern) ? concern : Inert;
    }

    // The inert character that the suspect, by way of other marks, stands on; or the floor.
    private static int FindStretchStart(ReadOnlySpan<char> text, int floor, int suspect)
    {
        int start = suspect;
        while (start > floor)
        {
            bool isPair = start - 2 >= floor && char.IsLowSurrogate(text[start - 1]) && char.IsHighSurrogate(text[start - 2]);
            start -= isPair ? 2 : 1;
            if (ConcernAt(text, start, out _) == Inert)
            {
                break;
            }
        }

        return start;
    }

    private static int CodePointAt(ReadOnlySpan<char> text, int index, out int length)
    {
        char c = text[index];
        if (char.IsHighSurrogate(c) && index + 1 < text.Length && char.IsLowSurrogate(text[index + 1]))
        {
            length = 2;
            return char.ConvertToUtf32(c, text[index + 1]);
        }

        length = 1;
        return c;
    }

    // A code point travels with its combining class above it, so that ordering compares one number.
    private static uint Pack(int codePoint)
    {
        uint combiningClass = s_combiningClasses.TryGetValue(codePoint, out byte found) ? found : 0u;
        return (combiningClass << 24) | (uint)codePoint;
    }

    private static int CodePointOf(uint packed)
    {
        return (int)(packed & 0xFFFFFF);
    }

    private static void Decompose(int codePoint, ref PooledList<uint> output)
    {
        int syllable = codePoint - HangulFirst;
        if ((uint)syllable < HangulCount)
        {
            output.Add((uint)(LeadFirst + (syllable / (VowelCount * TailCount))));
            output.Add((uint)(VowelFirst + (syllable % (VowelCount * TailCount) / TailCount)));
            if (syllable % TailCount != 0)
            {
                output.Add((uint)(TailFirst + (syllable % TailCount)));
            }
        }
        else if (s_decompositions.TryGetValue(codePoint, out (int First, int Second) pair))
        {
            // The tables nest at most three deep.
            Decompose(pair.First, ref output);
            if (pair.Second != 0)
            {
                Decompose(pair.Second, ref output);
            }
        }
        else
        {
            output.Add(Pack(codePoint));
        }
    }

    // Sorts each run of marks by combining class, keeping equals in order.
    private static void OrderMarks(Span<uint> text)
    {
        int start = 0;
        while (start < text.Length)
        {
            if (text[start] >> 24 == 0)
            {
                start++;
                continue;
            }

            int end = start + 1;
            while (end < text.Length && text[end] >> 24 != 0)
            {
                end++;
            }

            Span<uint> run = text[start..end];
            if (run.Length <= 32)
            {
                SortByInsertion(run);
            }
            else
            {
                SortByCounting(run);
            }

            start = end;
        }
    }

    private static void SortByInsertion(Span<uint> run)
    {
        for (int i = 1; i < run.Length; i++)
        {
            uint mark = run[i];
            int j = i - 1;
            while (j >= 0 && run[j] >> 24 > mark >> 24)
            {
                run[j + 1] = run[j];
                j--;
            }

            run[j + 1] = mark;
        }
    }

    // A text made of a million marks must not take a quadratic sort.
    private static void SortByCounting(Span<uint> run)
    {
        Span<int> starts = stackalloc int[257];
        starts.Clear();
        foreach (uint mark in run)
        {
            starts[(int)(mark >> 24) + 1]++;
        }

        for (int i = 1; i < starts.Length; i++)
        {
            starts[i] += starts[i - 1];
        }

        var sorted = new PooledList<uint>(run.Length);
        Span<uint> target = sorted.Extend(run.Length);
        foreach (uint mark in run)
        {
            target[starts[(int)(mark >> 24)]++] = mark;
        }

        target.CopyTo(run);
        sorted.Dispose();
    }

    // Composes in place; returns the new length.
    private static int Compose(Span<uint> text)
    {
        int starter = -1;
        int lastClass = -1; // of the last character kept after the starter; -1: none, the next character is adjacent
        int count = 0;
        foreach (uint packed in text)
        {
            int combiningClass = (int)(packed >> 24);
            if (starter >= 0 && lastClass < combiningClass && TryCompose(CodePointOf(text[starter]), CodePointOf(packed), out int composite))
            {
                text[starter] = (uint)composite;
                continue;
            }

            if (combiningClass == 0)
            {
                starter = count;
                lastClass = -1;
            }
            else
            {
                lastClass = combiningClass;
            }

            text[count++] = packed;
        }

        return count;
    }

    private static bool TryCompose(int first, int second, out int composite)
    {
        int lead = first - LeadFirst;
        int vowel = second - VowelFirst;
        if ((uint)lead < LeadCount && (uint)vowel < VowelCount)
        {
            composite = HangulFirst + (((lead * VowelCount) + vowel) * TailCount);
            return true;
        }

        int syllable = first - HangulFirst;
        int tail = second - TailFirst;
        if ((uint)syllable < HangulCount && syllable % TailCount == 0 && tail > 0 && tail < TailCount)
        {
            composite = first + tail;
            return true;
        }

        return s_composites.TryGetValue((first, second), out composite);
    }

    private static void AppendCodePoint(int codePoint, ref PooledList<char> output)
    {
        if (codePoint < 0x10000)
        {
            output.Add((char)codePoint);
        }
        else
        {
            output.Add((char)(0xD800 + ((codePoint - 0x10000) >> 10)));
            output.Add((char)(0xDC00 + (codePoint & 0x3FF)));
        }
    }
}
