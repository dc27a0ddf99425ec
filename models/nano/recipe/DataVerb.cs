using System.CommandLine;

namespace Qian.Nano;

// data OUT: train.jsonl and heldout.jsonl.
internal static class DataVerb
{
    public static Command Create()
    {
        var output = new Argument<string>("OUT") { Description = "Folder to write train.jsonl and heldout.jsonl to" };
        var tokens = new Option<long>("--tokens-about") { Description = "Size of the training data in tokens, estimated from its characters", DefaultValueFactory = _ => 20_000_000, HelpName = "N" };
        var count = new Option<long?>("--count") { Description = "Training samples, instead of a size", HelpName = "N" };
        var heldOut = new Option<long>("--held-out") { Description = "Held-out samples", DefaultValueFactory = _ => 1000, HelpName = "N" };
        var seed = new Option<ulong>("--seed") { Description = "Same seed, same data", DefaultValueFactory = _ => 1, HelpName = "S" };
        var command = new Command("data", "Generate the training data and the held-out data") { output, tokens, count, heldOut, seed };
        command.SetAction(parsed =>
        {
            string folder = parsed.GetValue(output)!;
            Directory.CreateDirectory(folder);
            Write(Path.Combine(folder, "train.jsonl"), parsed.GetValue(seed), Split.Training, parsed.GetValue(count), parsed.GetValue(tokens));
            Write(Path.Combine(folder, "heldout.jsonl"), parsed.GetValue(seed), Split.HeldOut, parsed.GetValue(heldOut), null);
            return 0;
        });
        return command;
    }

    private static void Write(string path, ulong seed, Split split, long? count, long? tokens)
    {
        DataSummary summary = DataWriter.Write(path, seed, split, count, tokens);
        Console.WriteLine($"{path}: {summary.SampleCount} samples, about {summary.TokenEstimate} tokens");
        long all = summary.Families.Values.Sum(family => family.Written);
        foreach ((string family, (long samples, long written)) in summary.Families.OrderByDescending(family => family.Value.Written))
            Console.WriteLine($"  {family}: {samples} samples, {100.0 * written / all:0.0} % of what the assistant writes");
    }
}
