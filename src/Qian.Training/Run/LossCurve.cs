using System.Globalization;
using System.Text;
using Qian.Inference.Formats;

namespace Qian.Training.Run;

// The losses of a run over its tokens, as plain SVG: training loss as a faint line per step and a smoothed one, MTP loss
// smoothed, held-out loss as points. Long runs are thinned to the width of the plot, so that the file stays small.
internal static class LossCurve
{
    private const int Width = 860, Height = 420, Left = 60, Right = 20, Top = 44, Bottom = 48;
    private const int MostPoints = 800;
    private const string TrainColour = "#3b6ea5", MtpColour = "#8a6fb0", HeldOutColour = "#c77b30", WatchedColour = "#4b8b57";

    public static string Svg(string title, IReadOnlyList<LogEntry> entries)
    {
        var svg = new StringBuilder();
        Line(svg, $"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{Width}\" height=\"{Height}\" viewBox=\"0 0 {Width} {Height}\" font-family=\"sans-serif\" font-size=\"12\">");
        Line(svg, $"<rect width=\"{Width}\" height=\"{Height}\" fill=\"#ffffff\"/>");
        Line(svg, $"<text x=\"{Left}\" y=\"22\" font-size=\"15\">{Escape(title)}</text>");
        if (entries.Any(entry => entry.Loss is not null))
            Plot(svg, entries);
        svg.Append("</svg>\n");
        return svg.ToString();
    }

    public static void Write(string path, string title, IReadOnlyList<LogEntry> entries)
    {
        using var file = new PartialFile(path);
        file.Write(Encoding.UTF8.GetBytes(Svg(title, entries)));
        file.Commit();
    }

    private static void Plot(StringBuilder svg, IReadOnlyList<LogEntry> entries)
    {
        (double X, double Y)[] train = [.. entries.Where(entry => entry.Loss is not null).Select(entry => ((double)entry.TokenCount, entry.Loss!.Value))];
        (double X, double Y)[] mtp = [.. entries.Where(entry => entry.MtpLoss is not null).Select(entry => ((double)entry.TokenCount, entry.MtpLoss!.Value))];
        (double X, double Y)[] heldOut = [.. entries.Where(entry => entry.HeldOutLoss is not null).Select(entry => ((double)entry.TokenCount, entry.HeldOutLoss!.Value))];
        (double X, double Y)[] watched = [.. entries.Where(entry => entry.WatchedLoss is not null).Select(entry => ((double)entry.TokenCount, entry.WatchedLoss!.Value))];
        double lastTokens = Math.Max(1, train[^1].X);
        double most = train.Concat(mtp).Concat(heldOut).Concat(watched).Max(point => point.Y), least = Math.Min(0, train.Min(point => point.Y));
        double yStep = TickStep(most - least), top = Math.Max(yStep, Math.Ceiling(most / yStep) * yStep);
        var scale = new Scale(lastTokens, least, top);
        Axes(svg, scale, yStep);
        Curve(svg, scale, Thinned(train), TrainColour, "0.35", 1);
        Curve(svg, scale, Thinned(Smoothed(train)), TrainColour, "1", 2);
        Curve(svg, scale, Thinned(Smoothed(mtp)), MtpColour, "1", 1.5);
        Measured(svg, scale, heldOut, HeldOutColour);
        Measured(svg, scale, watched, WatchedColour);
        int at = Left + 330;
        Legend(svg, ref at, TrainColour, FormattableString.Invariant($"training loss {Smoothed(train)[^1].Y:0.000}"));
        if (mtp.Length > 0)
            Legend(svg, ref at, MtpColour, FormattableString.Invariant($"MTP loss {Smoothed(mtp)[^1].Y:0.000}"));
        if (heldOut.Length > 0)
            Legend(svg, ref at, HeldOutColour, FormattableString.Invariant($"held-out loss {heldOut[^1].Y:0.000}"));
        if (watched.Length > 0)
            Legend(svg, ref at, WatchedColour, FormattableString.Invariant($"watched loss {watched[^1].Y:0.000}"));
    }

    // A curve through few points, each of them shown.
    private static void Measured(StringBuilder svg, Scale scale, (double X, double Y)[] points, string colour)
    {
        Curve(svg, scale, Thinned(points), colour, "1", 1.5);
        foreach ((double x, double y) in Thinned(points))
            Line(svg, $"<circle cx=\"{scale.X(x):0.#}\" cy=\"{scale.Y(y):0.#}\" r=\"3\" fill=\"{colour}\"/>");
    }

    private static void Axes(StringBuilder svg, Scale scale, double yStep)
    {
        for (double y = Math.Ceiling(scale.Least / yStep) * yStep; y <= scale.Top + yStep / 2; y += yStep)
        {
            Line(svg, $"<line x1=\"{Left}\" y1=\"{scale.Y(y):0.#}\" x2=\"{Width - Right}\" y2=\"{scale.Y(y):0.#}\" stroke=\"#e4e4e4\"/>");
            Line(svg, $"<text x=\"{Left - 8}\" y=\"{scale.Y(y) + 4:0.#}\" text-anchor=\"end\" fill=\"#555555\">{y:0.###}</text>");
        }

        double xStep = TickStep(scale.LastTokens);
        for (double x = 0; x <= scale.LastTokens; x += xStep)
            Line(svg, $"<text x=\"{scale.X(x):0.#}\" y=\"{Height - Bottom + 18}\" text-anchor=\"middle\" fill=\"#555555\">{Tokens(x)}</text>");
        Line(svg, $"<text x=\"{(Left + Width - Right) / 2}\" y=\"{Height - 10}\" text-anchor=\"middle\" fill=\"#555555\">tokens</text>");
    }

    private static void Curve(StringBuilder svg, Scale scale, IReadOnlyList<(double X, double Y)> points, string colour, string opacity, double width)
    {
        if (points.Count < 2)
            return;
        svg.Append("<polyline fill=\"none\" points=\"");
        foreach ((double x, double y) in points)
            svg.Append(CultureInfo.InvariantCulture, $"{scale.X(x):0.#},{scale.Y(y):0.#} ");
        Line(svg, $"\" stroke=\"{colour}\" stroke-opacity=\"{opacity}\" stroke-width=\"{width:0.#}\"/>");
    }

    private static void Legend(StringBuilder svg, ref int at, string colour, string text)
    {
        Line(svg, $"<rect x=\"{at}\" y=\"14\" width=\"12\" height=\"8\" fill=\"{colour}\"/><text x=\"{at + 16}\" y=\"22\">{text}</text>");
        at += 165;
    }

    // A running mean that forgets with the square root of the run's length.
    private static (double X, double Y)[] Smoothed((double X, double Y)[] points)
    {
        double share = 1 / Math.Max(1, Math.Sqrt(points.Length) / 2), mean = points.Length > 0 ? points[0].Y : 0;
        var smooth = new (double X, double Y)[points.Length];
        for (int i = 0; i < points.Length; i++)
            smooth[i] = (points[i].X, mean += share * (points[i].Y - mean));
        return smooth;
    }

    // At most so many points: means of equal pieces, the last point kept as it is.
    private static (double X, double Y)[] Thinned((double X, double Y)[] points)
    {
        if (points.Length <= MostPoints)
            return points;
        var thin = new (double X, double Y)[MostPoints];
        for (int i = 0; i < MostPoints; i++)
        {
            int first = (int)((long)i * points.Length / MostPoints), end = (int)((i + 1L) * points.Length / MostPoints);
            double sum = 0;
            for (int j = first; j < end; j++)
                sum += points[j].Y;
            thin[i] = (points[end - 1].X, sum / (end - first));
        }

        thin[^1] = points[^1];
        return thin;
    }

    // 1, 2 or 5 times a power of ten, so that about six ticks cover the range.
    private static double TickStep(double range)
    {
        double rough = Math.Max(range, 1e-6) / 6, power = Math.Pow(10, Math.Floor(Math.Log10(rough))), lead = rough / power;
        return power * (lead > 5 ? 10 : lead > 2 ? 5 : lead > 1 ? 2 : 1);
    }

    private static string Tokens(double count) => count switch
    {
        >= 1e6 => FormattableString.Invariant($"{count / 1e6:0.##} M"),
        >= 1e3 => FormattableString.Invariant($"{count / 1e3:0.##} k"),
        _ => FormattableString.Invariant($"{count:0}"),
    };

    private static void Line(StringBuilder svg, FormattableString line) => svg.Append(line.ToString(CultureInfo.InvariantCulture)).Append('\n');

    private static string Escape(string text) => System.Security.SecurityElement.Escape(new string([.. text.Where(c => !char.IsControl(c) && !char.IsSurrogate(c))]));

    private readonly record struct Scale(double LastTokens, double Least, double Top)
    {
        public double X(double tokens) => Left + (Width - Left - Right) * tokens / LastTokens;

        public double Y(double loss) => LossCurve.Top + PlotHeight * (1 - (loss - Least) / (Top - Least));

        private static double PlotHeight => Height - LossCurve.Top - Bottom;
    }
}
