using System.Text.Json;

namespace Qian.Cli.Tests;

public sealed class PlanTests
{
    [Fact]
    public async Task AShapeIsPlannedWithoutAFile()
    {
        CliResult text = await CliProcess.Run("plan", "27b", "--machine", "rtx-4090"), json = await CliProcess.Run("plan", "27b", "--machine", "rtx-4090", "--json");
        Assert.Equal((0, 0), (text.ExitCode, json.ExitCode));
        Assert.Contains(text.OutLines, line => line.StartsWith("fits, with room for", StringComparison.Ordinal));
        Assert.Contains(text.OutLines, line => line.TrimStart().StartsWith("Q2_K", StringComparison.Ordinal) && line.Contains("/s", StringComparison.Ordinal));
        using JsonDocument plan = JsonDocument.Parse(json.Out);
        JsonElement root = plan.RootElement;
        Assert.True(root.GetProperty("fits").GetBoolean());
        Assert.Equal(32768L * 65536, root.GetProperty("bytes").GetProperty("keys_and_values").GetInt64());
        Assert.Equal(root.GetProperty("total_bytes").GetInt64(), root.GetProperty("bytes").EnumerateObject().Sum(row => row.Value.GetInt64()));
        Assert.Equal(8 * 4, root.GetProperty("table").GetArrayLength());
    }

    [Fact]
    public async Task WhatDoesNotFitSaysWhatWould()
    {
        CliResult result = await CliProcess.Run("plan", "27b", "--machine", "rtx-4090", "--context", "200000");
        Assert.Equal(0, result.ExitCode);
        Assert.Contains(result.OutLines, line => line.StartsWith("does not fit", StringComparison.Ordinal) && line.Contains("--kv q8_0", StringComparison.Ordinal));
    }

    [Fact]
    public async Task TheEmbeddedModelIsPlannedToo()
    {
        CliResult result = await CliProcess.Run("plan", "--machine", "desktop-ddr4-32", "--parallel", "2");
        Assert.Equal(0, result.ExitCode);
        Assert.StartsWith("nano on Desktop PC", result.OutLines[0], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--machine", "no-such-machine")]
    [InlineData("--parallel", "0")]
    [InlineData("--type", "Q9_X")]
    public async Task BadOptionsAreNamed(string option, string value)
    {
        CliResult result = await CliProcess.Run("plan", "27b", option, value);
        Assert.Equal(2, result.ExitCode);
        Assert.Contains(value, result.Error, StringComparison.Ordinal);
    }
}
