using System.Globalization;

namespace Qian.Nano;

// Small tasks whose answer stands in the request, over words that mean nothing: repeat, look up, rename, find the line, name a tool.
// A model this small learns late to copy what it reads; code, tools and JSON all rest on it.
internal static class Recall
{
    private static readonly string[] s_repeats = ["Repeat: {t}", "Say this back to me: {t}", "Copy this line exactly: {t}", "Write exactly this: {t}", "Echo {t}", "Please repeat: {t}", "Give back this text unchanged: {t}", "{t}\nRepeat that.", "{t}\nWrite it again."];
    private static readonly string[] s_nexts = ["Which word follows {a} in this list: {t}?", "What comes after {a}? {t}", "{t}\nWhat stands behind {a}?", "In {t}, what is next after {a}?", "{t}\nName the word after {a}."];
    private static readonly string[] s_values = ["{l}\nWhat is {a}?", "{l}\nGive me {a}.", "What is the value of {a}?\n{l}", "{l}\nWhich value has {a}?", "Look up {a}:\n{l}", "{l}\n{a}?"];
    private static readonly string[] s_renames = ["Rename {a} to {b}:\n{t}", "{t}\nReplace {a} by {b}.", "In this code, call {a} {b} instead.\n{t}", "{t}\nThe name {a} should be {b}.", "Write {b} instead of {a}:\n{t}"];
    private static readonly string[] s_lines = ["Which line contains {a}?\n{l}", "{l}\nShow me the line with {a}.", "Find the line that has {a}.\n{l}", "{l}\nQuote the line in which {a} occurs."];
    private static readonly string[] s_runs = ["Which tool runs the tests?", "How do you run the tests here?", "Name the tool for running tests.", "What do you call to test the project?", "With which tool can the tests be run?"];
    private static readonly string[] s_changes = ["Which tool changes a file?", "How do you change a file here?", "Name the tool that changes files.", "What do you call to change code?", "With which tool are files changed?"];
    private static readonly string[] s_thoughts = ["I copy it.", "It stands in the text.", "I look it up.", "I read it again."];

    private static readonly string[] s_code =
    [
        "return {a} % 2 == 0;", "for (int i = 0; i < {a}.Length; i++)", "if ({a}[i] > {n})", "total += {a}[i];", "{a} = {x} + {n};", "foreach (int {x} in {a})", "return {a}.Where(x => x > {n}).Sum();", "while ({a} > {x})", "int {a} = {x}.Length - {n};",
        "return sum(x for x in {a} if x != {n})", "for {x} in {a}:", "if {a} not in {x}:", "{a}.append({x} * {n})", "def {x}({a}: list[int]) -> int:", "public static int {x}(int[] {a})", "result = {a}[{n}:]", "return {a} == {x} ? {n} : 0;",
    ];

    public static Conversation Draw(Dice dice, Split split)
    {
        while (true)
        {
            ToolBox? tools = null;
            (string asked, string request, string answer) = dice.Below(7) switch
            {
                0 => Repeat(dice, split),
                1 => Next(dice, split),
                2 => Value(dice, split),
                3 or 4 => Rename(dice, split),
                5 => Line(dice, split),
                _ => Tool(dice, tools = ToolBox.Draw(dice, split)),
            };
            if (!split.Admits("request", asked))
                continue;
            bool thinks = dice.Chance(30);
            return new Conversation("recall", [Turn.User(request), Turn.Assistant(answer, thinks ? dice.Pick(s_thoughts) : null)], thinks) { Tools = tools, Traits = [("request", asked)] };
        }
    }

    private static (string, string, string) Repeat(Dice dice, Split split)
    {
        string text = dice.Chance(40) ? Code(dice, Invented.Word(dice, split), split) : string.Join(dice.Pick(" ", ", ", "_"), Words(dice, split, 3, 8));
        string asked = dice.Pick(s_repeats);
        return (asked, asked.Replace("{t}", text, StringComparison.Ordinal), text);
    }

    private static (string, string, string) Next(Dice dice, Split split)
    {
        List<string> words = Words(dice, split, 3, 9);
        int at = dice.Below(words.Count - 1);
        string asked = dice.Pick(s_nexts);
        return (asked, asked.Replace("{t}", string.Join(", ", words), StringComparison.Ordinal).Replace("{a}", words[at], StringComparison.Ordinal), words[at + 1]);
    }

    private static (string, string, string) Value(Dice dice, Split split)
    {
        List<string> keys = Words(dice, split, 2, 6), values = Words(dice, split, keys.Count, keys.Count);
        string sign = dice.Pick(" = ", ": ", " is ");
        int at = dice.Below(keys.Count);
        string asked = dice.Pick(s_values);
        return (asked, asked.Replace("{l}", string.Join('\n', keys.Select((key, i) => key + sign + values[i])), StringComparison.Ordinal).Replace("{a}", keys[at], StringComparison.Ordinal), values[at]);
    }

    private static (string, string, string) Rename(Dice dice, Split split)
    {
        string from = Invented.Word(dice, split), to = Invented.Word(dice, split), pattern = dice.Pick(s_code);
        string other = Invented.Word(dice, split), number = Number(dice);
        string asked = dice.Pick(s_renames);
        return (asked, asked.Replace("{t}", Fill(from), StringComparison.Ordinal).Replace("{a}", from, StringComparison.Ordinal).Replace("{b}", to, StringComparison.Ordinal), Fill(to));

        string Fill(string name) => pattern.Replace("{a}", name, StringComparison.Ordinal).Replace("{x}", other, StringComparison.Ordinal).Replace("{n}", number, StringComparison.Ordinal);
    }

    private static (string, string, string) Line(Dice dice, Split split)
    {
        List<string> names = Words(dice, split, 2, 5);
        List<string> lines = [.. names.Select(name => Code(dice, name, split))];
        int at = dice.Below(names.Count);
        string asked = dice.Pick(s_lines);
        return (asked, asked.Replace("{l}", string.Join('\n', lines), StringComparison.Ordinal).Replace("{a}", names[at], StringComparison.Ordinal), lines[at]);
    }

    private static (string, string, string) Tool(Dice dice, ToolBox tools)
    {
        bool runs = dice.Chance(60);
        string asked = dice.Pick(runs ? s_runs : s_changes);
        return (asked, asked, runs ? tools.RunTool : tools.ChangeTool);
    }

    private static string Code(Dice dice, string name, Split split) =>
        dice.Pick(s_code).Replace("{a}", name, StringComparison.Ordinal).Replace("{x}", Invented.Word(dice, split), StringComparison.Ordinal).Replace("{n}", Number(dice), StringComparison.Ordinal);

    // All different.
    private static List<string> Words(Dice dice, Split split, int fewest, int most)
    {
        int count = dice.Between(fewest, most);
        var words = new List<string>();
        while (words.Count < count)
        {
            string word = dice.Chance(20) ? Number(dice) : Invented.Word(dice, split) + (dice.Chance(15) ? dice.Between(1, 9).ToString(CultureInfo.InvariantCulture) : "");
            if (!words.Contains(word))
                words.Add(word);
        }

        return words;
    }

    private static string Number(Dice dice) => dice.Between(1, dice.Pick(9, 99, 9999)).ToString(CultureInfo.InvariantCulture);
}
