using Qian.Inference;
using Qian.Kernels;

namespace Qian.Weights.Tests;

public sealed class QualityTests : IDisposable
{
    private readonly TestFolder _folder = new();
    private readonly string _text;

    public QualityTests()
    {
        _text = _folder.File("t.txt");
        File.WriteAllText(_text, string.Concat(Enumerable.Range(0, 90).Select(i => $"line {i * i} <b>of</b> text & more\n")));
    }

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("BF16", "tiny")]
    [InlineData("Q4_K_M", "tiny-moe")]
    public void AModelAgainstItselfDiffersInNothing(string mix, string shape)
    {
        string model = SynthModels.Write(_folder, "m.gguf", shape, mix);
        QualityReport report = QualityRun.Compare(Request(model, model), null, default);
        AssertNoDifference(report);
        Assert.Equal(0, report.RestMass);
        Assert.True(report.PieceCount > 3 && report.ScoredCount == report.PieceCount * 63);
    }

    [Fact]
    public void FewerBitsDivergeMoreAndSavedPredictionsSayTheSame()
    {
        string reference = SynthModels.Write(_folder, "hf/");
        double last = 0;
        QualityRequest saving = Request(reference, null) with { SaveLogitsPath = _folder.File("l.bin") };
        Interval perplexity = QualityRun.Save(saving, null, default);
        foreach (string mix in (string[])["Q8_0", "Q4_K_M", "Q2_K"])
        {
            string candidate = _folder.File(mix + ".gguf");
            SynthModels.Convert(SynthModels.Request(reference, candidate, mix));
            QualityReport direct = QualityRun.Compare(Request(reference, candidate), null, default);
            Assert.True(direct.Divergence.Mean > 2 * last, $"{mix}: {direct.Divergence.Mean} after {last}");
            Assert.True(direct.Divergence.Low > 0 && direct.DivergencePercentiles[^1].Value >= direct.DivergencePercentiles[0].Value);
            Assert.InRange(direct.TopAgreement.Mean, 0.2, 1);
            Assert.InRange(direct.PerplexityRatio.Mean, direct.PerplexityRatio.Low, direct.PerplexityRatio.High);
            Assert.Equal(direct.CandidatePerplexity.Mean / direct.ReferencePerplexity.Mean, direct.PerplexityRatio.Mean, 1e-9);
            Assert.Equal(10, direct.Worst.Count);
            Assert.Equal(direct.DivergencePercentiles[^1].Value, direct.Worst[0].Divergence);
            last = direct.Divergence.Mean;

            QualityReport saved = QualityRun.Compare(new QualityRequest { ReferenceLogitsPath = _folder.File("l.bin"), CandidatePath = candidate, ThreadCount = 2 }, null, default);
            Assert.InRange(saved.RestMass, 1e-7, 1e-4);
            Assert.Equal(direct.Divergence.Mean, saved.Divergence.Mean, 5e-4 + 0.01 * direct.Divergence.Mean);
            Assert.Equal(direct.TopAgreement, saved.TopAgreement);
            Assert.Equal(direct.TopFiveAgreement, saved.TopFiveAgreement);
            Assert.Equal(direct.ReferencePerplexity.Mean, saved.ReferencePerplexity.Mean, 1e-5 * direct.ReferencePerplexity.Mean);
            Assert.Equal(perplexity.Mean, saved.ReferencePerplexity.Mean, 1e-9 * perplexity.Mean);
            Assert.Equal("hf", saved.ReferenceName);
        }

        AssertNoDifference(QualityRun.Compare(new QualityRequest { ReferenceLogitsPath = _folder.File("l.bin"), CandidatePath = reference, ThreadCount = 2 }, null, default));
    }

    [Fact]
    public void KvTypeAndArithmeticAreAxesOfTheirOwn()
    {
        string model = SynthModels.Write(_folder, "m.gguf", mix: "Q4_K_M");
        QualityReport kv = QualityRun.Compare(Request(model, model) with { KvType = KvType.Q8_0 }, null, default);
        Assert.True(kv.Divergence.Mean > 0);
        QualityReport rounding = QualityRun.Compare(Request(model, model) with { ExactReference = true }, null, default);
        Assert.True(rounding.Divergence.Mean > kv.Divergence.Mean);
        AssertNoDifference(QualityRun.Compare(Request(model, model) with { Exact = true, KvType = KvType.F32 }, null, default));
    }

    [Fact]
    public void WhatCannotBeComparedIsRefused()
    {
        string model = SynthModels.Write(_folder, "m.gguf"), other = _folder.File("o.gguf");
        SynthWriter.Write(other, new SynthRequest { Shape = SynthShape.Find("tiny"), Mix = QuantMix.Find("BF16"), VocabularySize = 700, ChatTemplate = "", ThreadCount = 2 }, null, default);
        Assert.Throws<BadRequestException>(() => QualityRun.Compare(Request(model, other), null, default));
        QualityRun.Save(Request(model, null) with { SaveLogitsPath = _folder.File("l.bin") }, null, default);
        Assert.Throws<BadRequestException>(() => QualityRun.Compare(new QualityRequest { ReferenceLogitsPath = _folder.File("l.bin"), CandidatePath = other }, null, default));
        File.WriteAllText(_folder.File("u.txt"), File.ReadAllText(_text) + "one line more\n");
        QualityRequest changed = new() { ReferenceLogitsPath = _folder.File("l.bin"), CandidatePath = model, TextPaths = [_folder.File("u.txt")] };
        Assert.Contains("another text", Assert.Throws<BadRequestException>(() => QualityRun.Compare(changed, null, default)).Message, StringComparison.Ordinal);
        File.WriteAllText(_folder.File("empty.txt"), "");
        Assert.Throws<BadRequestException>(() => QualityRun.Compare(Request(model, model) with { TextPaths = [_folder.File("empty.txt")] }, null, default));
    }

    [Fact]
    public void DamagedSavedPredictionsAreAnError()
    {
        string path = _folder.File("l.bin");
        var random = new Random(1);
        var text = new TextPieces([1, 2, 3, 4, 5, 6, 7, 8], 8);
        using (var writer = new LogitsFile.Writer(path, text, 50, "name"))
        {
            for (int i = 0; i < text.ScoredCount; i++)
                writer.Add(KeptPrediction.From([.. Enumerable.Range(0, 50).Select(_ => (float)random.NextDouble())], 3));
            writer.Complete();
        }

        byte[] whole = File.ReadAllBytes(path);
        Read(whole);
        for (int length = 0; length < whole.Length; length++)
            Assert.Throws<BadModelFileException>(() => Read(whole[..length]));
        foreach (int index in Enumerable.Range(0, whole.Length))
        {
            byte[] damaged = (byte[])whole.Clone();
            damaged[index] ^= 0xFF;
            try
            {
                Read(damaged);
            }
            catch (BadModelFileException)
            {
                // An error of its own, or numbers that are merely others: never anything else.
            }
        }

        void Read(byte[] bytes)
        {
            File.WriteAllBytes(_folder.File("d.bin"), bytes);
            using var reader = new LogitsFile.Reader(_folder.File("d.bin"));
            for (int i = 0; i < reader.Text.ScoredCount; i++)
                reader.Next();
        }
    }

    [Fact]
    public void ConversationsAreReadWithTheModelsTemplate()
    {
        string model = SynthModels.Write(_folder, "m.gguf");
        File.WriteAllText(_folder.File("c.jsonl"), """
            {"messages": [{"role": "user", "content": "Hello there"}]}

            {"text": "plain words"}
            """);
        using Engine engine = Engine.Load(model, new EngineOptions { ContextLength = 64 });
        int[] ids = SampleText.Tokens([_folder.File("c.jsonl")], engine);
        Assert.Equal("Hello thereplain words", engine.Tokenizer.Decode(ids, skipControlTokens: true));
        Assert.Equal(2, ids.Count(id => engine.Tokenizer.IsControl(id)));
        File.WriteAllText(_folder.File("bad.jsonl"), "{\"text\": \"a\"}\n{\"prompt\": 1}\n");
        Assert.Contains("line 2", Assert.Throws<BadRequestException>(() => SampleText.Tokens([_folder.File("bad.jsonl")], engine)).Message, StringComparison.Ordinal);
        File.WriteAllText(_folder.File("bad.jsonl"), "{\"text\": ");
        Assert.Contains("line 1", Assert.Throws<BadRequestException>(() => SampleText.Tokens([_folder.File("bad.jsonl")], engine)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ThePageNeedsNothingElseAndEscapesWhatItShows()
    {
        string reference = SynthModels.Write(_folder, "m.gguf"), candidate = _folder.File("<q2>.gguf");
        SynthModels.Convert(SynthModels.Request(reference, candidate, "Q2_K"));
        QualityReport report = QualityRun.Compare(Request(reference, candidate), null, default);
        string html = QualityHtml.Write(Request(reference, candidate), report, null);
        Assert.Contains("&lt;q2&gt;.gguf", html, StringComparison.Ordinal);
        Assert.Contains("&lt;b&gt;", html, StringComparison.Ordinal);
        foreach (string word in (string[])["<b>", "<q2>", "http", "<script", "src=", "href=", "@import", "url("])
            Assert.DoesNotContain(word, html, StringComparison.OrdinalIgnoreCase);
        Assert.Equal(2, html.Split("<svg").Length - 1);
        foreach ((string name, string value, string _) in QualityTable.Rows(report))
            Assert.Contains($"<td>{name}</td><td class=\"n\">{value}</td>", html, StringComparison.Ordinal);
    }

    private QualityRequest Request(string reference, string? candidate) => new() { ReferencePath = reference, CandidatePath = candidate, TextPaths = [_text], PieceTokens = 128, ThreadCount = 2 };

    private static void AssertNoDifference(QualityReport report)
    {
        Assert.Equal(new Interval(0, 0, 0), report.Divergence);
        Assert.All(report.DivergencePercentiles, row => Assert.Equal(0, row.Value));
        Assert.Equal(report.ReferencePerplexity, report.CandidatePerplexity);
        Assert.Equal(new Interval(1, 1, 1), report.PerplexityRatio);
        Assert.Equal(new Interval(1, 1, 1), report.TopAgreement);
        Assert.Equal(new Interval(1, 1, 1), report.TopFiveAgreement);
        Assert.Equal(0, report.ProbabilityRms);
        Assert.Empty(report.Worst);
    }
}
