using System.Text.Json;
using System.Xml.Linq;
using Qian.Inference.Formats;
using Qian.Inference.Tests;
using Qian.Kernels;

namespace Qian.Cli.Tests;

// qian bench on the tiny model: everything is there and possible. No figure is expected to be fast or slow. Each test has a
// folder for temporary files of its own, since the lock of a real benchmark lies in the common one.
public sealed class BenchTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("qian-bench-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task EveryPointHasPossibleFigures()
    {
        string chart = Path.Combine(_folder, "chart.svg");
        CliResult result = await Bench("--json", "--svg", chart, "--depth", "0", "200", "--batch", "1", "3", "--prefill", "70");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        using JsonDocument json = JsonDocument.Parse(result.Out);
        JsonElement root = json.RootElement;
        foreach (string name in (string[])["read_gb_per_s", "int8_gmac_per_s", "float32_gmac_per_s"])
            Assert.True(root.GetProperty("ceilings").GetProperty(name).GetDouble() > 0, name);
        Assert.True(root.GetProperty("load").GetProperty("seconds").GetDouble() > 0);
        Assert.Equal("float32", root.GetProperty("products").GetString());
        JsonElement[] points = [.. root.GetProperty("points").EnumerateArray()];
        Assert.Equal(["decode at 0", "decode at 200", "decode at 0, batch 3", "prefill 70"], points.Select(point => point.GetProperty("name").GetString()));
        foreach (JsonElement point in points)
        {
            foreach (string name in (string[])["samples", "tokens_per_s", "ms_per_pass", "gb_per_s", "gmac_per_s", "read_ceiling_gb_per_s", "product_ceiling_gmac_per_s"])
                Assert.True(point.GetProperty(name).GetDouble() > 0, $"{point}: {name}");
            foreach (string name in (string[])["read_share", "product_share"])
                Assert.True(point.GetProperty(name).GetDouble() is > 0 and <= 1.5, $"{point}: {name}");
            Assert.Equal(point.GetProperty("rows").GetInt32() * 1000.0, point.GetProperty("tokens_per_s").GetDouble() * point.GetProperty("ms_per_pass").GetDouble(), 1e-6 * 70000);
        }

        Assert.Empty(root.GetProperty("left_out").EnumerateArray());
        Assert.Equal("svg", XDocument.Load(chart).Root!.Name.LocalName);
        Assert.False(File.Exists(chart + ".part"));
    }

    [Fact]
    public async Task TheTableNamesWhatIsLeftOut()
    {
        CliResult result = await Bench("--context", "100", "--depth", "0", "90", "--batch", "1", "--prefill", "64", "101");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Contains(result.OutLines, line => line.Contains("decode at 0 ", StringComparison.Ordinal));
        Assert.Contains(result.OutLines, line => line.StartsWith("left out: decode at 90: a context of 100 tokens", StringComparison.Ordinal));
        Assert.Contains(result.OutLines, line => line.StartsWith("left out: prefill 101: ", StringComparison.Ordinal));
        Assert.Contains(result.OutLines, line => line.StartsWith("ceilings, ", StringComparison.Ordinal));
    }

    [Fact]
    public async Task WhatTheBudgetDoesNotAllowIsLeftOut()
    {
        CliResult result = await Bench("--json", "--budget", "0.001");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        using JsonDocument json = JsonDocument.Parse(result.Out);
        Assert.Empty(json.RootElement.GetProperty("points").EnumerateArray());
        JsonElement[] leftOut = [.. json.RootElement.GetProperty("left_out").EnumerateArray()];
        Assert.Equal(4, leftOut.Length);
        Assert.All(leftOut, line => Assert.Contains("--budget", line.GetString(), StringComparison.Ordinal));
    }

    [Fact]
    public async Task DraftsAreMeasuredWhereTheModelHasAHead()
    {
        CliResult result = await CliProcess.RunWith(null, ("TMPDIR", _folder), ["bench", "-m", GoldenFolders.MtpTiny, "--quick", "--json", "--depth", "0", "--batch", "1", "--prefill", "0", "--drafts", "1", "3"]);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        using JsonDocument json = JsonDocument.Parse(result.Out);
        JsonElement[] points = [.. json.RootElement.GetProperty("points").EnumerateArray()];
        Assert.Equal(["decode at 0", "decode at 64, drafts 1", "decode at 64, drafts 3"], points.Select(point => point.GetProperty("name").GetString()));
        // 1 + 0.8 + 0.8 x 0.7 + 0.8 x 0.7 x 0.6 tokens per pass.
        Assert.Equal(2.696, points[2].GetProperty("tokens_per_s").GetDouble() * points[2].GetProperty("ms_per_pass").GetDouble() / 1000, 1e-6);
        Assert.True(points[2].GetProperty("gmac_per_s").GetDouble() > 0);
    }

    [Fact]
    public async Task AnAdapterIsMeasuredWithTheModel()
    {
        string peft = Path.Combine(_folder, "peft");
        using (Checkpoint checkpoint = Checkpoint.Open(GoldenFolders.TextDenseTiny))
            PeftWriter.Write(AdapterSamples.Random(checkpoint.Config, 1, alpha: 32, usesRsLora: true), checkpoint.Config, peft);
        CliResult result = await Bench("--json", "--depth", "0", "--batch", "1", "--prefill", "0", "--adapter", peft);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        using JsonDocument json = JsonDocument.Parse(result.Out);
        Assert.Equal("peft", json.RootElement.GetProperty("adapter").GetString());
        Assert.Equal(1, json.RootElement.GetProperty("points").GetArrayLength());
        Assert.Equal(3, (await Bench("--adapter", Path.Combine(_folder, "none"))).ExitCode);
    }

    [Fact]
    public async Task APackedCacheIsWrittenOnceAndThenMapped()
    {
        string[] few = ["--json", "--depth", "0", "--batch", "1", "--prefill", "0", "--load-as", "q8_0", "--packed-cache", Path.Combine(_folder, "cache")];
        for (int i = 0; i < 2; i++)
        {
            CliResult result = await Bench(few);
            Assert.Equal((0, ""), (result.ExitCode, result.Error));
            using JsonDocument json = JsonDocument.Parse(result.Out);
            Assert.Equal(i == 1, json.RootElement.GetProperty("load").GetProperty("mapped").GetBoolean());
        }
    }

    [Fact]
    public async Task KernelsAreMeasuredForEveryTypeAndTier()
    {
        CliResult result = await CliProcess.RunWith(null, ("TMPDIR", _folder), ["bench", "--kernels", "--quick", "--json", "-t", "1"]);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        using JsonDocument json = JsonDocument.Parse(result.Out);
        JsonElement[] products = [.. json.RootElement.GetProperty("products").EnumerateArray()];
        // One row on the scalar tier, five counts of rows on the others.
        Assert.Equal(ProductTimings.Types.Count * (1 + 5 * (IsaTier.Offered.Count - 1)), products.Length);
        Assert.All(products, product => Assert.True(product.GetProperty("gb_per_s").GetDouble() > 0 && product.GetProperty("gmac_per_s").GetDouble() > 0));
        Assert.Contains(products, product => product.GetProperty("type").GetString() == "Q4_K");
        // Attention over two types of cache, the delta rule in two forms, convolution, norms and SwiGLU.
        JsonElement[] operations = [.. json.RootElement.GetProperty("operations").EnumerateArray()];
        Assert.Equal(11 * IsaTier.Available.Count, operations.Length);
        Assert.All(operations, operation => Assert.True(operation.GetProperty("gb_per_s").GetDouble() > 0 && operation.GetProperty("gmac_per_s").GetDouble() > 0));
    }

    [Theory]
    [InlineData("--drafts", "4")]
    [InlineData("--depth", "-1")]
    [InlineData("--batch", "65")]
    [InlineData("--prefill", "-5")]
    [InlineData("--budget", "0")]
    public async Task ImpossibleRequestsAreRefused(string flag, string value)
    {
        string chart = Path.Combine(_folder, "chart.svg");
        CliResult result = await Bench(flag, value, "--svg", chart);
        Assert.Equal((2, ""), (result.ExitCode, result.Out));
        Assert.Contains(flag, result.Error, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(_folder, "chart*"));
    }

    [Fact]
    public async Task AChartThatCannotBeWrittenIsToldAtOnce()
    {
        CliResult result = await Bench("--svg", Path.Combine(_folder, "missing", "chart.svg"));
        Assert.Equal((1, ""), (result.ExitCode, result.Out));
    }

    // With time for everything, unless the test says otherwise.
    private Task<CliResult> Bench(params string[] arguments) =>
        CliProcess.RunWith(null, ("TMPDIR", _folder), ["bench", "-m", GoldenFolders.TextDenseTiny, "--quick", .. arguments.Contains("--budget") ? (string[])[] : ["--budget", "100000"], .. arguments]);
}
