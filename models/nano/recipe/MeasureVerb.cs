using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Qian.Inference;
using Qian.Kernels;

namespace Qian.Nano;

// measure MODEL: every claim about nano on held-out items, with intervals; with --types the same after quantising.
internal static class MeasureVerb
{
    public static Command Create()
    {
        var model = new Argument<string>("MODEL") { Description = "Hugging Face folder or GGUF file" };
        var items = new Option<int>("--items") { Description = "Functions to ask for; half as many tool calls and JSON texts, a quarter as many repairs", DefaultValueFactory = _ => 200, HelpName = "N" };
        var seed = new Option<ulong>("--seed") { Description = "Same seed, same items", DefaultValueFactory = _ => 1, HelpName = "S" };
        var types = new Option<string?>("--types") { Description = "Also with all matrices as these types: Q8_0, Q4_K_M …", HelpName = "LIST" };
        var transcripts = new Option<string?>("--transcripts") { Description = "Append every repair there, a conversation a line (JSON)", HelpName = "FILE" };
        var json = new Option<bool>("--json") { Description = "Print the figures as JSON" };
        var command = new Command("measure", "Measure the model on held-out items") { model, items, seed, types, transcripts, json };
        command.SetAction(parsed =>
        {
            List<(string Name, WeightType? Type)> runs = [("as stored", null)];
            runs.AddRange((parsed.GetValue(types) ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(name => (name, (WeightType?)TypeOf(name))));
            var results = new List<(string Type, IReadOnlyList<Score> Scores)>();
            foreach ((string name, WeightType? type) in runs)
            {
                results.Add((name, Run(parsed.GetValue(model)!, type, parsed.GetValue(seed), parsed.GetValue(items), transcripts: parsed.GetValue(transcripts))));
                if (!parsed.GetValue(json))
                    Print(results[^1].Type, results[^1].Scores);
            }

            if (parsed.GetValue(json))
                Console.WriteLine(JsonSerializer.Serialize(results.Select(run => new { type = run.Type, scores = run.Scores.Select(Figures) })));
            return 0;
        });
        return command;
    }

    public static IReadOnlyList<Score> Run(string path, WeightType? type, ulong seed, int items, int mostTokens = int.MaxValue, string? transcripts = null)
    {
        using Engine engine = Engine.Load(path, new EngineOptions { LoadAs = type, ContextLength = 4096 });
        var speaker = new Speaker(engine, mostTokens);
        List<Score> scores = [.. AnswerMeasure.Functions(speaker, seed, items, out IReadOnlyList<Reply> replies)];
        scores.Add(AnswerMeasure.Calls(speaker, seed, Math.Max(1, items / 2)));
        scores.Add(RepairMeasure.Run(speaker, seed, Math.Max(1, items / 4), transcripts));
        scores.Add(AnswerMeasure.Json(speaker, seed, Math.Max(1, items / 2)));
        scores.AddRange(DraftMeasure.Run(path, type, replies));
        return scores;
    }

    // A mix has more bits than its basic type in some tensors: all matrices in the basic type are the harder test.
    private static WeightType TypeOf(string name)
    {
        string basic = name.EndsWith("_K_M", StringComparison.OrdinalIgnoreCase) || name.EndsWith("_K_S", StringComparison.OrdinalIgnoreCase) ? name[..^2] : name;
        return Enum.TryParse(basic, ignoreCase: true, out WeightType type) && WeightFormat.CanEncode(type)
            ? type
            : throw new BadRequestException($"--types {name}: expected types that can be written, such as Q8_0 or Q4_K_M");
    }

    private static void Print(string type, IReadOnlyList<Score> scores)
    {
        Console.WriteLine(type);
        foreach (Score score in scores)
        {
            (double low, double high) = score.Interval;
            string figures = score.Count == 0 ? "-" : string.Create(CultureInfo.InvariantCulture, $"{100 * score.Share,5:0.0} %  [{100 * low:0.0}, {100 * high:0.0}]  {score.Passed}/{score.Count}");
            Console.WriteLine($"  {score.Name,-48}{figures}{(score.Note.Length > 0 ? "  " + score.Note : "")}");
        }
    }

    private static object Figures(Score score) => new { name = score.Name, passed = score.Passed, count = score.Count, share = score.Share, low = score.Interval.Low, high = score.Interval.High, note = score.Note };
}
