using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// What is refused, with which exit code, and whether the message says what to do: 2 for the command line, 3 for the file.
public sealed class UsageErrorTests(TinyModel model) : IClassFixture<TinyModel>
{
    public static TheoryData<string, string[]> BadUsage => new()
    {
        { "Required command was not provided.", [] },
        { "Unrecognized command or argument 'frob'.", ["frob"] },
        { "unknown option '--bogus'", ["run", "--bogus", "hi"] },
        { "unknown option '--no-thnk'", ["run", "-m", "MODEL", "--no-thnk"] },
        { "unknown option '--bogus'", ["verify", "--bogus", "MODEL"] },
        { "--temperature: expected a number from 0 to 100, found -1.", ["run", "hi", "-m", "MODEL", "--temperature", "-1"] },
        { "--temperature: expected a number, found 'warm'.", ["run", "hi", "-m", "MODEL", "--temperature", "warm"] },
        { "--max-tokens: expected an integer of 1 or more, found 0.", ["run", "hi", "-m", "MODEL", "-n", "0"] },
        { "--max-tokens: expected an integer, found 'many'.", ["chat", "-m", "MODEL", "-n", "many"] },
        { "--stop: expected a string that is not empty", ["run", "hi", "-m", "MODEL", "--stop", ""] },
        { "--draft: expected an integer from 0 to 15, found 16.", ["run", "hi", "-m", "MODEL", "--draft", "16"] },
        { "--draft: expected auto, off or a number of tokens, found 'some'.", ["run", "hi", "-m", "MODEL", "--draft", "some"] },
        { "--threads: expected 1 to 1024, found 0.", ["run", "hi", "-m", "MODEL", "-t", "0"] },
        { "--load-as q99: no such weight type.", ["run", "hi", "-m", "MODEL", "--load-as", "q99"] },
        { "--yarn: expected a factor from 1 to 64, found 100.", ["run", "hi", "-m", "MODEL", "--yarn", "100"] },
        { "'q9'", ["run", "hi", "-m", "MODEL", "--kv", "q9"] },
        { "the context holds 4 tokens", ["run", "hi", "-m", "MODEL", "-c", "4"] },
        { "token id 99999 is not in the vocabulary of 512.", ["run", "-m", "MODEL", "--tokens", "1 99999"] },
        { "--tokens: expected token ids, found 'x'.", ["run", "-m", "MODEL", "--tokens", "1 x"] },
        { "append at least one token first", ["run", "-m", "MODEL", "--tokens", ""] },
        { "--decode: expected token ids, found 'a'.", ["tokenize", "-m", "MODEL", "--decode", "a"] },
        { "--context: expected an integer of 1 or more, found 0.", ["inspect", "-c", "0", "MODEL"] },
        { "no such file or folder", ["verify", "/nonexistent"] },
        { "'tcsh'", ["completion", "tcsh"] },
    };

    [Theory]
    [MemberData(nameof(BadUsage))]
    public async Task BadUsageIsExplained(string message, string[] arguments)
    {
        CliResult result = await CliProcess.Run([.. arguments.Select(argument => argument == "MODEL" ? model.Path : argument)]);
        Assert.Equal((2, ""), (result.ExitCode, result.Out));
        Assert.StartsWith("qian: ", result.Error, StringComparison.Ordinal);
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("System.", result.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("text", "does not start with 'GGUF'")]
    [InlineData("truncated", "the download is probably incomplete")]
    [InlineData("empty", "expected config.json")]
    [InlineData("missing", "no such file or folder")]
    public async Task ABadModelFileIsNamed(string kind, string message)
    {
        string path = Path.Combine(model.Folder, kind);
        if (kind == "text")
            File.WriteAllText(path, "once upon a time, there was no model");
        else if (kind == "truncated")
            File.WriteAllBytes(path, File.ReadAllBytes(model.Path)[..500_000]);
        else if (kind == "empty")
            Directory.CreateDirectory(path);
        foreach (string[] arguments in (string[][])[["run", "hi", "-m", path], ["inspect", path]])
        {
            CliResult result = await CliProcess.Run(arguments);
            Assert.Equal((3, ""), (result.ExitCode, result.Out));
            Assert.StartsWith("qian: ", result.Error, StringComparison.Ordinal);
            Assert.Contains(path, result.Error, StringComparison.Ordinal);
            Assert.Contains(message, result.Error, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("--version")]
    [InlineData("run", "--tokens", "1", "-m", "MODEL")]
    public async Task AnUnknownTierIsExplained(params string[] arguments)
    {
        CliResult result = await CliProcess.RunWith(null, ("QIAN_ISA", "bogus"), [.. arguments.Select(argument => argument == "MODEL" ? model.Path : argument)]);
        Assert.Equal(2, result.ExitCode);
        Assert.Contains("QIAN_ISA=bogus: expected scalar, arm64, avx2, avxvnni, avx512 or vnni.", result.Error, StringComparison.Ordinal);
    }
}
