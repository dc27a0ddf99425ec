using System.Text.Json;
using System.Xml.Linq;
using Qian.Inference.Chat;
using Qian.Inference.Measurement;
using Qian.Training.Run;
using Qian.Weights;

namespace Qian.Cli.Tests;

// qian train through the built program, on a model of random weights and a few lines of data. Each test has a folder for
// temporary files of its own, since the lock of a real benchmark lies in the common one.
public sealed class TrainTests(TrainTests.Material material) : IClassFixture<TrainTests.Material>, IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("qian-train-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public async Task FullTrainingLearnsAndItsFolderRuns()
    {
        string output = At("out");
        CliResult result = await Train("--full", "--out", output, "--steps", "12", "--eval-every", "4", "--lr", "1e-3", "--json");
        Assert.Equal(0, result.ExitCode);
        using JsonDocument json = JsonDocument.Parse(result.Out);
        JsonElement root = json.RootElement;
        Assert.Equal(("finished", 12), (root.GetProperty("outcome").GetString(), root.GetProperty("steps").GetInt32()));
        Assert.True(root.GetProperty("held_out_loss").GetDouble() < root.GetProperty("first_held_out_loss").GetDouble() - 1, result.Out);
        Assert.True(root.GetProperty("tokens_per_s").GetDouble() > 0);
        Assert.True(root.GetProperty("float32_peak_share").GetDouble() > 0);
        Assert.Contains("memory     ", result.Error, StringComparison.Ordinal);
        Assert.Contains("step 12, loss ", result.Error, StringComparison.Ordinal);
        Assert.Equal([0L, 4, 8, 12], TrainingLog.Read(Path.Combine(output, "training", "log.csv")).Where(entry => entry.HeldOutLoss is not null).Select(entry => entry.Step));
        Assert.Equal("svg", XDocument.Load(Path.Combine(output, "training", "loss.svg")).Root!.Name.LocalName);
        CliResult run = await CliProcess.Run("run", "-m", output, "--raw", "The sum of", "-n", "4", "--temperature", "0");
        Assert.Equal(0, run.ExitCode);
        Assert.NotEmpty(run.Out);
    }

    // Ctrl-C saves and ends with 130; the same command with --resume ends where an uninterrupted run ends, byte for byte.
    [Theory]
    [InlineData("--full")]
    [InlineData("--dropout=0.2")]
    public async Task AnInterruptedRunContinuesWhereItStood(string kind)
    {
        string[] same = [kind, "--steps", "24", "--eval-every", "1", "-t", "2"];
        Assert.Equal(0, (await Train([.. same, "--out", At("whole")])).ExitCode);
        string[] command = Command([.. same, "--out", At("pieces")]);
        using (CliProcess process = CliProcess.Start(("TMPDIR", _folder), command))
        {
            await process.Noted("step 3, loss ");
            process.Interrupt();
            CliResult interrupted = await process.End();
            Assert.Equal((130, "interrupted"), (interrupted.ExitCode, interrupted.Out.Split(':')[0]));
            Assert.Contains("--resume continues", interrupted.Error, StringComparison.Ordinal);
        }

        int steps = TrainingLog.Read(Path.Combine(At("pieces"), "training", "log.csv")).Count - 1;
        Assert.InRange(steps, 3, 23);
        CliResult again = await Train([.. same, "--out", At("pieces")]);
        Assert.Equal(2, again.ExitCode);
        Assert.Contains("--resume continues it", again.Error, StringComparison.Ordinal);
        CliResult resumed = await Train([.. same, "--out", At("pieces"), "--resume"]);
        Assert.Equal(0, resumed.ExitCode);
        Assert.DoesNotContain("not the same run", resumed.Error, StringComparison.Ordinal);
        string saved = kind == "--full" ? "model.safetensors" : "adapter_model.safetensors";
        Assert.Equal(File.ReadAllBytes(Path.Combine(At("whole"), saved)), File.ReadAllBytes(Path.Combine(At("pieces"), saved)));
    }

    [Fact]
    public async Task ADamagedStateIsToldAndTheOneBeforeContinues()
    {
        string output = At("out");
        Assert.Equal(0, (await Train("--out", output, "--steps", "4", "--save-every", "2")).ExitCode);
        string newest = Path.Combine(output, "training", "state-00000004.qts");
        byte[] state = File.ReadAllBytes(newest);
        state[^100] ^= 1;
        File.WriteAllBytes(newest, state);
        CliResult result = await Train("--out", output, "--steps", "5", "--resume", "--json");
        Assert.Equal(0, result.ExitCode);
        Assert.Contains("state-00000004.qts: not a whole training state", result.Error, StringComparison.Ordinal);
        Assert.Contains("not the same run: limit: 4 steps before, 5 steps now", result.Error, StringComparison.Ordinal);
        Assert.Contains("\"steps\":5", result.Out, StringComparison.Ordinal);
        Assert.Equal([0L, 1, 2, 3, 4, 5], TrainingLog.Read(Path.Combine(output, "training", "log.csv")).Select(entry => entry.Step));
    }

    [Fact]
    public async Task AnAdapterIsNotContinuedOverAnotherModelAndALeftOverFolderIsNoObstacle()
    {
        string output = At("out");
        Directory.CreateDirectory(Path.Combine(output, "training"));
        Assert.Equal(0, (await Train("--out", output, "--steps", "2")).ExitCode);
        // The same shape, other weights.
        Assert.Equal(0, (await Train("--full", "--out", At("other"), "--steps", "1")).ExitCode);
        string[] command = Command(["--out", output, "--steps", "4", "--resume"]);
        command[Array.IndexOf(command, "-m") + 1] = At("other");
        CliResult result = await CliProcess.RunWith(null, ("TMPDIR", _folder), command);
        Assert.Equal(2, result.ExitCode);
        Assert.Contains("was begun over another model than the one given now", result.Error, StringComparison.Ordinal);
        Assert.Equal(0, (await Train("--out", output, "--steps", "4", "--resume")).ExitCode);
    }

    [Fact]
    public async Task ADryRunPrintsThePlanAndWritesNothing()
    {
        CliResult text = await Train("--full", "--out", At("out"), "--epochs", "3", "--optimizer", "muon", "--dry-run");
        Assert.Equal((0, ""), (text.ExitCode, text.Error));
        Assert.Equal(["model", "data", "run", "optimiser", "memory"], text.OutLines.Select(line => line.Split(' ')[0]));
        Assert.Contains("Muon", text.Out, StringComparison.Ordinal);
        CliResult result = await Train("--out", At("out"), "--rank", "8", "--targets", "q_proj,in_proj_qkv", "--dry-run", "--json");
        using JsonDocument json = JsonDocument.Parse(result.Out);
        Assert.False(json.RootElement.GetProperty("full").GetBoolean());
        // Three layers with in_proj_qkv and one with q_proj: 8 times the sum of both sides of each.
        long trained = 8L * (3 * (2 * 4 * 64 + 12 * 64 + 256) + (6 * 2 * 128 + 256));
        Assert.Equal(trained, json.RootElement.GetProperty("trained").GetInt64());
        Assert.True(json.RootElement.GetProperty("memory").GetProperty("pass_bytes").GetInt64() > 0);
        Assert.False(Directory.Exists(At("out")));
    }

    [Fact]
    public async Task WhatWouldNotFitIsRefusedWithAdvice()
    {
        CliResult result = await Train("--full", "--out", At("out"), "--batch-tokens", "4000000", "--micro-batch-tokens", "4000000");
        Assert.Equal((2, ""), (result.ExitCode, result.Out));
        Assert.Contains("The training would not fit: ", result.Error, StringComparison.Ordinal);
        Assert.Contains("--recompute", result.Error, StringComparison.Ordinal);
        Assert.Contains("--micro-batch-tokens", result.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(At("out")));
    }

    [Fact]
    public async Task NothingIsTrainedBesideAMeasurement()
    {
        using BenchLock measurement = BenchLock.Take(_folder);
        CliResult result = await Train("--out", At("out"), "--steps", "1");
        Assert.Equal((1, ""), (result.ExitCode, result.Out));
        Assert.Contains("qian-bench.lock", result.Error, StringComparison.Ordinal);
        Assert.False(Directory.Exists(At("out")));
    }

    [Theory]
    [InlineData("--steps 2 --tokens 3", "--epochs, --steps, --tokens and --hours")]
    [InlineData("--steps 0", "--steps")]
    [InlineData("--full --rank 4", "--rank is for adapters")]
    [InlineData("--rank 0", "rank")]
    [InlineData("--targets nothing", "nothing")]
    [InlineData("--held-out 1.5", "--held-out 1.5")]
    [InlineData("--sequence 9000", "--sequence 9000")]
    [InlineData("--lr -1", "--lr")]
    [InlineData("--mtp-weight 1", "--mtp-weight")]
    [InlineData("--adapter-for x", "not both")]
    [InlineData("--resume", "holds no state")]
    [InlineData("--schedule never", "never")]
    public async Task ImpossibleRequestsAreRefused(string flags, string named)
    {
        CliResult result = await Train(["--out", At("out"), .. flags.Split(' ')]);
        Assert.Equal((2, ""), (result.ExitCode, result.Out));
        Assert.Contains(named, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task FoldersOfOthersAreLeftAlone()
    {
        string foreign = At("foreign");
        Directory.CreateDirectory(foreign);
        File.WriteAllText(Path.Combine(foreign, "mine.txt"), "mine");
        CliResult result = await Train("--out", foreign, "--steps", "1");
        Assert.Equal(2, result.ExitCode);
        Assert.Contains("is not empty", result.Error, StringComparison.Ordinal);
        result = await Train("--out", material.Model + "/", "--steps", "1");
        Assert.Equal(2, result.ExitCode);
        Assert.Contains("the model that is read lies there", result.Error, StringComparison.Ordinal);
        Assert.Single(Directory.GetFileSystemEntries(foreign));
    }

    private string At(string name) => Path.Combine(_folder, name);

    // Small batches, unless the test says otherwise.
    private string[] Command(string[] arguments)
    {
        var command = new List<string> { "train", "-m", material.Model, "--data", material.Data };
        foreach ((string flag, string value) in ((string, string)[])[("--held-out", "0.1"), ("--batch-tokens", "512"), ("--sequence", "128")])
        {
            if (!arguments.Contains(flag))
                command.AddRange([flag, value]);
        }

        return [.. command, .. arguments];
    }

    private Task<CliResult> Train(params string[] arguments) => CliProcess.RunWith(null, ("TMPDIR", _folder), Command(arguments));

    // A tiny model with a made-up vocabulary, and chats about sums.
    public sealed class Material : IDisposable
    {
        private readonly string _folder = Directory.CreateTempSubdirectory("qian-train-").FullName;

        public Material()
        {
            Model = Path.Combine(_folder, "model");
            SynthWriter.Write(Model + "/", new SynthRequest { Shape = SynthShape.Find("tiny"), Mix = QuantMix.Find("BF16"), Seed = 3, ChatTemplate = ChatTemplate.Default.Source, WithMtp = true }, null, default);
            Data = Path.Combine(_folder, "sums.jsonl");
            File.WriteAllLines(Data, Enumerable.Range(1, 120).Select(i => $$"""{"messages":[{"role":"user","content":"What is {{i}} and {{i % 7}}?"},{"role":"assistant","content":"The sum of {{i}} and {{i % 7}} is {{i + i % 7}}."}]}"""));
        }

        public string Model { get; }

        public string Data { get; }

        public void Dispose() => Directory.Delete(_folder, recursive: true);
    }
}
