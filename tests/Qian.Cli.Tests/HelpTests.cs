namespace Qian.Cli.Tests;

// What the program says about itself: help, version, suggestions, completion scripts.
public sealed class HelpTests
{
    public static TheoryData<string, string[]> Verbs => new()
    {
        { "run", ["PROMPT", "--model", "--threads", "--context", "--kv", "--exact", "--load-as", "--yarn", "--max-tokens", "--temperature", "--top-k", "--top-p", "--min-p", "--seed", "--stop", "--thinking-budget", "--draft", "--system <TEXT>", "--no-think", "--raw", "--tokens", "--stats", "--adapter"] },
        { "chat", ["--model", "--max-tokens", "--system <TEXT>", "--no-think", "--adapter"] },
        { "serve", ["--model", "--host", "--port", "--key", "--keys", "--tls-cert", "--tls-key", "--tls-password-file", "--adapter", "--alias", "--parallel", "--queue", "--cors", "--log", "--audit", "--audit-contents", "--max-tokens", "--max-body", "--drain"] },
        { "keys", ["add", "list", "rm"] },
        { "code", ["TASK", "--model", "--directory", "--yes", "--allow-write", "--allow-run", "--tools", "--max-steps", "--timeout", "--system", "--no-think", "--max-tokens", "--temperature", "--seed", "--json", "--adapter"] },
        { "inspect", ["PATH", "--tensors", "--context", "--kv", "--json"] },
        { "verify", ["PATH", "--kv", "--every-row", "--file-only", "--json"] },
        { "synth", ["OUT", "--like", "--type", "--layers", "--mtp", "--seed", "--tokenizer", "--vocab", "--force", "--json"] },
        { "train", ["--model", "--adapter-for", "--data", "--code", "--out", "--held-out", "--full", "--rank", "--alpha", "--rslora", "--dropout", "--targets", "--epochs", "--steps", "--tokens", "--hours", "--lr", "--schedule", "--optimizer", "--precision", "--recompute", "--mtp-weight", "--seed", "--eval-every", "--save-every", "--resume", "--dry-run", "--json"] },
        { "adapter", ["merge", "convert"] },
        { "bench", ["--model", "--threads", "--prefill", "--depth", "--batch", "--budget", "--quick", "--json", "--svg"] },
        { "plan", ["MODEL", "--type", "--context", "--parallel", "--kv", "--checkpoints", "--mtp", "--adapter", "--machine", "--json"] },
        { "pull", ["NAME", "--revision", "--context", "--json"] },
        { "quantize", ["IN", "OUT", "--type", "--size", "--tensor", "--importance", "--calibrate", "--save-importance", "--mtp", "--dry-run", "--force", "--threads", "--json"] },
        { "quality", ["MODEL", "--text", "--chunk", "--save-logits", "--reference-logits", "--kv", "--exact", "--exact-reference", "--html", "--json"] },
        { "models", ["rm", "--json"] },
        { "tokenize", ["TEXT", "--model", "--control", "--decode", "--json"] },
        { "template", ["FILE", "--model", "--user", "--no-think", "--preserve-thinking", "--no-generation-prompt", "--segments"] },
        { "completion", ["bash", "zsh", "fish", "powershell"] },
    };

    [Theory]
    [MemberData(nameof(Verbs))]
    public async Task EveryVerbExplainsItsOptions(string verb, string[] options)
    {
        CliResult result = await CliProcess.Run(verb, "--help");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Contains($"qian {verb}", result.Out, StringComparison.Ordinal);
        Assert.All(options, option => Assert.Contains(option, result.Out, StringComparison.Ordinal));
    }

    [Fact]
    public async Task TheHelpListsTheVerbs()
    {
        CliResult result = await CliProcess.Run("--help");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.All(Verbs, row => Assert.Contains($"  {row[0]}", result.Out, StringComparison.Ordinal));
    }

    [Fact]
    public async Task TheVersionNamesTheTiers()
    {
        CliResult result = await CliProcess.RunWith(null, ("QIAN_ISA", "scalar"), "--version");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Matches(@"^qian \d+\.\d+\.\d+", result.OutLines[0]);
        Assert.StartsWith("kernels: scalar in use; this CPU offers ", result.OutLines[1], StringComparison.Ordinal);
        Assert.Contains("scalar (QIAN_ISA forces one)", result.OutLines[1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("[suggest:5]", "qian ", "run", "chat", "inspect", "verify", "synth", "tokenize", "template", "completion")]
    [InlineData("[suggest:7]", "qian te", "template")]
    [InlineData("[suggest:12]", "qian run --t", "--temperature", "--tokens", "--threads", "--top-k")]
    [InlineData("[suggest:14]", "qian run --kv ", "f16", "q8_0")]
    public async Task TheProgramCompletesItsOwnCommandLine(string directive, string line, params string[] expected)
    {
        CliResult result = await CliProcess.Run(directive, line);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.All(expected, word => Assert.Contains(word, result.OutLines));
    }

    [Theory]
    [InlineData("bash", "complete -o filenames -F _qian qian")]
    [InlineData("zsh", "compdef _qian qian")]
    [InlineData("fish", "complete -c qian")]
    [InlineData("powershell", "Register-ArgumentCompleter -Native -CommandName qian")]
    public async Task EveryShellGetsItsScript(string shell, string line)
    {
        CliResult result = await CliProcess.Run("completion", shell);
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Contains(line, result.Out, StringComparison.Ordinal);
        Assert.Contains("[suggest:", result.Out, StringComparison.Ordinal);
    }
}
