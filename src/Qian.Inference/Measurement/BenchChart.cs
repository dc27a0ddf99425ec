using System.Globalization;
using System.Security;
using System.Text;
using Qian.Inference.Formats;

namespace Qian.Inference.Measurement;

// The report as a bar chart: per point the share of the ceiling that bounds it (the read speed for decode, the products for
// prefill) as a full bar and of the other one as a thin one. Plain SVG without scripts or fonts of its own.
internal static class BenchChart
{
    private const int LabelWidth = 190, PlotWidth = 420, FigureWidth = 230, RowHeight = 30, Top = 70, Bottom = 46;

    public static string Svg(BenchReport report)
    {
        int height = Top + report.Points.Count * RowHeight + Bottom, width = LabelWidth + PlotWidth + FigureWidth;
        double most = Math.Max(1, report.Points.Select(point => Math.Max(point.ReadShare, point.ProductShare)).DefaultIfEmpty(1).Max());
        var svg = new StringBuilder();
        Line(svg, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">");
        Line(svg, $"<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>");
        Line(svg, $"<text x=\"12\" y=\"24\" font-size=\"16\">{Escape(Path.GetFileName(Path.TrimEndingDirectorySeparator(report.Model)))}: share of the machine's ceilings</text>");
        string products = report.UsesInt8
            ? FormattableString.Invariant($"8-bit products {report.Ceilings.Int8GmacsPerSecond:0} GMAC/s")
            : FormattableString.Invariant($"float32 products {report.Ceilings.Float32GmacsPerSecond:0} GMAC/s");
        Line(svg, $"<text x=\"12\" y=\"46\" fill=\"#555555\">{report.ThreadCount} threads; reading {report.Ceilings.ReadGigabytesPerSecond:0.0} GB/s, {products}</text>");
        for (int percent = 0; percent <= 100; percent += 25)
        {
            double x = LabelWidth + PlotWidth * percent / 100.0 / most;
            Line(svg, $"<line x1=\"{x:0.#}\" y1=\"{Top - 8}\" x2=\"{x:0.#}\" y2=\"{height - Bottom}\" stroke=\"{(percent == 100 ? "#333333" : "#dddddd")}\"/>");
            Line(svg, $"<text x=\"{x:0.#}\" y=\"{height - Bottom + 16}\" text-anchor=\"middle\" fill=\"#555555\">{percent} %</text>");
        }

        for (int i = 0; i < report.Points.Count; i++)
            Row(svg, report.Points[i], Top + i * RowHeight, most);
        Line(svg, $"<rect x=\"12\" y=\"{height - 16}\" width=\"12\" height=\"8\" fill=\"#3b6ea5\"/><text x=\"28\" y=\"{height - 8}\" font-size=\"11\">of the read speed</text>");
        Line(svg, $"<rect x=\"140\" y=\"{height - 16}\" width=\"12\" height=\"8\" fill=\"#c77b30\"/><text x=\"156\" y=\"{height - 8}\" font-size=\"11\">of the products</text>");
        svg.Append("</svg>\n");
        return svg.ToString();
    }

    // Completes the file under its name only when all of it is written.
    public static void Write(BenchReport report, PartialFile file)
    {
        file.Write(Encoding.UTF8.GetBytes(Svg(report)));
        file.Commit();
    }

    private static void Row(StringBuilder svg, BenchPoint point, int y, double most)
    {
        bool boundByReading = point.Kind != BenchKind.Prefill;
        const int full = 14, thin = 5;
        int readHeight = boundByReading ? full : thin, productHeight = boundByReading ? thin : full;
        Line(svg, $"<text x=\"{LabelWidth - 8}\" y=\"{y + 14}\" text-anchor=\"end\">{Escape(point.Name)}</text>");
        Line(svg, $"<rect x=\"{LabelWidth}\" y=\"{y}\" width=\"{PlotWidth * point.ReadShare / most:0.#}\" height=\"{readHeight}\" fill=\"#3b6ea5\"/>");
        Line(svg, $"<rect x=\"{LabelWidth}\" y=\"{y + readHeight + 1}\" width=\"{PlotWidth * point.ProductShare / most:0.#}\" height=\"{productHeight}\" fill=\"#c77b30\"/>");
        double share = boundByReading ? point.ReadShare : point.ProductShare;
        Line(svg, $"<text x=\"{LabelWidth + PlotWidth + 10}\" y=\"{y + 14}\">{100 * share:0.0} %, {point.TokensPerSecond:0.00} tokens/s</text>");
    }

    private static void Line(StringBuilder svg, FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');

    private static string Escape(string text) => SecurityElement.Escape(new string([.. text.Where(c => !char.IsControl(c) && !char.IsSurrogate(c))]));
}
