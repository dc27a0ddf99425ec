using System.CommandLine;
using System.Globalization;

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
        var share = new Option<string[]>("--share") { Description = $"Weight of a family beside the others' (which stay at 0.58, 0.19, 0.07, 0.08, 0.08): {string.Join(", ", Mixture.Families)}", HelpName = "FAMILY=WEIGHT" };
        var command = new Command("data", "Generate the training data and the held-out data") { output, tokens, count, heldOut, seed, share };
        command.SetAction(parsed =>
        {
            if (Shares(parsed.GetValue(share) ?? []) is not { } shares)
            {
                Console.Error.WriteLine($"--share: expected one of {string.Join(", ", Mixture.Families)}, =, and a weight between 0 and 1, such as tools=0.4");
                return 2;
            }

            string folder = parsed.GetValue(output)!;
            Directory.CreateDirectory(folder);
            Write(Path.Combine(folder, "train.jsonl"), parsed.GetValue(seed), Split.Training, parsed.GetValue(count), parsed.GetValue(tokens), shares);
            Write(Path.Combine(folder, "heldout.jsonl"), parsed.GetValue(seed), Split.HeldOut, parsed.GetValue(heldOut), null, shares);
            return 0;
        });
        return command;
    }

    private static Dictionary<string, double>? Shares(string[] given)
    {
        var shares = new Dictionary<string, double>();
        foreach (string one in given)
        {
            string[] parts = one.Split('=');
            if (parts.Length != 2 || !Mixture.Families.Contains(parts[0]) || !double.TryParse(parts[1], NumberStyles.Float, CultureInfo.InvariantCulture, out double weight) || weight is not (> 0 and < 1))
                return null;
            shares[parts[0]] = weight;
        }

        return shares;
    }

    private static void Write(string path, ulong seed, Split split, long? count, long? tokens, IReadOnlyDictionary<string, double> shares)
    {
        DataSummary summary = DataWriter.Write(path, seed, split, count, tokens, shares);
        Console.WriteLine($"{path}: {summary.SampleCount} samples, about {summary.TokenEstimate} tokens");
        long all = summary.Families.Values.Sum(family => family.Written);
        foreach ((string family, (long samples, long written)) in summary.Families.OrderByDescending(family => family.Value.Written))
            Console.WriteLine($"  {family}: {samples} samples, {100.0 * written / all:0.0} % of what the assistant writes");
    }
}
