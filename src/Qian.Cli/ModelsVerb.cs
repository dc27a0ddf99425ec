using System.CommandLine;
using System.Globalization;
using Qian.Inference;
using Qian.Weights;
using Spectre.Console;

namespace Qian.Cli;

// qian models: what the cache holds, whoever fetched it; qian models rm NAME: deletes after showing what.
internal static class ModelsVerb
{
    public static Command Create()
    {
        var json = new Option<bool>("--json") { Description = "Print the list as JSON" };
        var command = new Command("models", "List the models in the cache") { json, CreateRemove() };
        command.SetAction(parsed =>
        {
            HubCache cache = HubCache.FromEnvironment();
            List<CachedModel> models = CachedModels.List(cache);
            if (parsed.GetValue(json))
                PrintJson(models);
            else
                Print(cache, models);
            return Program.Done;
        });
        return command;
    }

    private static Command CreateRemove()
    {
        var name = new Argument<string>("NAME") { Description = "ORG/NAME for everything of a model, or ORG/NAME:TYPE for one GGUF file" };
        var yes = new Option<bool>("--yes", "-y") { Description = "Delete without asking" };
        var json = new Option<bool>("--json") { Description = "Print what was deleted as JSON" };
        var command = new Command("rm", "Delete a model from the cache") { name, yes, json };
        command.SetAction(parsed =>
        {
            Removal removal = CachedModels.Plan(HubCache.FromEnvironment(), PullName.Parse(parsed.GetValue(name)!));
            foreach (string path in removal.Folders.Concat(removal.Paths))
                Terminal.Note(path);
            if (!parsed.GetValue(yes) && !Confirmed(removal))
                return Program.Failed;
            CachedModels.Delete(removal);
            if (parsed.GetValue(json))
                JsonOutput.Print(new { deleted = removal.Folders.Concat(removal.Paths), bytes = removal.Bytes });
            else
                Console.WriteLine($"{MemoryPlan.Format(removal.Bytes)} freed");
            return Program.Done;
        });
        return command;
    }

    private static bool Confirmed(Removal removal)
    {
        if (Console.IsInputRedirected || Console.IsErrorRedirected)
            throw new BadRequestException($"{MemoryPlan.Format(removal.Bytes)} would be deleted, which nobody can confirm here: add --yes.");
        Console.Error.Write($"Delete these, {MemoryPlan.Format(removal.Bytes)}? [y/N] ");
        return Console.In.ReadLine()?.Trim() is "y" or "Y" or "yes";
    }

    private static void Print(HubCache cache, List<CachedModel> models)
    {
        if (models.Count == 0)
        {
            Terminal.Note($"no models in {cache.Root}");
            return;
        }

        var table = new Table { Border = TableBorder.Simple };
        table.AddColumns("name", "files", "size", "revision");
        table.Columns[1].Alignment = table.Columns[2].Alignment = Justify.Right;
        foreach (CachedModel model in models)
        {
            table.AddRow(
                Markup.Escape(model.Name),
                model.Files.Count.ToString(CultureInfo.InvariantCulture) + (model.IsWhole ? "" : ", parts missing"),
                MemoryPlan.Format(model.Bytes),
                Markup.Escape($"{string.Join(", ", model.Revisions)} {model.Commit[..8]}".Trim()));
        }

        Terminal.Out.Write(table);
    }

    private static void PrintJson(List<CachedModel> models) => JsonOutput.Print(models.Select(model => new
    {
        name = model.Name,
        commit = model.Commit,
        revisions = model.Revisions,
        files = model.Files,
        bytes = model.Bytes,
        whole = model.IsWhole,
    }));
}
