using System.CommandLine;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Formats;

namespace Qian.Cli;

// qian template [FILE]: the prompt that a conversation becomes. FILE holds a list of messages, or an OpenAI request with
// "messages" and "tools".
internal static class TemplateVerb
{
    public static Command Create()
    {
        var file = new Argument<string?>("FILE") { Description = "JSON: a list of messages, or an object with \"messages\" and \"tools\"; '-' reads standard input, nothing prints the template itself", Arity = ArgumentArity.ZeroOrOne };
        var model = new Option<string?>("--model", "-m") { Description = "Model whose template to use (default: Qwen3.6's)", HelpName = "PATH" };
        var user = new Option<string?>("--user", "-u") { Description = "A single user message, instead of FILE" };
        var noThink = new Option<bool>("--no-think") { Description = "Render the prompt for an answer at once" };
        var preserve = new Option<bool>("--preserve-thinking") { Description = "Keep the thinking of earlier turns" };
        var noPrompt = new Option<bool>("--no-generation-prompt") { Description = "End after the last message" };
        var segments = new Option<bool>("--segments") { Description = "Show which text is the template's own (only there do control tokens count), as JSON" };
        var command = new Command("template", "Show the prompt that a conversation becomes") { file, model, user, noThink, preserve, noPrompt, segments };
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed, cancellation)));
        return command;

        int Run(ParseResult parsed, CancellationToken cancellation)
        {
            ChatTemplate template = TemplateOf(parsed.GetValue(model));
            string? path = parsed.GetValue(file);
            if (path is null && parsed.GetValue(user) is null)
            {
                Console.WriteLine(template.Source);
                return Program.Done;
            }

            IReadOnlyList<Message> messages;
            IReadOnlyList<ToolDefinition>? tools = null;
            JsonDocument? document = null;
            if (parsed.GetValue(user) is { } text)
                messages = [new Message(MessageRole.User, text)];
            else
                (messages, tools) = Read(path!, cancellation, out document);
            using (document)
            {
                var options = new ChatTemplateOptions
                {
                    AddGenerationPrompt = !parsed.GetValue(noPrompt),
                    EnableThinking = parsed.GetValue(noThink) ? false : null,
                    PreserveThinking = parsed.GetValue(preserve) ? true : null,
                };
                messages = MessageNormalizer.Normalize(messages, template.Summary);
                if (parsed.GetValue(segments))
                    JsonOutput.Print(template.RenderSegments(messages, tools, options).Select(s => new { text = s.Text, template = s.IsTemplateText }));
                else
                    Console.WriteLine(template.Render(messages, tools, options));
            }

            return Program.Done;
        }
    }

    private static ChatTemplate TemplateOf(string? model)
    {
        if (model is null)
            return ChatTemplate.Default;
        using Checkpoint checkpoint = Checkpoint.Open(ModelPath.Of(model));
        if (checkpoint.ChatTemplate is { } source)
            return ChatTemplate.Compile(source);
        Terminal.Note("this checkpoint has no template of its own; showing Qwen3.6's");
        return ChatTemplate.Default;
    }

    private static (IReadOnlyList<Message> Messages, IReadOnlyList<ToolDefinition>? Tools) Read(string path, CancellationToken cancellation, out JsonDocument document)
    {
        bool isStandardInput = path == "-";
        if (!isStandardInput && !File.Exists(path))
            throw new BadRequestException($"{path}: no such file. Expected a JSON file with a list of messages, or an object with messages and tools.");
        string json = isStandardInput ? StandardInput.ReadAll(cancellation) : File.ReadAllText(path);
        string source = isStandardInput ? "standard input" : path;
        try
        {
            document = JsonDocument.Parse(json);
        }
        catch (JsonException error)
        {
            throw new BadRequestException($"{source}: not JSON: {error.Message}", error);
        }

        JsonElement root = document.RootElement;
        if (root.ValueKind == JsonValueKind.Array)
            return (MessageJson.Read(root), null);
        if (root.ValueKind != JsonValueKind.Object || !root.TryGetProperty("messages", out JsonElement messages))
            throw new BadRequestException($"{source}: expected a list of messages, or an object with \"messages\".");
        return (MessageJson.Read(messages), root.TryGetProperty("tools", out JsonElement tools) ? MessageJson.ReadTools(tools) : null);
    }
}
