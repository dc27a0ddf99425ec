using System.Text.Json;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// The verbs that show what the model will read: tokenize and template.
public sealed class TextVerbTests(TinyModel model) : IClassFixture<TinyModel>
{
    private const string Text = "Hello, Wörld! 你好\n<|im_end|>";

    [Fact]
    public async Task TokensAreListedWithTheirText()
    {
        CliResult result = await CliProcess.Run("tokenize", "-m", model.Path, "a <|im_end|>", "--control");
        Assert.Equal(0, result.ExitCode);
        Assert.Equal(3, result.OutLines.Length);
        Assert.Matches("^ +\\d+  \"<\\|im_end\\|>\"  control$", result.OutLines[2]);
        Assert.Equal("3 tokens\n", result.Error);
    }

    [Fact]
    public async Task IdsGoThereAndBack()
    {
        CliResult encoded = await CliProcess.RunWithInput(Text, "tokenize", "-m", model.Path, "--json");
        Assert.Equal((0, ""), (encoded.ExitCode, encoded.Error));
        using JsonDocument json = JsonDocument.Parse(encoded.Out);
        int[] ids = [.. json.RootElement.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
        Assert.Equal(ids.Length, json.RootElement.GetProperty("count").GetInt32());
        Assert.Equal(ids.Length, json.RootElement.GetProperty("pieces").GetArrayLength());
        Assert.True(ids.Length > 15, "text that spells a control token was taken for one");
        CliResult decoded = await CliProcess.Run("tokenize", "-m", model.Path, "--decode", string.Join(',', ids));
        Assert.Equal((0, Text + "\n"), (decoded.ExitCode, decoded.Out));
    }

    [Fact]
    public async Task AMessageBecomesAPrompt()
    {
        CliResult result = await CliProcess.Run("template", "-u", "Hi <|im_end|>", "--no-think");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Equal("<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n\n", result.Out);
    }

    [Fact]
    public async Task SegmentsTellTheTemplatesTextFromOurs()
    {
        CliResult result = await CliProcess.Run("template", "-u", "Hi <|im_end|>", "--segments", "-m", model.Path);
        Assert.Equal(0, result.ExitCode);
        using JsonDocument json = JsonDocument.Parse(result.Out);
        JsonElement[] segments = [.. json.RootElement.EnumerateArray()];
        Assert.Equal("<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n<think>\n", string.Concat(segments.Select(segment => segment.GetProperty("text").GetString())));
        Assert.Contains(segments, segment => segment.GetProperty("text").GetString() == "Hi <|im_end|>" && !segment.GetProperty("template").GetBoolean());
        Assert.Contains("no template of its own", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ARequestWithToolsIsRendered()
    {
        string path = Path.Combine(model.Folder, "request.json");
        File.WriteAllText(path, """
            {"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Time?"}]},
              {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "now", "arguments": "{\"zone\": \"UTC\"}"}}]},
              {"role": "tool", "tool_call_id": "c", "content": "noon"}],
             "tools": [{"type": "function", "function": {"name": "now", "parameters": {}}}]}
            """);
        CliResult given = await CliProcess.Run("template", path, "--no-generation-prompt");
        CliResult piped = await CliProcess.RunWithInput(File.ReadAllText(path), "template", "-", "--no-generation-prompt");
        Assert.Equal((0, "", given.Out), (given.ExitCode, given.Error, piped.Out));
        foreach (string part in (string[])["<tools>\n{\"type\": \"function\"", "\n\nBe brief.<|im_end|>", "<function=now>\n<parameter=zone>\nUTC\n</parameter>", "<tool_response>\nnoon\n</tool_response><|im_end|>"])
            Assert.Contains(part, given.Out, StringComparison.Ordinal);
        Assert.DoesNotContain("<|im_start|>assistant\n<think>\n\n</think>\n\n\n", given.Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WithoutAMessageTheTemplateItselfIsShown()
    {
        CliResult result = await CliProcess.Run("template");
        Assert.Equal((0, ""), (result.ExitCode, result.Error));
        Assert.Equal(File.ReadAllText(Path.Combine(GoldenFolders.Data, "chat_template", "chat_template.jinja")) + "\n", result.Out);
    }

    [Theory]
    [InlineData("{", "standard input: not JSON")]
    [InlineData("{}", "standard input: expected a list of messages")]
    [InlineData("[]", "No messages provided.")]
    [InlineData("[{\"role\": \"assistant\", \"content\": \"Hi\"}]", "No user query found in messages.")]
    public async Task WhatIsNoConversationIsRefused(string input, string message)
    {
        CliResult result = await CliProcess.RunWithInput(input, "template", "-");
        Assert.Equal((2, ""), (result.ExitCode, result.Out));
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
    }
}
