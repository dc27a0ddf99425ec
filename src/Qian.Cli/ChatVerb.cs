using System.CommandLine;
using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat;

namespace Qian.Cli;

// qian chat: a conversation in the terminal. Ctrl-C stops the reply that is running; at the prompt it leaves.
internal static class ChatVerb
{
    private const string Help = """
          /think           think before answering (now and for the rest)
          /no-think        answer at once
          /system TEXT     set the system message (starts anew)
          /clear           forget the conversation
          /retry           answer the last message again
          /save FILE       write the conversation as JSON
          /load FILE       continue a saved conversation
          /stats           tokens so far, and the share that did not have to be read again
          /exit            leave (Ctrl-D too)
        A line that ends with a backslash continues on the next; a line of three double quotes opens and closes a block.
        """;

    public static Command Create()
    {
        var command = new Command("chat", "Talk with the model in the terminal");
        var model = new ModelOptions(command, withAdapter: true, withPrefixes: true);
        var sampling = new SamplingFlags(command);
        var system = new Option<string?>("--system") { Description = "System message", HelpName = "TEXT" };
        var noThink = new Option<bool>("--no-think") { Description = "Answer at once, without thinking" };
        command.Add(system);
        command.Add(noThink);
        command.SetAction(async (parsed, cancellation) =>
        {
            SamplingOptions options = sampling.Options(parsed);
            using Engine engine = model.Load(parsed, options.DraftTokens != 0, cancellation);
            Adapter? adapter = model.Adapter(parsed, engine);
            using var talk = new Talk(engine, options, new ChatSettings { System = parsed.GetValue(system), Think = !parsed.GetValue(noThink), Adapter = adapter });
            // Without a tokenizer there is nothing to talk with: said now, not after the first message.
            _ = engine.Tokenizer;
            Terminal.Note($"{engine.Config.Name}{(adapter is null ? "" : $" with the adapter {adapter.Name}")}, {engine.ContextLength} tokens of context. /help lists the commands.");
            return await talk.Run(cancellation);
        });
        return command;
    }

    private sealed class Talk(Engine engine, SamplingOptions options, ChatSettings settings) : IDisposable
    {
        private ChatSession _session = new(engine, settings);
        private ChatUsage? _usage;

        public async Task<int> Run(CancellationToken quit)
        {
            while (true)
            {
                quit.ThrowIfCancellationRequested();
                // On a thread of its own: Ctrl-C must end a prompt that nobody answers.
                string? line = await Task.Run(ReadMessage, CancellationToken.None).WaitAsync(quit);
                if (line is null)
                    return Program.Done;
                if (line.Length == 0)
                    continue;
                try
                {
                    if (!line.StartsWith('/'))
                        await Reply(token => _session.SendAsync(line, options, token), quit);
                    else if (!await Obey(line, quit))
                        return Program.Done;
                }
                catch (BadRequestException error)
                {
                    Terminal.Note(error.Message);
                }
                catch (Exception error) when (error is IOException or UnauthorizedAccessException or JsonException)
                {
                    Terminal.Note(error.Message);
                }
            }
        }

        public void Dispose() => _session.Dispose();

        // False leaves.
        private async Task<bool> Obey(string line, CancellationToken quit)
        {
            int blank = line.IndexOf(' ');
            string verb = blank < 0 ? line : line[..blank], rest = blank < 0 ? "" : line[(blank + 1)..].Trim();
            switch (verb)
            {
                case "/exit" or "/quit":
                    return false;
                case "/help":
                    Terminal.Note(Help);
                    return true;
                case "/think" or "/no-think":
                    settings = settings with { Think = verb == "/think" };
                    _session.Settings = settings;
                    return true;
                case "/system":
                    settings = settings with { System = rest.Length == 0 ? null : rest };
                    Start([]);
                    return true;
                case "/clear":
                    Start([]);
                    return true;
                case "/retry":
                    await Reply(token => _session.RetryAsync(options, token), quit);
                    return true;
                case "/save":
                    Save(Required(rest, verb));
                    return true;
                case "/load":
                    Load(Required(rest, verb));
                    Terminal.Note($"{_session.Messages.Count} messages");
                    return true;
                case "/stats":
                    Terminal.Note(_usage is null ? "nothing said yet" : $"last turn: {_usage.PromptTokens} prompt tokens, {_usage.CachedTokens} of them kept from before, {_usage.OutputTokens} generated ({_usage.ReasoningTokens} thinking)");
                    return true;
                default:
                    Terminal.Note($"no command {verb}; /help lists them");
                    return true;
            }
        }

        private async Task Reply(Func<CancellationToken, IAsyncEnumerable<ChatDelta>> send, CancellationToken quit)
        {
            using var reply = new InterruptScope(quit);
            try
            {
                await Show(send(reply.Token));
            }
            catch (OperationCanceledException) when (!quit.IsCancellationRequested)
            {
                Terminal.Note("\n(stopped)");
            }
        }

        private async Task Show(IAsyncEnumerable<ChatDelta> deltas)
        {
            bool thinking = false;
            using var progress = new PrefillProgress(() => _session.Progress);
            await foreach (ChatDelta delta in deltas)
            {
                progress.Dispose();
                if (delta.Reasoning.Length > 0)
                    Console.Write(Console.IsOutputRedirected ? "" : $"\e[2m{delta.Reasoning}\e[0m");
                if (delta.Text.Length > 0)
                    Console.Write(thinking ? "\n" + delta.Text : delta.Text);
                thinking = delta.Reasoning.Length > 0 || (thinking && delta.Text.Length == 0);
                _usage = delta.Usage ?? _usage;
                if (delta.Finish == FinishReason.Length)
                    Terminal.Note("\n(stopped at the token limit; --max-tokens raises it)");
                else if (delta.Finish == FinishReason.ContextFull)
                    Terminal.Note("\n(the context is full; /clear starts anew)");
                else if (delta.Finish == FinishReason.Loop)
                    Terminal.Note("\n(stopped: it repeated itself)");
            }

            Console.WriteLine();
        }

        private void Start(IReadOnlyList<Message> messages)
        {
            _session.Dispose();
            _session = new ChatSession(engine, settings, messages);
        }

        private void Save(string path)
        {
            string part = path + ".part";
            IReadOnlyList<Message> messages = settings.System is { } system ? [new Message(MessageRole.System, system), .. _session.Messages] : _session.Messages;
            File.WriteAllText(part, MessageWriter.Write(messages));
            File.Move(part, path, overwrite: true);
            Terminal.Note($"{_session.Messages.Count} messages written to {path}");
        }

        // The system message of the file, where it has one, replaces ours.
        private void Load(string path)
        {
            IReadOnlyList<Message> messages = Read(path);
            if (messages is [{ Role: MessageRole.System } system, ..])
            {
                settings = settings with { System = system.Text };
                messages = [.. messages.Skip(1)];
            }

            Start(messages);
        }

        private static IReadOnlyList<Message> Read(string path)
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllText(path));
            return MessageJson.Read(document.RootElement.Clone());
        }

        private static string Required(string rest, string verb) => rest.Length > 0 ? rest : throw new BadRequestException($"{verb} needs a file name.");

        // One message: a line, continued by a backslash, or a block between lines of three quotes. Null at the end of input.
        private static string? ReadMessage()
        {
            Prompt("> ");
            string? line = Console.ReadLine();
            if (line is null)
            {
                Prompt(Environment.NewLine);
                return null;
            }

            var text = new StringBuilder();
            if (line.Trim() == "\"\"\"")
            {
                while ((line = Console.ReadLine()) is not null && line.Trim() != "\"\"\"")
                    text.Append(line).Append('\n');
                return text.ToString().Trim();
            }

            while (line is not null && line.EndsWith('\\'))
            {
                text.Append(line.AsSpan(0, line.Length - 1)).Append('\n');
                Prompt(". ");
                line = Console.ReadLine();
            }

            return text.Append(line).ToString().Trim();
        }

        private static void Prompt(string prompt)
        {
            if (!Console.IsInputRedirected)
                Console.Error.Write(prompt);
        }
    }
}
