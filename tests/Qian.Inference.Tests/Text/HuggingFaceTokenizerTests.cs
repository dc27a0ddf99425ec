using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference.Text;

using Qian.Inference.Formats;

using Qian.Inference.Tests.Fuzzing;

namespace Qian.Inference.Tests.Text;

public sealed class HuggingFaceTokenizerTests
{
    private const string Sample = "The rain in Spain 's 123 क्ष\n<think>";

    [Fact]
    public void MergesAsStringsAndAsPairsMeanTheSame()
    {
        JsonObject pairs = SmallTokenizer();
        foreach (JsonNode? merge in pairs["model"]!["merges"]!.AsArray().ToList())
        {
            string[] parts = merge!.GetValue<string>().Split(' ');
            merge.ReplaceWith(new JsonArray(parts[0], parts[1]));
        }

        TokenizerSpec expected = Read(SmallTokenizer());
        TokenizerSpec found = Read(pairs);
        Assert.Equal(expected.Merges, found.Merges);
        Assert.True(expected.Merges.Length > 100);
    }

    [Fact]
    public void VocabularyAndMergesFilesMeanTheSame()
    {
        JsonObject tokenizer = SmallTokenizer();
        TokenizerSpec expected = Read(tokenizer);
        string merges = "#version: 0.2\r\n" + string.Join("\r\n", tokenizer["model"]!["merges"]!.AsArray().Select(merge => merge!.GetValue<string>())) + "\n";
        var config = new JsonObject
        {
            ["added_tokens_decoder"] = new JsonObject(
                expected.AddedTokens.Select(token => KeyValuePair.Create($"{token.Id}", (JsonNode?)new JsonObject { ["content"] = token.Text, ["special"] = token.IsControl }))),
            ["eos_token"] = "<|im_end|>",
            ["pad_token"] = new JsonObject { ["content"] = "<|endoftext|>" },
            ["bos_token"] = null,
        };
        TokenizerSpec found = HuggingFaceTokenizer.ReadVocabularyAndMerges(
            Bytes(tokenizer["model"]!["vocab"]!), Encoding.UTF8.GetBytes(merges), Bytes(config), expected.RowCount + 5);
        Assert.Equal(expected.Merges, found.Merges);
        Assert.Equal(expected.AddedTokens, found.AddedTokens);
        Assert.Equal(expected.RowCount + 5, found.RowCount);
        Assert.Equal("<|im_end|>", expected.AddedTokens.First(token => token.Id == found.EosId).Text);
        Assert.Equal("<|endoftext|>", expected.AddedTokens.First(token => token.Id == found.PaddingId).Text);
        Assert.Null(found.BosId);
        Assert.Equal(new Tokenizer(expected).Encode(Sample, true), new Tokenizer(found).Encode(Sample, true));
    }

    [Fact]
    public void TheConfigAddsTokensThatTheTokenizerLacks()
    {
        TokenizerSpec plain = Read(SmallTokenizer());
        byte[] config = Bytes(new JsonObject
        {
            ["added_tokens_decoder"] = new JsonObject { [$"{plain.RowCount}"] = new JsonObject { ["content"] = "<tts_new>", ["special"] = true } },
        });
        var tokenizer = new Tokenizer(HuggingFaceTokenizer.ReadTokenizerJson(Bytes(SmallTokenizer()), config));
        Assert.Equal([plain.RowCount], tokenizer.Encode("<tts_new>", true));
    }

    [Theory]
    [InlineData("$.model.type", "\"Unigram\"", "BPE")]
    [InlineData("$.model.ignore_merges", "true", "ignore_merges")]
    [InlineData("$.model.byte_fallback", "true", "byte_fallback")]
    [InlineData("$.model.merges", "[\"q q\"]", "qq")]
    [InlineData("$.model.merges", "[[\"q\"]]", "two tokens")]
    [InlineData("$.model.vocab", "{\"a\": 2000000000}", "2000000000")]
    [InlineData("$.model.vocab", "{\"a\": 0, \"b\": 0}", "\"b\" with id 0")]
    [InlineData("$.model.vocab", "{\"\\ud800\": 0}", "Unicode")]
    [InlineData("$.normalizer", "{\"type\": \"Lowercase\"}", "Lowercase")]
    [InlineData("$.pre_tokenizer", "null", "pre_tokenizer")]
    [InlineData("$.pre_tokenizer.pretokenizers", "[{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\w+\"}}]", "\\w+")]
    [InlineData("$.pre_tokenizer.pretokenizers", "[{\"type\": \"Digits\"}]", "Digits")]
    [InlineData("$.added_tokens", "[{\"id\": 0, \"content\": \"<x>\"}]", "<x>")]
    [InlineData("$.added_tokens", "[{\"id\": 9000, \"content\": \"\"}]", "9000")]
    [InlineData("$.added_tokens", "[{\"id\": 9000, \"content\": \"<x>\", \"lstrip\": true}]", "lstrip")]
    public void WhatWouldChangeTheIdsIsRefusedByName(string path, string value, string named)
    {
        JsonObject tokenizer = SmallTokenizer();
        string[] steps = path.Split('.')[1..];
        JsonNode parent = tokenizer;
        foreach (string step in steps[..^1])
        {
            parent = parent[step]!;
        }

        parent[steps[^1]] = "REPLACED";
        string text = tokenizer.ToJsonString().Replace("\"REPLACED\"", value, StringComparison.Ordinal);
        var error = Assert.Throws<BadModelFileException>(() => new Tokenizer(HuggingFaceTokenizer.ReadTokenizerJson(Encoding.UTF8.GetBytes(text))));
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFolderWithoutATokenizerIsRefused()
    {
        string folder = Directory.CreateTempSubdirectory().FullName;
        Assert.Throws<BadModelFileException>(() => HuggingFaceTokenizer.ReadFolder(folder));
        Directory.Delete(folder);
    }

    [Fact]
    public void FewerModelRowsThanTokensAreRefused()
    {
        Assert.Throws<BadModelFileException>(() => HuggingFaceTokenizer.ReadTokenizerJson(Bytes(SmallTokenizer()), null, 100));
    }

    // Each mutation either still reads, and then works, or is a BadModelFileException; anything else fails the test.
    [Fact]
    public void MutatedFilesNeverCrash()
    {
        byte[] original = Bytes(SmallTokenizer());
        var random = new Random(12);
        int refusedCount = 0;
        string[] splices = ["[", "]", "{", "}", "\"", "null", "-1", "99999999999", "1e400", "\\ud800", "\uFFFF", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", ",", ":", "\"id\":", " ", "0"];
        for (int i = 0; i < Mutator.Count(1500); i++)
        {
            byte[] mutated = original;
            int changeCount = random.Next(1, 4);
            for (int change = 0; change < changeCount; change++)
            {
                mutated = Mutate(mutated, random, splices);
            }

            try
            {
                var tokenizer = new Tokenizer(HuggingFaceTokenizer.ReadTokenizerJson(mutated));
                tokenizer.Decode(tokenizer.Encode(Sample, true));
            }
            catch (BadModelFileException)
            {
                refusedCount++;
            }
        }

        Assert.InRange(refusedCount, Mutator.Count(1500) / 3, Mutator.Count(1500) - 1);
    }

    private static byte[] Mutate(byte[] bytes, Random random, string[] splices)
    {
        // The interesting part, outside vocabulary and merges, is at both ends of the file; half of the mutations go there.
        int at = random.Next(2) == 0 ? random.Next(bytes.Length) : random.Next(2) == 0 ? random.Next(2500) % bytes.Length : bytes.Length - 1 - random.Next(Math.Min(400, bytes.Length));
        switch (random.Next(4))
        {
            case 0:
                byte[] flipped = [.. bytes];
                flipped[at] ^= (byte)(1 << random.Next(8));
                return flipped;
            case 1:
                return [.. bytes[..at], .. Encoding.UTF8.GetBytes(splices[random.Next(splices.Length)]), .. bytes[at..]];
            case 2:
                int count = Math.Min(random.Next(1, 30), bytes.Length - at);
                return bytes.Length - count > 100 ? [.. bytes[..at], .. bytes[(at + count)..]] : bytes;
            default:
                int from = random.Next(bytes.Length - 50);
                return [.. bytes[..at], .. bytes.AsSpan(from, 50), .. bytes[at..]];
        }
    }

    private static TokenizerSpec Read(JsonObject tokenizer)
    {
        return HuggingFaceTokenizer.ReadTokenizerJson(Bytes(tokenizer));
    }

    private static byte[] Bytes(JsonNode node)
    {
        return Encoding.UTF8.GetBytes(node.ToJsonString(new JsonSerializerOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }));
    }

    // The frame of the real file around a synthetic vocabulary of 600 tokens.
    private static JsonObject SmallTokenizer()
    {
        JsonObject frame = s_frame.DeepClone().AsObject();
        TokenizerSpec spec = SyntheticVocabulary.Create(600);
        (string[] tokens, _, string[] merges) = spec.ToGguf();
        int baseCount = 600 - SyntheticVocabulary.AddedTokenCount;
        frame["model"]!["vocab"] = new JsonObject(Enumerable.Range(0, baseCount).Select(id => KeyValuePair.Create(tokens[id], (JsonNode?)id)));
        frame["model"]!["merges"] = new JsonArray([.. merges.Select(merge => (JsonNode)merge)]);
        frame["added_tokens"] = new JsonArray([.. spec.AddedTokens.Select(token => (JsonNode)new JsonObject { ["id"] = token.Id, ["content"] = token.Text, ["special"] = token.IsControl })]);
        return frame;
    }

    private static readonly JsonObject s_frame = ReadFrame();

    private static JsonObject ReadFrame()
    {
        JsonObject frame = JsonNode.Parse(File.ReadAllBytes(Path.Combine(TokenizerData.MiniFolder, "tokenizer.json")))!.AsObject();
        frame["model"]!["vocab"] = null;
        frame["model"]!["merges"] = null;
        frame["added_tokens"] = null;
        return frame;
    }
}
