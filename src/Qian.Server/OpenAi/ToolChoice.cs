using System.Text.Json;
using Qian.Server.Http;

namespace Qian.Server.OpenAi;

// The "tool_choice" of chat completions and responses, which differ in how deep they put a tool's name: 'auto', 'none',
// 'required', one tool by name, or some of them ('allowed_tools'). Either spelling is read in both places. The tools that may
// not be called stay in the prompt, which is the point of naming the allowed ones: the prompt stays the same from turn to turn.
internal sealed record ToolChoice(bool MayCall, bool MustCall)
{
    private const int MostNames = 1024;

    // The one to call.
    public string? Tool { get; private init; }

    // Those that may be called; null for all.
    public IReadOnlyList<string>? Allowed { get; private init; }

    public static ToolChoice Read(JsonFields body)
    {
        JsonElement choice = body.Any("tool_choice");
        if (choice.ValueKind == JsonValueKind.Undefined)
            return new ToolChoice(MayCall: true, MustCall: false);
        if (choice.ValueKind == JsonValueKind.Object)
            return ReadObject(JsonFields.Of(choice, "tool_choice"), body);
        return JsonFields.AsText(choice, "tool_choice") switch
        {
            "auto" => new ToolChoice(MayCall: true, MustCall: false),
            "none" => new ToolChoice(MayCall: false, MustCall: false),
            "required" => new ToolChoice(MayCall: true, MustCall: true),
            _ => throw body.Invalid("tool_choice", "expected 'auto', 'none', 'required' or a tool."),
        };
    }

    private static ToolChoice ReadObject(JsonFields choice, JsonFields body)
    {
        switch (choice.RequiredText("type"))
        {
            case "function":
                return new ToolChoice(MayCall: true, MustCall: true) { Tool = NameOf(choice) };
            case "allowed_tools":
                JsonFields allowed = choice.Object("allowed_tools") ?? choice;
                JsonElement[] tools = allowed.List("tools", MostNames) ?? throw allowed.Missing("tools");
                if (tools.Length == 0)
                    throw allowed.Invalid("tools", "there must be at least one tool.");
                bool mustCall = allowed.RequiredText("mode") switch
                {
                    "auto" => false,
                    "required" => true,
                    _ => throw allowed.Invalid("mode", "expected 'auto' or 'required'."),
                };
                string path = allowed.PathOf("tools");
                return new ToolChoice(MayCall: true, mustCall) { Allowed = [.. tools.Select((tool, i) => AllowedName(JsonFields.Of(tool, $"{path}[{i}]")))] };
            default:
                throw body.Invalid("tool_choice", "only tools of type 'function' can be chosen.");
        }
    }

    private static string AllowedName(JsonFields tool) => tool.RequiredText("type") == "function" ? NameOf(tool) : throw tool.Invalid("type", "only 'function' tools can be called here.");

    private static string NameOf(JsonFields tool) => tool.Object("function")?.RequiredText("name") ?? tool.RequiredText("name");
}
