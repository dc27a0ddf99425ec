using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat;

namespace Qian.Weights;

// A conversation with tools to which a model is to reply. Read from .jsonl: {"messages": […], "tools": […]} per line as OpenAI writes
// them; where the last message is the assistant's, with calls, those are what is expected, and the prompt ends before it.
internal sealed record ToolPrompt(IReadOnlyList<Message> Messages, IReadOnlyList<ToolDefinition> Tools, IReadOnlyList<ToolCall>? Expected)
{
    private const long MostBytes = 64L << 20;
    private const int MostPrompts = 10_000;

    // The set that comes with the program: errands in a project of files, searches, everyday tools, queries; one that needs no tool.
    public static IReadOnlyList<ToolPrompt> Shipped()
    {
        using Stream stream = typeof(ToolPrompt).Assembly.GetManifestResourceStream("tool-prompts.jsonl")!;
        using var reader = new StreamReader(stream);
        return Read(reader, "the shipped tool prompts");
    }

    public static IReadOnlyList<ToolPrompt> FromFile(string path)
    {
        if (!File.Exists(path))
            throw new BadRequestException($"{path}: no such file");
        if (new FileInfo(path).Length > MostBytes)
            throw new BadRequestException($"{path}: larger than {MostBytes >> 20} MiB; some hundred prompts are enough");
        using StreamReader reader = File.OpenText(path);
        return Read(reader, path);
    }

    private static List<ToolPrompt> Read(TextReader reader, string name)
    {
        var prompts = new List<ToolPrompt>();
        int number = 0;
        while (reader.ReadLine() is { } line)
        {
            number++;
            if (string.IsNullOrWhiteSpace(line))
                continue;
            if (prompts.Count == MostPrompts)
                throw new BadRequestException($"{name}: more than {MostPrompts} prompts");
            try
            {
                using JsonDocument document = JsonDocument.Parse(line);
                prompts.Add(Read(document.RootElement.Clone()));
            }
            catch (Exception error) when (error is JsonException or BadRequestException)
            {
                throw new BadRequestException($"{name}, line {number}: {error.Message}", error);
            }
        }

        return prompts.Count > 0 ? prompts : throw new BadRequestException($"{name}: no prompt in it; expected a line of {{\"messages\": […], \"tools\": […]}} for each");
    }

    private static ToolPrompt Read(JsonElement line)
    {
        if (line.ValueKind != JsonValueKind.Object || !line.TryGetProperty("messages", out JsonElement given) || !line.TryGetProperty("tools", out JsonElement tools))
            throw new BadRequestException("expected an object with \"messages\" and \"tools\"");
        IReadOnlyList<Message> messages = MessageJson.Read(given);
        if (MessageJson.ReadTools(tools) is not { Count: > 0 } known)
            throw new BadRequestException("\"tools\" is empty; there would be nothing to call");
        IReadOnlyList<ToolCall>? expected = null;
        if (messages.Count > 0 && messages[^1] is { Role: MessageRole.Assistant } last)
        {
            expected = last.ToolCalls.Count > 0
                ? [.. last.ToolCalls.Select(call => call with { Arguments = Unwrapped(call.Arguments) })]
                : throw new BadRequestException("the last message is the assistant's, without a call; end with the user's or a tool's message, or with the call that is right");
            messages = [.. messages.SkipLast(1)];
        }

        return messages.Count > 0 ? new ToolPrompt(messages, known, expected) : throw new BadRequestException("\"messages\" is empty");
    }

    // Arguments come as an object, or as JSON in a string.
    private static JsonElement Unwrapped(JsonElement arguments)
    {
        if (arguments.ValueKind != JsonValueKind.String)
            return arguments;
        using JsonDocument document = JsonDocument.Parse(MessageJson.String(arguments));
        return document.RootElement.Clone();
    }
}
