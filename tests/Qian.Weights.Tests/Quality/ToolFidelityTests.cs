using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights.Tests;

public sealed class ToolFidelityTests : IDisposable
{
    private const string Tools = """[{"type":"function","function":{"name":"read_file","parameters":{"type":"object","properties":{"path":{"type":"string"}},"required":["path"]}}},{"type":"function","function":{"name":"run_tests"}}]""";

    private readonly TestFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void TheShippedPromptsRenderAndSayWhatIsRight()
    {
        IReadOnlyList<ToolPrompt> prompts = ToolPrompt.Shipped();
        Assert.InRange(prompts.Count, 20, 100);
        Assert.InRange(prompts.Count(prompt => prompt.Expected is not null), 10, prompts.Count - 1);
        foreach (ToolPrompt prompt in prompts)
        {
            Assert.NotEqual(MessageRole.Assistant, prompt.Messages[^1].Role);
            Assert.All(prompt.Expected ?? [], call => Assert.True(call.Arguments.ValueKind == JsonValueKind.Object && prompt.Tools.Any(tool => tool.Name == call.Name)));
        }
    }

    [Fact]
    public void TheEmbeddedModelAgreesWithItselfAndLessWithAFewBits()
    {
        string nano = Path.Combine(TestFolder.Data(), "..", "..", "models", "nano"), candidate = _folder.File("q2.gguf"), file = _folder.File("p.jsonl");
        using (var shipped = new StreamReader(typeof(ToolPrompt).Assembly.GetManifestResourceStream("tool-prompts.jsonl")!))
            File.WriteAllLines(file, shipped.ReadToEnd().Split('\n').Take(4).Append("""{"messages":[{"role":"user","content":"Set level to fast in game.ini."},{"role":"assistant","content":"","tool_calls":[{"id":"1","type":"function","function":{"name":"read_file","arguments":"{\"path\": \"game.ini\"}"}}]},{"role":"tool","tool_call_id":"1","content":"level = slow"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"run_tests","arguments":{}}}]}],"tools":""" + Tools + "}"));
        // Arguments in a string, as OpenAI has them, in what is read as text too.
        QualityReport text = QualityRun.Compare(new() { ReferencePath = nano, CandidatePath = nano, TextPaths = [file], PieceTokens = 128, ThreadCount = 1 }, null, default);
        Assert.Equal(0, text.Divergence.Mean);
        QualityRequest request = new() { ReferencePath = nano, CandidatePath = nano, ToolPromptsPath = file, ThreadCount = 1 };
        long last = 0;
        ToolReport itself = ToolFidelity.Compare(request, (done, total) => last = 100 * done / total, default);
        Assert.Equal(100, last);
        Assert.Equal((5, 5), (itself.SameCalls.Count, itself.SameNames.Count));
        Assert.InRange(itself.Called.Reference.Count, 3, 5);
        Assert.InRange(itself.WellFormed.Reference.Count, 3, itself.Called.Reference.Count);
        PairedShare right = itself.Right!.Value;
        Assert.Equal((5, right.Reference, 0, 0), (right.Reference.Total, right.Candidate, right.LostCount, right.GainedCount));
        Assert.InRange(right.Reference.Count, 2, 5);
        Assert.Empty(itself.Differences);

        using (ModelConversion conversion = ModelConversion.Prepare(new ConversionRequest { InputPath = nano, OutputPath = candidate, Mix = QuantMix.Find("Q2_K"), ThreadCount = 1 }))
            conversion.Write(null, default);
        ToolReport coarse = ToolFidelity.Compare(request with { CandidatePath = candidate }, null, default);
        Assert.Equal(5 - coarse.SameCalls.Count, coarse.Differences.Count);
        Assert.InRange(coarse.SameCalls.Count, 0, coarse.SameNames.Count);
        string html = QualityHtml.Write(request with { CandidatePath = candidate }, null, coarse);
        foreach ((string name, string value, string _) in coarse.Rows())
            Assert.Contains(System.Net.WebUtility.HtmlEncode(name) + $"</td><td class=\"n\">{System.Net.WebUtility.HtmlEncode(value)}", html, StringComparison.Ordinal);
        Assert.Equal(coarse.Differences.Count, html.Split("<hr>").Length - 1);
    }

    [Theory]
    [InlineData("<tool_call>\n<function=read_file>\n<parameter=path>\na.txt\n</parameter>\n</function>\n</tool_call>", true, 1)]
    [InlineData("Let me look.\n\n<tool_call>\n<function=run_tests>\n</function>\n</tool_call>", true, 1)]
    [InlineData("<tool_call>\n<function=read_file>\n</function>\n</tool_call>", false, 1)] // a required parameter is missing
    [InlineData("<tool_call>\n<function=delete_all>\n</function>\n</tool_call>", false, 1)] // no such tool
    [InlineData("<tool_call>\n{\"name\": \"read_file\", \"arguments\": {\"path\": \"a.txt\"}}\n</tool_call>", false, 1)] // bridged
    [InlineData("<tool_call>\n<function=read_file>\n<parameter=path>\na.txt\n</parameter>\n</function>", false, 1)] // not closed
    [InlineData("The port is 80.", false, 0)]
    public void OnlyTheTemplatesVeryFormIsWellFormed(string text, bool isWellFormed, int callCount)
    {
        ToolReply reply = Reply(text);
        Assert.Equal((isWellFormed, callCount), (reply.IsWellFormed, reply.Calls.Count));
    }

    [Fact]
    public void ArgumentsAreComparedAsValues()
    {
        ToolCall left = Call("""{"a":1,"b":[1.0,"x"]}"""), right = Call("""{"b":[1,"x"],"a":1}"""), other = Call("""{"a":"1","b":[1,"x"]}""");
        Assert.True(ToolReply.SameCalls([left], [right]));
        Assert.False(ToolReply.SameCalls([left], [other]));
        Assert.True(ToolReply.SameNames([left], [other]));
        Assert.False(ToolReply.SameNames([left], [left, left]));
        Assert.False(ToolReply.SameNames([left], []));
        static ToolCall Call(string arguments) => new("", "t", JsonDocument.Parse(arguments).RootElement);
    }

    // Wilson's interval of 8 in 10 as tables have it, and the exact test by hand: 2 * (1 + 6) / 2^6 for 5 against 1.
    [Fact]
    public void SharesAndPairsFollowTheirDefinitions()
    {
        Share share = Share.Of(8, 10);
        Assert.Equal(0.4902, share.Low, 4);
        Assert.Equal(0.9433, share.High, 4);
        Assert.Equal((0.0, 1.0), (Share.Of(0, 5).Low, Share.Of(5, 5).High));
        Assert.Equal(14.0 / 64, PairedShare.Chance(5, 1), 12);
        Assert.Equal(0.0625, PairedShare.Chance(0, 5), 12);
        Assert.Equal(1, PairedShare.Chance(0, 0));
        Assert.Equal(1, PairedShare.Chance(3, 3));
        Assert.InRange(PairedShare.Chance(4000, 3000), 0, 1e-30);
        PairedShare pair = PairedShare.Of([0, 1, 2, 3], i => i != 3, i => i % 2 == 1);
        Assert.Equal((3, 2, 2, 1), (pair.Reference.Count, pair.Candidate.Count, pair.LostCount, pair.GainedCount));
    }

    [Theory]
    [InlineData("{\"messages\": [", "line 2")]
    [InlineData("{\"text\": \"x\"}", "\"messages\" and \"tools\"")]
    [InlineData("{\"messages\": [{\"role\":\"user\",\"content\":\"x\"}], \"tools\": []}", "nothing to call")]
    [InlineData("{\"messages\": [], \"tools\": [{\"name\":\"x\"}]}", "empty")]
    [InlineData("{\"messages\": [{\"role\":\"assistant\",\"content\":\"x\"}], \"tools\": [{\"name\":\"x\"}]}", "without a call")]
    [InlineData("{\"messages\": [{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[{\"name\":\"x\",\"arguments\":\"{\"}]}], \"tools\": [{\"name\":\"x\"}]}", "line 2")]
    public void AFileThatIsNoneIsRefusedByItsLine(string line, string part)
    {
        File.WriteAllText(_folder.File("p.jsonl"), "\n" + line + "\n");
        Assert.Contains(part, Assert.Throws<BadRequestException>(() => ToolPrompt.FromFile(_folder.File("p.jsonl"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnAdapterAndKvTypesAreAxesOfTheirOwn()
    {
        string model = SynthModels.Write(_folder, "m.gguf"), text = _folder.File("t.txt"), adapter = _folder.File("a.gguf");
        File.WriteAllText(text, string.Concat(Enumerable.Range(0, 60).Select(i => $"line {i * i} of text\n")));
        var random = new Random(5);
        float[] down = Values(2 * 256), up = Values(768 * 2);
        using (Checkpoint checkpoint = Checkpoint.Open(model))
            GgufAdapterWriter.Write(new AdapterWeights { Name = "a", Targets = [new AdapterTarget(TensorRole.FfnUp, 1, 2, 4, down, up)] }, checkpoint.Config, adapter);
        QualityRequest request = new() { ReferencePath = model, CandidatePath = model, TextPaths = [text], PieceTokens = 64, ThreadCount = 1 };
        QualityReport same = QualityRun.Compare(request, null, default), kv = QualityRun.Compare(request with { KvType = KvType.Q8_0 }, null, default);
        QualityReport adapted = QualityRun.Compare(request with { AdapterPath = adapter }, null, default);
        Assert.Equal(0, same.Divergence.Mean);
        Assert.True(kv.Divergence.Mean > 1e-9, $"{kv.Divergence}");
        Assert.True(adapted.Divergence.Low > 1e-6, $"{adapted.Divergence}");

        float[] Values(int count) => [.. Enumerable.Range(0, count).Select(_ => (float)(random.NextDouble() - 0.5))];
    }

    private static ToolReply Reply(string text)
    {
        IReadOnlyList<ToolDefinition> tools = MessageJson.ReadTools(JsonDocument.Parse(Tools).RootElement)!;
        var parser = new AssistantOutputParser(tools, thinks: false);
        parser.Feed(text);
        parser.Finish(isCut: false);
        return ToolReply.From(parser.Output, text, FinishReason.Stop, tools);
    }
}
