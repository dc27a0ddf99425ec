using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// LoRA adapters from the command line: run with one, look at one, convert it, merge it.
public sealed class AdapterTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static string Write(TempFolder folder)
    {
        using Checkpoint checkpoint = Checkpoint.Open(GoldenFolders.TextDenseTiny);
        PeftWriter.Write(AdapterSamples.Random(checkpoint.Config, 1, alpha: 32, usesRsLora: true), checkpoint.Config, folder.File("peft"));
        return folder.File("peft");
    }

    [Fact]
    public async Task RunAndChatTakeOne()
    {
        using var folder = new TempFolder();
        string peft = Write(folder);
        string[] run = ["run", "-m", model.Path, "--tokens", "1 2 3", "-n", "8", "--temperature", "0"];
        CliResult plain = await CliProcess.Run(run), adapted = await CliProcess.Run([.. run, "--adapter", peft]);
        Assert.Equal((0, "", 0, ""), (plain.ExitCode, plain.Error, adapted.ExitCode, adapted.Error));
        Assert.NotEqual(plain.Out, adapted.Out);
        CliResult chat = await CliProcess.RunWithInput("Hello\n", "chat", "-m", model.Path, "--no-think", "-n", "8", "--adapter", peft);
        Assert.Equal(0, chat.ExitCode);
        Assert.Contains("with the adapter peft", chat.Error, StringComparison.Ordinal);
        CliResult none = await CliProcess.Run([.. run, "--adapter", folder.File("none")]);
        Assert.Equal(3, none.ExitCode);
        Assert.Contains("no such file", none.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ConvertedThereAndBackItIsTheSame()
    {
        using var folder = new TempFolder();
        string peft = Write(folder), gguf = folder.File("a.gguf"), back = folder.File("back");
        CliResult there = await CliProcess.Run("adapter", "convert", peft, gguf, "-m", GoldenFolders.TextDenseTiny);
        Assert.Equal((0, ""), (there.ExitCode, there.Error));
        Assert.Contains("GGUF order", there.Out, StringComparison.Ordinal);
        CliResult home = await CliProcess.Run("adapter", "convert", gguf, back, "-m", model.Path, "--text-class");
        Assert.Equal((0, ""), (home.ExitCode, home.Error));
        using Checkpoint checkpoint = Checkpoint.Open(GoldenFolders.TextDenseTiny);
        AdapterSamples.AssertSame(AdapterSamples.Read(peft, checkpoint.Config), AdapterSamples.Read(back, checkpoint.Config));
        using (AdapterFile file = AdapterFile.Open(back))
            Assert.Contains(file.Entries, entry => entry.Name == "model.layers.0.linear_attn.in_proj_z");
        CliResult again = await CliProcess.Run("adapter", "convert", gguf, back, "-m", model.Path), type = await CliProcess.Run("adapter", "convert", peft, folder.File("b.gguf"), "-m", model.Path, "--type", "bf16");
        Assert.Equal((2, 2), (again.ExitCode, type.ExitCode));
        Assert.Contains("--force", again.Error, StringComparison.Ordinal);
        Assert.Contains("F32 or F16", type.Error, StringComparison.Ordinal);
        Assert.Equal(0, (await CliProcess.Run("adapter", "convert", gguf, back, "-m", model.Path, "--force", "--type", "BF16")).ExitCode);
    }

    [Fact]
    public async Task InspectDescribesBothKinds()
    {
        CliResult text = await CliProcess.Run("inspect", AdapterSamples.Reference, "--tensors"), json = await CliProcess.Run("inspect", AdapterSamples.Reference, "--json");
        Assert.Equal((0, "", 0, ""), (text.ExitCode, text.Error, json.ExitCode, json.Error));
        foreach (string part in (string[])["LoRA adapter", "PEFT folder", "text-dense-tiny", "linear_attn.in_proj_qkv", "0-2, 4-6", "base_model.model.model.language_model.layers.7.self_attn.o_proj.lora_B.weight  F32  [128, 4]"])
            Assert.Contains(part, text.Out, StringComparison.Ordinal);
        using JsonDocument document = JsonDocument.Parse(json.Out);
        JsonElement[] targets = [.. document.RootElement.GetProperty("targets").EnumerateArray()];
        Assert.Equal(62, targets.Length);
        Assert.All(targets, target => Assert.Equal((4, 2.0), (target.GetProperty("rank").GetInt32(), target.GetProperty("scale").GetDouble())));
        using var folder = new TempFolder();
        Assert.Equal(0, (await CliProcess.Run("adapter", "convert", AdapterSamples.Reference, folder.File("a.gguf"), "-m", model.Path)).ExitCode);
        CliResult gguf = await CliProcess.Run("inspect", folder.File("a.gguf"));
        Assert.Equal(0, gguf.ExitCode);
        Assert.Contains("qwen35", gguf.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task MergedItIsAModel()
    {
        using var folder = new TempFolder();
        string peft = Write(folder), merged = folder.File("merged.gguf");
        string[] arguments = ["adapter", "merge", "-m", model.Path, "--adapter", peft, "--out", merged, "--type", "f32"];
        CliResult result = await CliProcess.Run(arguments);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Contains("63 of its matrices, F32", result.Out, StringComparison.Ordinal);
        string[] run = ["--tokens", "1 2 3", "-n", "8", "--temperature", "0", "--exact", "--kv", "f32"];
        CliResult applied = await CliProcess.Run(["run", "-m", model.Path, "--adapter", peft, .. run]), inside = await CliProcess.Run(["run", "-m", merged, .. run]);
        Assert.Equal((0, applied.Out), (inside.ExitCode, inside.Out));
        CliResult again = await CliProcess.Run(arguments), name = await CliProcess.Run("adapter", "merge", "-m", model.Path, "--adapter", peft, "--out", folder.File("merged"));
        Assert.Equal((2, 2), (again.ExitCode, name.ExitCode));
        Assert.Contains("--force", again.Error, StringComparison.Ordinal);
        Assert.Equal(0, (await CliProcess.Run([.. arguments[..^1], "q4_k", "--force"])).ExitCode);
        Assert.Equal(2, (await CliProcess.Run([.. arguments[..^1], "iq2_xs", "--force"])).ExitCode);
    }
}
