using System.Globalization;
using Qian.Inference;
using Qian.Inference.Formats;
using Spectre.Console;

namespace Qian.Cli;

// What qian inspect says of an adapter: its configuration, and its ranks and scales by projection. No model is needed, so shapes
// are not checked against one.
internal static class AdapterListing
{
    public static void Print(string path, bool listTensors)
    {
        using AdapterFile file = AdapterFile.Open(path);
        var facts = new Table { Border = TableBorder.Simple, ShowHeaders = false };
        facts.AddColumns("", "");
        foreach ((string name, string value) in Facts(file))
            facts.AddRow(Markup.Escape(name), Markup.Escape(value));
        Terminal.Out.Write(facts);
        var table = new Table { Border = TableBorder.Simple, Title = new TableTitle("targets", Style.Plain) };
        table.AddColumns("projection", "layers", "rank", "alpha", "scale");
        foreach (Row row in Rows(file))
            table.AddRow(Markup.Escape(row.Module), row.Layers, row.Ranks, row.Alphas, row.Scales);
        Terminal.Out.Write(table);
        if (!listTensors)
            return;
        foreach (AdapterEntry entry in file.Entries)
        {
            foreach (TensorSource tensor in (ReadOnlySpan<TensorSource>)[entry.A, entry.B])
                Console.WriteLine($"{FileText.Quote(tensor.Name).Trim('\'')}  {TypeName(tensor)}  [{tensor.RowCount}, {tensor.ColumnCount}]");
        }
    }

    public static void PrintJson(string path, bool listTensors)
    {
        using AdapterFile file = AdapterFile.Open(path);
        JsonOutput.Print(new
        {
            path = file.Path,
            kind = "lora",
            format = file.IsGguf ? "gguf" : "peft",
            name = file.Name,
            base_model = file.BaseModel,
            architecture = file.Architecture,
            rslora = file.UsesRsLora,
            parameters = Parameters(file),
            vision_targets = file.VisionCount,
            targets = file.Entries.Select(entry => new
            {
                module = AdapterNames.ModuleSuffix(entry.Role),
                layer = entry.Layer is -1 or AdapterNames.MtpLayer ? (int?)null : entry.Layer,
                mtp = entry.Layer == AdapterNames.MtpLayer,
                rank = entry.Rank,
                alpha = entry.Alpha,
                scale = Scale(file, entry),
                input = entry.A.ColumnCount,
                output = entry.B.RowCount,
                type = listTensors ? TypeName(entry.A) : null,
            }),
        });
    }

    private static List<(string Name, string Value)> Facts(AdapterFile file)
    {
        var facts = new List<(string, string)>
        {
            ("LoRA adapter", Shown(file.Name)),
            ("format", file.IsGguf ? "GGUF, its order of the value heads" : "PEFT folder, Hugging Face order of the value heads"),
            ("trained on", file.BaseModel is { Length: > 0 } model ? Shown(model) : "not said"),
            ("scale", file.UsesRsLora ? "alpha / sqrt(rank) (rsLoRA)" : "alpha / rank"),
            ("projections", file.Entries.Count.ToString(CultureInfo.InvariantCulture)),
            ("parameters", Parameters(file).ToString("N0", CultureInfo.InvariantCulture)),
        };
        if (file.Architecture is { } architecture)
            facts.Insert(2, ("architecture", Shown(architecture)));
        if (file.VisionCount > 0)
            facts.Add(("vision projections", $"{file.VisionCount} (set aside)"));
        return facts;
    }

    private sealed record Row(string Module, string Layers, string Ranks, string Alphas, string Scales);

    private static IEnumerable<Row> Rows(AdapterFile file) =>
        file.Entries.GroupBy(entry => (entry.Role, IsMtp: entry.Layer == AdapterNames.MtpLayer)).OrderBy(group => group.Key).Select(group => new Row(
            (group.Key.IsMtp ? "mtp: " : "") + AdapterNames.ModuleSuffix(group.Key.Role),
            group.Key.IsMtp || group.Key.Role == TensorRole.Output ? "" : Layers([.. group.Select(entry => entry.Layer).Order()]),
            Distinct(group.Select(entry => (double)entry.Rank)),
            Distinct(group.Select(entry => entry.Alpha)),
            Distinct(group.Select(entry => Scale(file, entry)))));

    // "0-2, 4, 6-8"
    private static string Layers(int[] layers)
    {
        var ranges = new List<string>();
        for (int i = 0; i < layers.Length; i++)
        {
            int first = layers[i];
            while (i + 1 < layers.Length && layers[i + 1] == layers[i] + 1)
                i++;
            ranges.Add(first == layers[i] ? $"{first}" : $"{first}-{layers[i]}");
        }

        return string.Join(", ", ranges);
    }

    private static string Distinct(IEnumerable<double> values) => string.Join(", ", values.Distinct().Order().Select(value => value.ToString("0.####", CultureInfo.InvariantCulture)));

    private static double Scale(AdapterFile file, AdapterEntry entry) => file.UsesRsLora ? entry.Alpha / Math.Sqrt(entry.Rank) : entry.Alpha / entry.Rank;

    private static long Parameters(AdapterFile file) => file.Entries.Sum(entry => (long)entry.Rank * (entry.A.ColumnCount + entry.B.RowCount));

    private static string TypeName(TensorSource tensor) => Kernels.WeightFormat.Name(tensor.Type!.Value);

    // Text of the file, fit for a terminal.
    private static string Shown(string text) => FileText.Quote(text).Trim('\'');
}
