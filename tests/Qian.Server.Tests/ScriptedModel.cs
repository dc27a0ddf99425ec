using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Text;
using Qian.Inference.Tests;
using Qian.Kernels;

namespace Qian.Server.Tests;

// A real model file whose weights say what it will answer, so that tests can assert content. The mixers' and MLPs' output
// projections are zero, so the last hidden row is the last token's embedding, a code of its own; the head's row of a token
// holds the codes of the tokens that it follows. The pieces of the scripts are added tokens, each used once, so that the last
// token alone tells what comes next. A prompt that opens the thinking ends in "\n", one that answers at once in "\n\n".
public sealed class ScriptedModel : IDisposable
{
    private const int HiddenSize = 128, VocabularySize = 512, SpareCount = 48;

    private readonly string _folder = Directory.CreateTempSubdirectory("qian-scripted-").FullName;
    private readonly string[] _thinking;
    private readonly string[] _plain;

    public ScriptedModel()
        : this(ThinkingScript, PlainScript)
    {
    }

    // What it says when it thinks, and when it does not, piece by piece; no piece twice.
    internal ScriptedModel(string[] thinking, string[] plain)
    {
        _thinking = thinking;
        _plain = plain;
        Path = System.IO.Path.Combine(_folder, "scripted.gguf");
        TokenizerSpec spec = Vocabulary();
        string source = System.IO.Path.Combine(_folder, "source");
        Directory.CreateDirectory(source);
        File.Copy(System.IO.Path.Combine(GoldenFolders.TextDenseTiny, "config.json"), System.IO.Path.Combine(source, "config.json"));
        byte[] file = File.ReadAllBytes(System.IO.Path.Combine(GoldenFolders.TextDenseTiny, "model.safetensors"));
        WriteWeights(file, Successors(new Tokenizer(spec)));
        File.WriteAllBytes(System.IO.Path.Combine(source, "model.safetensors"), file);
        using Checkpoint checkpoint = Checkpoint.Open(source);
        GgufExport.Write(checkpoint, Path, WeightType.F32, spec);
    }

    // What it says when it thinks, and when it does not. No piece may occur in the template's own text.
    public static string[] ThinkingScript { get; } =
    [
        "They want ", "a sum; ", "the tool adds.", "\n\n\n</", "think>\n\n", "Let me ", "see.", "\n\n<tool_call>\n<func", "tion=add>\n<parameter=a>\n2", "0\n</parameter>\n",
        "<parameter=note>\nsay \"hi\"", " <b>\n</parameter>\n</function>", "\n</tool_call>",
    ];

    public static string[] PlainScript { get; } = ["Hello", ", dear", " wörld 你", "好!", " Bye", "."];

    public const string Thought = "They want a sum; the tool adds.";

    public const string Answer = "Let me see.";

    public const string Arguments = """{"a":20,"note":"say \"hi\" <b>"}""";

    public static string PlainAnswer { get; } = string.Concat(PlainScript);

    public static string ToolJson { get; } = """{"type":"object","properties":{"a":{"type":"integer"},"note":{"type":"string"}},"required":["a"]}""";

    public string Path { get; }

    // Without a prefix store unless one is asked for: a request asked twice is computed twice.
    public Engine Load(int contextLength = 2048) => Load(new EngineOptions { ContextLength = contextLength });

    public Engine Load(EngineOptions options) =>
        Engine.Load(Path, options with { ContextLength = options.ContextLength ?? 2048, ThreadCount = 1, PrefixCacheBytes = options.PrefixCacheBytes ?? 0 });

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private TokenizerSpec Vocabulary()
    {
        TokenizerSpec made = SyntheticVocabulary.Create(VocabularySize, SpareCount);
        int firstSpare = VocabularySize - SpareCount;
        AddedToken[] pieces = [.. _thinking.Concat(_plain).Select((text, i) => new AddedToken(firstSpare + i, text, false))];
        return new TokenizerSpec(made.Pieces, made.Merges, [.. made.AddedTokens, .. pieces], made.PreTokenizer) { EosId = made.EosId, PaddingId = made.PaddingId };
    }

    private List<(int Before, int Next)> Successors(Tokenizer tokenizer)
    {
        var chain = new List<(int, int)>();
        foreach ((string start, string[] script) in (ReadOnlySpan<(string, string[])>)[("\n", _thinking), ("\n\n", _plain)])
        {
            int before = Assert.Single(tokenizer.Encode(start));
            foreach (string piece in (string[])[.. script, "<|im_end|>"])
            {
                Assert.True(tokenizer.TryGetId(piece, out int id));
                chain.Add((before, id));
                before = id;
            }
        }

        return chain;
    }

    private static void WriteWeights(byte[] file, List<(int Before, int Next)> successors)
    {
        int headerBytes = (int)BinaryPrimitives.ReadUInt64LittleEndian(file);
        using JsonDocument header = JsonDocument.Parse(file.AsMemory(8, headerBytes));
        foreach (JsonProperty tensor in header.RootElement.EnumerateObject())
        {
            if (tensor.Name == "__metadata__")
                continue;
            JsonElement offsets = tensor.Value.GetProperty("data_offsets");
            Span<byte> bytes = file.AsSpan((8 + headerBytes + offsets[0].GetInt32())..(8 + headerBytes + offsets[1].GetInt32()));
            if (tensor.Name.EndsWith("o_proj.weight", StringComparison.Ordinal) || tensor.Name.EndsWith("out_proj.weight", StringComparison.Ordinal) || tensor.Name.EndsWith("down_proj.weight", StringComparison.Ordinal))
                bytes.Clear();
            else if (tensor.Name.EndsWith("embed_tokens.weight", StringComparison.Ordinal))
                WriteMatrix(bytes, Enumerable.Range(0, VocabularySize).Select(id => (id, id)));
            else if (tensor.Name.EndsWith("lm_head.weight", StringComparison.Ordinal))
                WriteMatrix(bytes, successors.Select(pair => (pair.Next, pair.Before)));
        }
    }

    // [vocabulary, hidden] bfloat16: to each given row the code of a token is added.
    private static void WriteMatrix(Span<byte> bytes, IEnumerable<(int Row, int Token)> codes)
    {
        Assert.Equal(VocabularySize * HiddenSize * 2, bytes.Length);
        bytes.Clear();
        foreach ((int row, int token) in codes)
        {
            var random = new Random(token);
            for (int i = 0; i < HiddenSize; i++)
            {
                Span<byte> cell = bytes.Slice(((row * HiddenSize) + i) * 2, 2);
                float value = BitConverter.Int32BitsToSingle(BinaryPrimitives.ReadUInt16LittleEndian(cell) << 16) + (random.Next(2) == 0 ? -1 : 1);
                BinaryPrimitives.WriteUInt16LittleEndian(cell, (ushort)(BitConverter.SingleToInt32Bits(value) >> 16));
            }
        }
    }
}
