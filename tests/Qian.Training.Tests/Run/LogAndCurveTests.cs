using System.Xml.Linq;
using Qian.Training.Run;

namespace Qian.Training.Tests.Run;

public sealed class LogAndCurveTests : IDisposable
{
    private readonly TempFolder _folder = new();

    private string LogPath => Path.Combine(_folder.Path, "log.csv");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void TheLogIsALineAStepAndReadsBack()
    {
        LogEntry[] entries = [new(0, 0, null, null, 5.5, 0, 0, 0), new(1, 512, 5.25, 5.75, null, 1e-4, 2.5, 1000.5), new(2, 1024, 4.125, null, 4.5, 2e-4, 1.5, 1001, 3.5)];
        using (TrainingLog log = TrainingLog.Open(LogPath, 0))
        {
            foreach (LogEntry entry in entries)
                log.Append(entry);
        }

        Assert.Equal(
            "step,tokens,loss,mtp_loss,held_out_loss,learning_rate,gradient_norm,tokens_per_second,watched_loss\n0,0,,,5.5,0,0,0.0,\n1,512,5.25,5.75,,0.0001,2.5,1000.5,\n2,1024,4.125,,4.5,0.0002,1.5,1001.0,3.5\n",
            File.ReadAllText(LogPath));
        Assert.Equal(entries, TrainingLog.Read(LogPath));
    }

    // Steps after the state are taken again, and a line torn by a kill is dropped.
    [Fact]
    public void AResumedLogForgetsWhatLiesBeyondItsState()
    {
        using (TrainingLog log = TrainingLog.Open(LogPath, 0))
        {
            for (int step = 1; step <= 5; step++)
                log.Append(new LogEntry(step, step * 10, 5 - step * 0.5, null, null, 1e-3, 1, 100));
        }

        File.AppendAllText(LogPath, "6,60,2.0,");
        using (TrainingLog log = TrainingLog.Open(LogPath, 3))
        {
            Assert.Equal([1, 2, 3], log.Entries.Select(entry => entry.Step));
            log.Append(new LogEntry(4, 40, 1, null, null, 1e-3, 1, 100));
        }

        Assert.Equal([1, 2, 3, 4], TrainingLog.Read(LogPath).Select(entry => entry.Step));
        Assert.Equal(1, TrainingLog.Read(LogPath)[^1].Loss);
    }

    [Fact]
    public void TheCurveHoldsEveryLossAndNamesTheLast()
    {
        LogEntry[] entries = [.. Enumerable.Range(0, 50).Select(step => new LogEntry(step, step * 1000, step == 0 ? null : 5 - step * 0.05, step == 0 ? null : 6 - step * 0.05, step % 10 == 0 ? 5.5 - step * 0.05 : null, 1e-3, 1, 100))];
        string path = Path.Combine(_folder.Path, "loss.svg");
        LossCurve.Write(path, "a <run> & its \"name\"", entries);
        XElement svg = XDocument.Load(path).Root!;
        Assert.Equal("svg", svg.Name.LocalName);
        string[] texts = [.. svg.Descendants().Where(element => element.Name.LocalName == "text").Select(element => element.Value)];
        Assert.Contains("a <run> & its \"name\"", texts);
        Assert.Contains("held-out loss 3.500", texts);
        Assert.Contains(texts, text => text.StartsWith("MTP loss 3.6", StringComparison.Ordinal));
        Assert.Contains("40 k", texts);
        Assert.Equal(5, svg.Descendants().Count(element => element.Name.LocalName == "circle"));
        Assert.Equal(4, svg.Descendants().Count(element => element.Name.LocalName == "polyline"));
        Assert.DoesNotContain("NaN", File.ReadAllText(path), StringComparison.Ordinal);
        Assert.False(File.Exists(path + ".part"));
    }

    [Fact]
    public void ALongRunMakesASmallCurve()
    {
        LogEntry[] entries = [.. Enumerable.Range(1, 100_000).Select(step => new LogEntry(step, step * 1000L, 3 + Math.Sin(step), null, null, 1e-3, 1, 100))];
        string svg = LossCurve.Svg("long", entries);
        Assert.InRange(svg.Length, 1000, 60_000);
        XDocument.Parse(svg);
    }

    [Fact]
    public void ARunWithoutALossYetHasAnEmptyCurve()
    {
        Assert.Equal("svg", XDocument.Parse(LossCurve.Svg("none", [])).Root!.Name.LocalName);
        Assert.Equal("svg", XDocument.Parse(LossCurve.Svg("none", [new LogEntry(0, 0, null, null, 5, 0, 0, 0)])).Root!.Name.LocalName);
    }
}
