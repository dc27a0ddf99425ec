using System.Globalization;

namespace Qian.Nano;

// Short uses of the tools: read a setting, change one, write a file, count files, report the tests.
internal static class Errands
{
    private static readonly string[] s_keys = ["port", "host", "timeout", "retries", "color", "language", "level", "theme", "width", "height", "user", "mode", "limit", "volume", "speed", "region", "city", "format", "depth", "size"];
    private static readonly string[] s_files = ["settings.ini", "config.txt", "app.conf", "options.ini", "server.conf", "game.ini", "defaults.txt", "player.conf", "editor.ini", "client.txt", "printer.conf", "router.ini"];
    private static readonly string[] s_texts = ["dark", "light", "fast", "slow", "red", "green", "blue", "north", "south", "en", "de", "json", "xml", "admin", "guest", "auto", "manual", "safe"];
    private static readonly string[] s_things = ["milk", "bread", "apples", "paper", "water", "rice", "pens", "soap", "tea", "salt", "nails", "paint", "seeds", "rope", "lamps"];
    private static readonly string[] s_lists = ["todo.txt", "shopping.txt", "list.txt", "notes.txt", "items.txt", "plan.txt", "ideas.txt", "packing.txt"];
    private static readonly string[] s_asks = ["Which {k} is set in {f}?", "What is the {k} in {f}?", "Read {f} and tell me the {k}.", "Please look up {k} in {f}.", "{f}: what value has {k}?", "Tell me the value of {k} in {f}.", "I need the {k} from {f}.", "Which value does {k} have in {f}?"];
    private static readonly string[] s_sets = ["Set {k} to {v} in {f}.", "Please change {k} in {f} to {v}.", "In {f}, {k} should be {v}.", "Change the {k} in {f} to {v}.", "Make {k} {v} in {f}.", "Update {f}: {k} = {v}.", "I want {k} to be {v} in {f}."];
    private static readonly string[] s_writes = ["Create {f} with the lines {t}.", "Write a file {f} that lists {t}.", "Please make {f} with {t}, one per line.", "Save {t} to {f}, one per line.", "I need a file {f} with the lines {t}.", "Put {t} into {f}, each on its own line."];
    private static readonly string[] s_counts = ["How many files are in the project?", "List the files.", "Which files are there?", "What is in this folder?", "Show me the files of the project.", "Count the files here."];
    private static readonly string[] s_checks = ["Do the tests pass?", "Run the tests.", "Please run the tests and report.", "Are the tests green?", "Check whether all tests pass.", "What do the tests say?", "How many tests pass?"];

    public static Conversation Draw(Dice dice, Split split)
    {
        while (true)
        {
            ToolBox tools = ToolBox.Draw(dice, split);
            bool thinks = dice.Chance(50);
            (string request, string asked, List<Turn> turns) = dice.Below(5) switch
            {
                0 => Setting(dice, split, tools, thinks, change: false),
                1 => Setting(dice, split, tools, thinks, change: true),
                2 => Write(dice, split, thinks, ref tools),
                3 => Count(dice, tools, thinks),
                _ => Check(dice, tools, thinks),
            };
            if (!split.Admits("request", asked))
                continue;
            return new Conversation("tools", [Turn.User(request), .. turns], thinks) { Tools = tools, Traits = [("request", asked)] };
        }
    }

    private static (string, string, List<Turn>) Setting(Dice dice, Split split, ToolBox tools, bool thinks, bool change)
    {
        List<string> keys = [.. s_keys];
        if (split == Split.Training && dice.Chance(40))
            keys = [.. Enumerable.Range(0, 6).Select(_ => Invented.Word(dice, split)).Distinct()];
        dice.Shuffle(keys);
        string file = File(dice, split, s_files);
        string[] lines = [.. keys.Take(dice.Between(2, 6)).Select(key => $"{key} = {Value(dice, split)}")];
        int at = dice.Below(lines.Length);
        string key = keys[at];
        string value = lines[at][(key.Length + 3)..];
        string content = string.Join('\n', lines);
        string asked = dice.Pick(change ? s_sets : s_asks);
        string wanted = Value(dice, split);
        string request = asked.Replace("{k}", key, StringComparison.Ordinal).Replace("{f}", file, StringComparison.Ordinal).Replace("{v}", wanted, StringComparison.Ordinal);
        List<Turn> turns = [Turn.Calls(tools.Read(file), thinks ? $"I read {file}." : null), Turn.Result(content)];
        if (!change)
        {
            turns.Add(Turn.Assistant(dice.Pick($"The {key} is {value}.", $"{key} is set to {value}.", $"In {file}, {key} is {value}."), thinks ? $"The line is: {lines[at]}." : null));
            return (request, asked, turns);
        }

        string line = $"{key} = {wanted}";
        Call call = tools.ChangeTool == "edit_file"
            ? new Call("edit_file", ("path", file), ("old", lines[at]), ("new", line))
            : new Call("write_file", ("path", file), ("content", string.Join('\n', lines.Select((text, i) => i == at ? line : text))));
        turns.Add(Turn.Calls(call, thinks ? $"The line {lines[at]} becomes {line}." : null));
        turns.Add(Turn.Result(tools.ChangeTool == "edit_file" ? $"edited {file}" : $"wrote {file}"));
        turns.Add(Turn.Assistant(dice.Pick($"{key} in {file} is {wanted} now.", $"Done: {key} = {wanted}.", $"I changed {key} to {wanted}."), thinks ? "The file is changed." : null));
        return (request, asked, turns);
    }

    private static (string, string, List<Turn>) Write(Dice dice, Split split, bool thinks, ref ToolBox tools)
    {
        tools = ToolBox.All[dice.Pick(0, 2, 4)];
        List<string> things = split == Split.Training && dice.Chance(40) ? [.. Enumerable.Range(0, 4).Select(_ => Invented.Word(dice, split)).Distinct()] : [.. s_things];
        dice.Shuffle(things);
        string[] lines = [.. things.Take(dice.Between(2, 4))];
        string file = File(dice, split, s_lists);
        string asked = dice.Pick(s_writes);
        string words = string.Join(", ", lines.Take(lines.Length - 1)) + " and " + lines[^1];
        List<Turn> turns =
        [
            Turn.Calls(new Call("write_file", ("path", file), ("content", string.Join('\n', lines))), thinks ? $"I write {lines.Length} lines to {file}." : null),
            Turn.Result($"wrote {file}"),
            Turn.Assistant(dice.Pick($"I wrote {file} with {lines.Length} lines.", $"{file} now lists {words}.", $"Done, {file} is written."), thinks ? "The file is written." : null),
        ];
        return (asked.Replace("{f}", file, StringComparison.Ordinal).Replace("{t}", words, StringComparison.Ordinal), asked, turns);
    }

    private static (string, string, List<Turn>) Count(Dice dice, ToolBox tools, bool thinks)
    {
        List<string> files = [.. s_files, .. s_lists, "README.md", "main.py", "Program.cs"];
        dice.Shuffle(files);
        string[] found = [.. files.Take(dice.Between(2, 5)).Order(StringComparer.Ordinal)];
        string asked = dice.Pick(s_counts);
        List<Turn> turns =
        [
            Turn.Calls(tools.List, thinks ? "I list the files." : null),
            Turn.Result(string.Join('\n', found)),
            Turn.Assistant($"There are {found.Length} files: {string.Join(", ", found)}.", thinks ? $"I count {found.Length} lines." : null),
        ];
        return (asked, asked, turns);
    }

    private static (string, string, List<Turn>) Check(Dice dice, ToolBox tools, bool thinks)
    {
        int count = dice.Between(1, 9);
        int failed = dice.Chance(50) ? 0 : dice.Between(1, count);
        string asked = dice.Pick(s_checks);
        List<Turn> turns =
        [
            Turn.Calls(tools.Run, thinks ? "I run the tests." : null),
            Turn.Result(failed == 0 ? $"{count} of {count} tests passed" : $"{failed} of {count} tests failed"),
            Turn.Assistant(failed == 0 ? $"All {count} tests pass." : $"No: {failed} of {count} tests fail.", thinks ? failed == 0 ? "No test failed." : $"{failed} failed." : null),
        ];
        return (asked, asked, turns);
    }

    private static string File(Dice dice, Split split, string[] names) =>
        split == Split.Training && dice.Chance(30) ? Invented.Word(dice, split) + dice.Pick(".ini", ".txt", ".conf") : dice.Pick(names);

    private static string Value(Dice dice, Split split) => split == Split.Training && dice.Chance(30) ? Invented.Word(dice, split) : dice.Chance(50) ? dice.Pick(s_texts) : dice.Between(1, 9000).ToString(CultureInfo.InvariantCulture);
}
