using System.Globalization;
using System.Net;
using System.Text;

namespace Qian.Weights;

// The report as one HTML page that needs nothing else: style inside, charts as SVG, no script, nothing fetched. Whatever comes from
// a model or a text is escaped.
internal static class QualityHtml
{
    private const int ChartWidth = 640, ChartHeight = 200, BinCount = 40;

    // `report`: of a text; `tools`: of tool prompts; at least one of them.
    public static string Write(QualityRequest request, QualityReport? report, ToolReport? tools)
    {
        string candidate = Name(request.CandidatePath!), reference = Name(report?.ReferenceName ?? request.ReferencePath!);
        var html = new StringBuilder();
        html.Append("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>").Append(Text($"{candidate} against {reference}")).Append("</title>\n<style>\n")
            .Append("body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}\n")
            .Append("table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .8rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}\n")
            .Append("td.n{text-align:right;font-variant-numeric:tabular-nums}.c{color:#777}mark{background:#ffe08a}pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:0;font-size:13px}svg{max-width:100%}\n")
            .Append("</style></head><body>\n");
        html.Append("<h1>").Append(Text(candidate)).Append("</h1>\n<p>against ").Append(Text(reference))
            .Append(CultureInfo.InvariantCulture, $"; candidate's keys and values in {Text(request.KvType.ToString().ToLowerInvariant())}{(request.AdapterPath is { } adapter ? $", with the adapter {Text(Name(adapter))}" : "")}.</p>\n");
        if (report is not null)
            AppendText(html, report);
        if (tools is not null)
            AppendTools(html, tools);
        return html.Append("<p class=\"c\">First line the reference, second the candidate. Intervals are 95 %.</p>\n</body></html>\n").ToString();
    }

    private static void AppendText(StringBuilder html, QualityReport report)
    {
        html.Append(CultureInfo.InvariantCulture, $"<h2>On a text</h2>\n<p class=\"c\">{report.ScoredCount} tokens in {report.PieceCount} pieces of {report.PieceTokens}, the second half of each scored; exact arithmetic: {report.Exact}</p>\n");
        AppendRows(html, QualityTable.Rows(report));
        html.Append("<h2>Divergence per token</h2>\n<p class=\"c\">nats, logarithmic; tokens below 1e-7 stand in the first bar; heights are square roots of counts</p>\n");
        AppendHistogram(html, [.. report.Scores.Select(score => Math.Log10(Math.Max(1e-7, score.Divergence)))], -7, 2, value => $"1e{value:0}", 9);
        html.Append("<h2>Probability of the token that came</h2>\n<p class=\"c\">candidate minus reference; heights are square roots of counts</p>\n");
        AppendHistogram(html, [.. report.Scores.Select(score => score.ProbabilityDifference)], -1, 1, value => value.ToString("0.0", CultureInfo.InvariantCulture), 4);
        html.Append("<h2>Where they differ most</h2>\n<table><tr><th>divergence</th><th>text, and the token that came</th><th>its probability</th><th>favourites</th></tr>\n");
        foreach (WorstToken worst in report.Worst)
        {
            html.Append(CultureInfo.InvariantCulture, $"<tr><td class=\"n\">{worst.Divergence:0.000}</td><td><pre>{Text(worst.Context)}<mark>{Text(worst.Token)}</mark></pre></td>")
                .Append(CultureInfo.InvariantCulture, $"<td class=\"n\">{worst.ReferenceProbability:0.0000}<br>{worst.CandidateProbability:0.0000}</td>")
                .Append(CultureInfo.InvariantCulture, $"<td><pre>{Text(worst.ReferenceTop)} {worst.ReferenceTopProbability:0.000}\n{Text(worst.CandidateTop)} {worst.CandidateTopProbability:0.000}</pre></td></tr>\n");
        }

        html.Append("</table>\n");
    }

    private static void AppendTools(StringBuilder html, ToolReport tools)
    {
        html.Append(CultureInfo.InvariantCulture, $"<h2>With tools</h2>\n<p class=\"c\">{tools.PromptCount} prompts, greedy, without thinking or grammar; p: chance of so uneven a split if neither were better</p>\n");
        AppendRows(html, tools.Rows());
        if (tools.Differences.Count == 0)
            return;
        html.Append("<table><tr><th>prompt</th><th>asked</th><th>replies</th></tr>\n");
        foreach (ToolDifference difference in tools.Differences)
        {
            html.Append(CultureInfo.InvariantCulture, $"<tr><td class=\"n\">{difference.Number}</td><td><pre>{Text(difference.Asked)}</pre></td>")
                .Append("<td><pre>").Append(Text(difference.Reference)).Append("</pre><hr><pre>").Append(Text(difference.Candidate)).Append("</pre></td></tr>\n");
        }

        html.Append("</table>\n");
    }

    private static void AppendRows(StringBuilder html, IEnumerable<(string Name, string Value, string Range)> rows)
    {
        html.Append("<table>\n");
        foreach ((string name, string value, string range) in rows)
            html.Append("<tr><td>").Append(Text(name)).Append("</td><td class=\"n\">").Append(Text(value)).Append("</td><td class=\"c\">").Append(Text(range)).Append("</td></tr>\n");
        html.Append("</table>\n");
    }

    // Values outside the range stand in its end bars; heights are square roots, so that few tokens can be seen beside many.
    private static void AppendHistogram(StringBuilder html, double[] values, double least, double most, Func<double, string> label, int labelCount)
    {
        var counts = new int[BinCount];
        foreach (double value in values)
            counts[(int)Math.Clamp((value - least) / (most - least) * BinCount, 0, BinCount - 1)]++;
        double scale = (ChartHeight - 20) / Math.Sqrt(Math.Max(1, counts.Max())), bar = (double)ChartWidth / BinCount;
        html.Append(CultureInfo.InvariantCulture, $"<svg viewBox=\"0 0 {ChartWidth} {ChartHeight + 20}\" width=\"{ChartWidth}\" role=\"img\">\n");
        for (int i = 0; i < BinCount; i++)
        {
            double height = Math.Sqrt(counts[i]) * scale;
            html.Append(CultureInfo.InvariantCulture, $"<rect x=\"{i * bar:0.#}\" y=\"{ChartHeight - height:0.#}\" width=\"{bar - 1:0.#}\" height=\"{height:0.#}\" fill=\"#4477aa\"><title>{counts[i]}</title></rect>\n");
        }

        for (int i = 0; i <= labelCount; i++)
        {
            double share = (double)i / labelCount;
            string anchor = i == 0 ? "start" : i == labelCount ? "end" : "middle";
            html.Append(CultureInfo.InvariantCulture, $"<text x=\"{share * ChartWidth:0.#}\" y=\"{ChartHeight + 16}\" font-size=\"12\" fill=\"#777\" text-anchor=\"{anchor}\">{Text(label(least + share * (most - least)))}</text>\n");
        }

        html.Append("</svg>\n");
    }

    private static string Name(string path) => Path.GetFileName(Path.TrimEndingDirectorySeparator(path));

    private static string Text(string text) => WebUtility.HtmlEncode(text);
}
