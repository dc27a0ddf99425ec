using System.Text.Json;

namespace Qian.Nano;

internal sealed record Call(string Tool, params IReadOnlyList<(string Name, string Value)> Arguments);

internal sealed record Turn(string Role, string Content)
{
    public string? Reasoning { get; init; }

    public Call? Call { get; init; }

    // Something that goes wrong, so that the next turn can mend it: read, not learnt.
    public bool IsMistake { get; init; }

    public static Turn User(string content) => new("user", content);

    public static Turn Assistant(string content, string? reasoning = null) => new("assistant", content) { Reasoning = reasoning };

    public static Turn Calls(Call call, string? reasoning = null, string content = "") => new("assistant", content) { Reasoning = reasoning, Call = call };

    public static Turn Result(string content) => new("tool", content);
}

// One sample: a conversation, and the traits that decide on which side of the partition it stands.
internal sealed record Conversation(string Family, IReadOnlyList<Turn> Turns, bool Thinks)
{
    public ToolBox? Tools { get; init; }

    public IReadOnlyList<(string Kind, string Key)> Traits { get; init; } = [];

    // Characters that the assistant writes, tags included: what is learnt.
    public int WrittenLength => Turns.Where(turn => turn.Role == "assistant" && !turn.IsMistake).Sum(Length);

    // Characters of the whole conversation as the template renders it, roughly.
    public int TotalLength => Turns.Sum(Length) + (Tools?.RenderedLength ?? 0);

    // The form of OpenAI's chat completions, one line.
    public void WriteTo(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteStartArray("messages");
        foreach (Turn turn in Turns)
            Write(json, turn);
        json.WriteEndArray();
        if (Tools is not null)
        {
            json.WritePropertyName("tools");
            json.WriteRawValue(Tools.Json);
        }

        json.WriteBoolean("enable_thinking", Thinks);
        // As a conversation runs in Qian: earlier turns keep their thinking.
        json.WriteBoolean("preserve_thinking", true);
        json.WriteString("family", Family);
        json.WriteEndObject();
    }

    private static int Length(Turn turn)
    {
        int call = turn.Call is { } made ? 70 + made.Tool.Length + made.Arguments.Sum(argument => 26 + argument.Name.Length + argument.Value.Length) : 0;
        return turn.Content.Length + (turn.Reasoning?.Length ?? 0) + call + 24;
    }

    private static void Write(Utf8JsonWriter json, Turn turn)
    {
        json.WriteStartObject();
        json.WriteString("role", turn.Role);
        json.WriteString("content", turn.Content);
        if (turn.Reasoning is not null)
            json.WriteString("reasoning_content", turn.Reasoning);
        if (turn.IsMistake)
            json.WriteNumber("weight", 0);
        if (turn.Call is { } call)
        {
            json.WriteStartArray("tool_calls");
            json.WriteStartObject();
            json.WriteString("type", "function");
            json.WriteStartObject("function");
            json.WriteString("name", call.Tool);
            json.WriteStartObject("arguments");
            foreach ((string name, string value) in call.Arguments)
                json.WriteString(name, value);
            json.WriteEndObject();
            json.WriteEndObject();
            json.WriteEndObject();
            json.WriteEndArray();
        }

        json.WriteEndObject();
    }
}
