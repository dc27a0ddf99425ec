using System.CommandLine;
using Qian.Inference;
using Qian.Server.Security;

namespace Qian.Cli;

// qian keys: the file of API keys that qian serve --keys reads. A key is shown once, when it is made; the file has its hash.
internal static class KeysVerb
{
    public static Command Create() => new("keys", "Make, list and take away API keys for qian serve") { CreateAdd(), CreateList(), CreateRemove() };

    private static Option<string> FileOption() => new("--keys") { Description = "The file of keys", Required = true, HelpName = "FILE" };

    private static Command CreateAdd()
    {
        var name = new Argument<string>("NAME") { Description = "Whose key it is: letters, digits, dots, dashes, underscores" };
        Option<string> file = FileOption();
        var scope = new Option<string[]>("--scope") { Description = "What it opens: infer (ask the model), admin (change the server); may be given twice", HelpName = "SCOPE", DefaultValueFactory = _ => ["infer"] };
        scope.AcceptOnlyFromAmong("infer", "admin");
        var perMinute = new Option<int?>("--per-minute") { Description = "Requests that it may begin per minute", HelpName = "N" };
        var concurrent = new Option<int?>("--concurrent") { Description = "Requests that it may have at a time", HelpName = "N" };
        var command = new Command("add", "Make a key, print it once, and keep its hash") { name, file, scope, perMinute, concurrent };
        command.SetAction(parsed =>
        {
            string path = parsed.GetValue(file)!;
            List<ApiKey> keys = File.Exists(path) ? [.. KeyFile.Read(path)] : [];
            KeyScopes scopes = parsed.GetValue(scope)!.Aggregate(KeyScopes.None, (all, one) => all | KeyFile.ScopeOf(one));
            (ApiKey key, string secret) = ApiKey.Create(parsed.GetValue(name)!, scopes, parsed.GetValue(perMinute), parsed.GetValue(concurrent));
            if (keys.Exists(known => known.Name == key.Name))
                throw new BadRequestException($"{path} has a key called '{key.Name}' already; take it away with: qian keys rm {key.Name} --keys {path}");
            KeyFile.Write(path, [.. keys, key]);
            Terminal.Note($"key '{key.Name}' for {string.Join(" and ", KeyFile.NamesOf(scopes))}; it is shown this once:");
            Console.WriteLine(secret);
            return Program.Done;
        });
        return command;
    }

    private static Command CreateList()
    {
        Option<string> file = FileOption();
        var json = new Option<bool>("--json") { Description = "Print the list as JSON" };
        var command = new Command("list", "List the keys of a file: names, scopes and limits") { file, json };
        command.SetAction(parsed =>
        {
            IReadOnlyList<ApiKey> keys = KeyFile.Read(parsed.GetValue(file)!);
            if (parsed.GetValue(json))
                JsonOutput.Print(keys.Select(key => new { name = key.Name, scopes = KeyFile.NamesOf(key.Scopes), per_minute = key.PerMinute, concurrent = key.Concurrent, created = key.Created }));
            else
                foreach (ApiKey key in keys)
                    Console.WriteLine($"{key.Name}  {string.Join(",", KeyFile.NamesOf(key.Scopes))}  {Limits(key)}  {key.Created:yyyy-MM-dd}");
            return Program.Done;
        });
        return command;
    }

    private static Command CreateRemove()
    {
        var name = new Argument<string>("NAME") { Description = "Whose key to take away" };
        Option<string> file = FileOption();
        var command = new Command("rm", "Take a key away; a running server follows within a second") { name, file };
        command.SetAction(parsed =>
        {
            string path = parsed.GetValue(file)!, gone = parsed.GetValue(name)!;
            IReadOnlyList<ApiKey> keys = KeyFile.Read(path);
            if (!keys.Any(key => key.Name == gone))
                throw new BadRequestException($"{path} has no key called '{gone}'.");
            KeyFile.Write(path, keys.Where(key => key.Name != gone));
            return Program.Done;
        });
        return command;
    }

    private static string Limits(ApiKey key) =>
        $"{(key.PerMinute is { } rate ? $"{rate}/min" : "any rate")}, {(key.Concurrent is { } most ? $"{most} at a time" : "any number")}";
}
