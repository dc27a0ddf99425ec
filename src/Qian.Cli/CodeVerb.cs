using System.CommandLine;
using Microsoft.Extensions.AI;
using Qian.Agent;
using Qian.Inference;

namespace Qian.Cli;

// qian code [TASK]: the coding agent in this folder. Without a task it asks for one after the other; the conversation goes on.
internal static class CodeVerb
{
    public static Command Create()
    {
        var task = new Argument<string?>("TASK") { Description = "What to do; '-' reads standard input; without one it asks", Arity = ArgumentArity.ZeroOrOne };
        var command = new Command("code", "Work on the files of this folder: read, edit, run commands, asking first") { task };
        var model = new ModelOptions(command, withAdapter: true);
        var directory = new Option<string>("--directory", "-C") { Description = "Folder to work in", HelpName = "DIR", DefaultValueFactory = _ => "." };
        var yes = new Option<bool>("--yes", "-y") { Description = "Allow everything: all writes in the folder and all commands" };
        var allowWrite = new Option<bool>("--allow-write") { Description = "Write files of the folder without asking" };
        var allowRun = new Option<string[]>("--allow-run") { Description = "Run commands of this form without asking (may be given several times): a star is any text that begins no further command, as in 'dotnet test*'", HelpName = "PATTERN" };
        var tools = new Option<string?>("--tools") { Description = "Only these tools, separated by commas, of list_files, read_file, write_file, edit_file, search_files, run_command (default: all; a small model does better with few)", HelpName = "NAMES" };
        var maxSteps = new Option<int>("--max-steps") { Description = "Give up after this many replies", HelpName = "N", DefaultValueFactory = _ => 50 };
        var timeout = new Option<double>("--timeout") { Description = "Longest time of a command, in seconds", HelpName = "S", DefaultValueFactory = _ => 120 };
        var system = new Option<string?>("--system") { Description = "System message", HelpName = "TEXT" };
        var noThink = new Option<bool>("--no-think") { Description = "Answer at once, without thinking" };
        var maxTokens = new Option<int>("--max-tokens", "-n") { Description = "Most tokens of one reply", HelpName = "N", DefaultValueFactory = _ => 8192 };
        var temperature = new Option<float?>("--temperature") { Description = "0 is greedy", HelpName = "T" };
        var seed = new Option<long?>("--seed") { Description = "Same seed, same tokens", HelpName = "N" };
        var compactAt = new Option<int?>("--compact-at") { Description = "Replace the older conversation by a summary of the model's when it is longer than this (default: three quarters of the context; 0: never)", HelpName = "TOKENS" };
        var json = new Option<bool>("--json") { Description = "Print each event as a line of JSON; nobody is asked then" };
        foreach (Option option in (Option[])[directory, yes, allowWrite, allowRun, tools, maxSteps, timeout, system, noThink, maxTokens, temperature, seed, compactAt, json])
            command.Add(option);
        command.SetAction(async (parsed, cancellation) =>
        {
            string? text = parsed.GetValue(task);
            // A pipe is a task, unless one was given.
            if (text == "-" || (text is null && Console.IsInputRedirected))
                text = StandardInput.ReadAll(cancellation).Trim();
            if (text is "")
                throw new BadRequestException("no task given: write it after 'code', or pipe it in.");
            if (text is null && parsed.GetValue(json))
                throw new BadRequestException("--json needs a task.");
            if (parsed.GetValue(maxSteps) < 1)
                throw new BadRequestException($"--max-steps: expected at least 1, found {parsed.GetValue(maxSteps)}.");
            if (parsed.GetValue(timeout) is not (>= 0.1 and <= 86_400))
                throw new BadRequestException("--timeout: expected 0.1 to 86400 seconds.");
            if (parsed.GetValue(compactAt) < 0)
                throw new BadRequestException($"--compact-at: expected 0 or more, found {parsed.GetValue(compactAt)}.");
            var workspace = new Workspace(parsed.GetValue(directory)!);
            bool canAsk = !parsed.GetValue(json) && !Console.IsInputRedirected;
            var permissions = new Permissions { AllowAll = parsed.GetValue(yes), AllowWrite = parsed.GetValue(allowWrite), RunPatterns = parsed.GetValue(allowRun) ?? [], Ask = canAsk ? AgentPrinter.Ask : null };
            string[]? names = parsed.GetValue(tools)?.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            var box = new ToolBox(workspace, permissions, TimeSpan.FromSeconds(parsed.GetValue(timeout)), names);
            using Engine engine = model.Load(parsed, drafts: true, cancellation);
            Adapter? adapter = model.Adapter(parsed, engine);
            var options = new ChatOptions
            {
                Instructions = parsed.GetValue(system),
                MaxOutputTokens = parsed.GetValue(maxTokens),
                Temperature = parsed.GetValue(temperature),
                Seed = parsed.GetValue(seed),
                ModelId = adapter?.Name,
                AdditionalProperties = new AdditionalPropertiesDictionary { ["enable_thinking"] = !parsed.GetValue(noThink) },
            };
            using var client = new QianChatClient(engine, keptSessions: 1);
            long limit = parsed.GetValue(compactAt) switch { null => engine.ContextLength * 3L / 4, 0 => long.MaxValue, int tokens => tokens };
            var agent = new CodingAgent(client, box, options, parsed.GetValue(maxSteps), limit);
            agent.Happened += parsed.GetValue(json) ? AgentLines.Print : AgentPrinter.Print;
            if (text is not null)
                return (await agent.RunAsync(text, cancellation)).IsDone ? Program.Done : Program.Failed;
            Terminal.Note($"{engine.Config.Name} works in {AgentPrinter.Safe(workspace.Root)}. Say what to do; /compact shortens the conversation, Ctrl-D leaves.");
            return await Talk(agent, cancellation);
        });
        return command;
    }

    private static async Task<int> Talk(CodingAgent agent, CancellationToken quit)
    {
        while (await AgentPrinter.ReadLine("> ", quit) is { } line)
        {
            if (line.Trim().Length == 0)
                continue;
            using var scope = new InterruptScope(quit);
            try
            {
                if (line.Trim() != "/compact")
                    await agent.RunAsync(line, scope.Token);
                else if (!await agent.CompactAsync(scope.Token))
                    Terminal.Note("(nothing to shorten)");
            }
            catch (OperationCanceledException) when (!quit.IsCancellationRequested)
            {
                Terminal.Note("\n(stopped)");
            }
        }

        return Program.Done;
    }
}
