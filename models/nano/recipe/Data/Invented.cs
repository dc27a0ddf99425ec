namespace Qian.Nano;

// Words that mean nothing. Nobody can guess them, so whoever has to use one must have read it: they teach copying from the context.
internal static class Invented
{
    private const string Consonants = "bdfgklmnprstvz";
    private const string Vowels = "aeiou";

    private static readonly HashSet<string> s_reserved = ["range", "lambda", "params", "global", "double", "default", "finally", "delegate"];

    // Two or three syllables, lower-case.
    public static string Word(Dice dice, Split split)
    {
        while (true)
        {
            string word = "";
            int syllables = dice.Chance(30) ? 3 : 2;
            for (int i = 0; i < syllables; i++)
                word += $"{Consonants[dice.Below(Consonants.Length)]}{Vowels[dice.Below(Vowels.Length)]}{(dice.Chance(30) ? Consonants[dice.Below(Consonants.Length)] : "")}";
            if (!s_reserved.Contains(word) && split.Admits("name", word))
                return word;
        }
    }

    public static string Capitalised(Dice dice, Split split)
    {
        string word = Word(dice, split);
        return char.ToUpperInvariant(word[0]) + word[1..];
    }
}
