using System.Xml.Linq;
using Qian.Inference.Measurement;

namespace Qian.Inference.Tests.Measurement;

public sealed class BenchChartTests
{
    [Theory]
    [InlineData("plain.gguf")]
    [InlineData("<a & \"b\">\u0001'.gguf")]
    public void TheChartIsWellFormedAndShowsEveryPoint(string name)
    {
        XElement svg = XDocument.Parse(BenchChart.Svg(Report(name))).Root!;
        string[] texts = [.. svg.Elements().Where(e => e.Name.LocalName == "text").Select(e => e.Value)];
        Assert.Contains(texts, text => text.StartsWith(name.Replace("\u0001", "", StringComparison.Ordinal), StringComparison.Ordinal));
        Assert.Contains("decode at 0", texts);
        Assert.Contains("prefill 128", texts);
        Assert.Contains("50.0 %, 2.00 tokens/s", texts);
        // 420 units are the whole ceiling: 15 of 30 GB/s is half of them, and 50 of 400 GMAC/s an eighth.
        string[] widths = [.. svg.Elements().Where(e => e.Name.LocalName == "rect" && (string?)e.Attribute("x") == "190").Select(e => e.Attribute("width")!.Value)];
        Assert.Equal(["210", "52.5", "42", "105"], widths);
    }

    [Fact]
    public void AReportWithoutPointsIsStillAChart() => Assert.NotNull(XDocument.Parse(BenchChart.Svg(Report("x") with { Points = [] })).Root);

    private static BenchReport Report(string model) => new()
    {
        Model = model,
        ThreadCount = 2,
        LoadSeconds = 1,
        LoadedBytes = 1,
        ReadBufferBytes = 1,
        Ceilings = new BenchCeilings(30, 400, "a", 100, "b"),
        UsesInt8 = true,
        Points = [Point(BenchKind.Decode, 1, 15, 50), Point(BenchKind.Prefill, 128, 3, 100)],
        LeftOut = [],
        NativeBytes = 1,
        PeakBytes = 1,
    };

    private static BenchPoint Point(BenchKind kind, int rows, double gigabytes, double gmacs) => new()
    {
        Kind = kind,
        Depth = 0,
        Rows = rows,
        SampleCount = 1,
        TokensPerSecond = 2,
        MillisecondsPerPass = 500,
        GigabytesPerSecond = gigabytes,
        GmacsPerSecond = gmacs,
        ReadCeiling = 30,
        ProductCeiling = 400,
        ForeignShare = null,
        IsDisturbed = false,
        AllocatedBytesPerToken = 0,
    };
}
