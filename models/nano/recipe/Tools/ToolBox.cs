using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Nano;

// A few short tools over one folder. Boxes differ in how a file is changed (written whole, or one place replaced) and in how the
// tests are run; one holds all the tools of Qian's coding agent.
internal sealed class ToolBox
{
    private static readonly (string Name, string Description, string[] Parameters)[] s_tools =
    [
        ("list_files", "List the files of the project.", []),
        ("read_file", "Read a file.", ["path"]),
        ("write_file", "Write a whole file.", ["path", "content"]),
        ("edit_file", "Replace one piece of text in a file.", ["path", "old", "new"]),
        ("search_files", "Search the files of the project for a regular expression.", ["pattern"]),
        ("run_tests", "Run the tests of the project.", []),
        ("run_command", "Run a command in the project folder.", ["command"]),
    ];

    private static readonly string[] s_runNames = ["test", "check", "run_checks", "test_project", "execute_tests", "verify", "make_check"];

    private readonly HashSet<string> _names;

    private ToolBox(string change, string run, bool isAgent = false)
    {
        ChangeTool = change;
        RunTool = run;
        _names = isAgent ? [.. s_tools.Select(tool => tool.Name).Where(name => name != "run_tests")] : ["list_files", "read_file", change, run];
        var tools = new JsonArray();
        foreach ((string name, string description, string[] parameters) in s_tools.Where(tool => _names.Contains(tool.Name)))
            tools.Add(Describe(name, description, parameters));
        if (tools.Count < _names.Count)
            tools.Add(Describe(run, "Run the tests of the project.", []));

        Json = tools.ToJsonString(new JsonSerializerOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
    }

    public static ToolBox[] All { get; } = [new("write_file", "run_tests"), new("edit_file", "run_tests"), new("write_file", "run_command"), new("edit_file", "run_command"), new("edit_file", "run_command", isAgent: true)];

    // In training the tool that runs the tests goes by many names, some of which nobody can know: the list must be read.
    public static ToolBox Draw(Dice dice, Split split)
    {
        if (split == Split.HeldOut || dice.Chance(50))
            return dice.Pick(All);
        if (dice.Chance(30))
            return All[^1];
        string run = dice.Chance(50) ? dice.Pick(s_runNames) : Invented.Word(dice, split);
        return new ToolBox(dice.Pick("write_file", "edit_file"), run);
    }

    public string ChangeTool { get; }

    public string RunTool { get; }

    // The list as OpenAI's "tools".
    public string Json { get; }

    // Characters of the template's text about tools.
    public int RenderedLength => Json.Length + 1050;

    public bool Has(string tool) => _names.Contains(tool);

    public Call List => new("list_files");

    public Call Run => RunTool == "run_command" ? new Call(RunTool, ("command", "make test")) : new Call(RunTool);

    public Call Read(string path) => new("read_file", ("path", path));

    public static Call Search(string pattern) => new("search_files", ("pattern", pattern));

    private static JsonObject Describe(string name, string description, string[] parameters)
    {
        var properties = new JsonObject();
        foreach (string parameter in parameters)
            properties[parameter] = new JsonObject { ["type"] = "string" };
        return new JsonObject
        {
            ["type"] = "function",
            ["function"] = new JsonObject
            {
                ["name"] = name,
                ["description"] = description,
                ["parameters"] = new JsonObject { ["type"] = "object", ["properties"] = properties, ["required"] = new JsonArray([.. parameters.Select(parameter => JsonValue.Create(parameter))]) },
            },
        };
    }
}
