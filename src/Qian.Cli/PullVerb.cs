using System.CommandLine;
using System.Globalization;
using Qian.Inference;
using Qian.Weights;
using Spectre.Console;

namespace Qian.Cli;

// qian pull NAME: a model from a hub into the cache that other tools share.
internal static class PullVerb
{
    // Where there is a bar, lines go above it.
    private static readonly Action<string> s_note = Console.IsErrorRedirected ? Terminal.Note : text => Terminal.Error.WriteLine(text);

    public static Command Create()
    {
        var name = new Argument<string>("NAME") { Description = "ORG/NAME, or ORG/NAME:TYPE for a GGUF file of that type (Qwen/Qwen3.6-27B-GGUF:Q4_K_M)" };
        var revision = new Option<string?>("--revision") { Description = "Branch, tag or commit (default: main, on ModelScope master)", HelpName = "REV" };
        var from = new Option<string>("--from") { Description = "The hub to fetch from", DefaultValueFactory = _ => "huggingface", HelpName = "huggingface|modelscope" };
        from.AcceptOnlyFromAmong(StringComparer.OrdinalIgnoreCase, "huggingface", "modelscope");
        var context = new Option<int>("--context", "-c") { Description = "Without a TYPE: tokens of context that must fit beside the file", DefaultValueFactory = _ => 8192, HelpName = "N" };
        var json = new Option<bool>("--json") { Description = "Print the result as JSON" };
        var command = new Command("pull", "Fetch a model from Hugging Face or ModelScope; interrupted downloads continue (HF_ENDPOINT, HF_TOKEN, HF_HOME; MODELSCOPE_DOMAIN, MODELSCOPE_API_TOKEN)") { name, from, revision, context, json };
        command.SetAction(async (parsed, cancellation) =>
        {
            PullName wanted = PullName.Parse(parsed.GetValue(name)!);
            if (parsed.GetValue(revision) is { } asked)
            {
                if (HubPath.Fault(asked) is { } fault)
                    throw new BadRequestException($"--revision {HubPath.Shown(asked)}: {fault}.");
                wanted = wanted with { Revision = asked };
            }

            if (parsed.GetValue(context) is < 1 and var tokens)
                throw new BadRequestException($"--context: expected an integer of 1 or more, found {tokens}.");
            using var client = new HubClient(HubSettings.FromEnvironment(Enum.Parse<HubKind>(parsed.GetValue(from)!, ignoreCase: true)) with { Note = s_note });
            PullResult result = await Run(client, wanted, parsed.GetValue(context), cancellation);
            if (parsed.GetValue(json))
                PrintJson(result);
            else
                Print(result);
            return Program.Done;
        });
        return command;
    }

    private static async Task<PullResult> Run(HubClient client, PullName name, int context, CancellationToken cancellation)
    {
        HubCache cache = HubCache.FromEnvironment();
        if (Console.IsErrorRedirected)
            return await new ModelPull(client, cache) { ContextLength = context, Note = s_note }.RunAsync(name, cancellation);
        return await Terminal.Error.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new DownloadedColumn(), new TransferSpeedColumn(), new RemainingTimeColumn())
            .StartAsync(async progress =>
            {
                var pull = new ModelPull(client, cache)
                {
                    ContextLength = context,
                    Note = s_note,
                    Progress = new PullBar(progress.AddTask($"fetching {Markup.Escape(name.ToString())}")),
                };
                return await pull.RunAsync(name, cancellation);
            });
    }

    private static void Print(PullResult result)
    {
        string present = result.PresentBytes > 0 ? $", {MemoryPlan.Format(result.PresentBytes)} there already" : "";
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Name}: {result.Files.Count} {(result.Files.Count == 1 ? "file" : "files")}, {MemoryPlan.Format(result.FetchedBytes)} fetched{present}, commit {result.Commit}"));
        Console.WriteLine(result.Path);
    }

    private static void PrintJson(PullResult result) => JsonOutput.Print(new
    {
        name = result.Name.ToString(),
        path = result.Path,
        commit = result.Commit,
        reason = result.Reason,
        fetched_bytes = result.FetchedBytes,
        present_bytes = result.PresentBytes,
        files = result.Files.Select(file => new { path = file.Path, bytes = file.SizeBytes, digest = file.Digest }),
    });

    // Reports come from several connections at once; the bar takes them one after the other.
    private sealed class PullBar(ProgressTask task) : IProgress<PullProgress>
    {
        private readonly Lock _lock = new();

        public void Report(PullProgress value)
        {
            lock (_lock)
            {
                task.Description = Markup.Escape(value.IsVerifying ? $"verifying {value.Path}" : value.Path);
                if (value.IsVerifying)
                    return;
                task.MaxValue = Math.Max(1, value.BytesTotal);
                task.Value = value.BytesDone;
            }
        }
    }
}
