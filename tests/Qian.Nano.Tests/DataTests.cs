using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Qian.Inference.Chat;
using Qian.Inference.Text;
using Qian.Training;
using Qian.Training.Vocabulary;

namespace Qian.Nano.Tests;

// What the data promises: held-out compositions, wordings and names are disjoint from training, excluded sentences and their
// paraphrases do not occur, tool transcripts are consistent, lengths stay small, and the same seed gives the same bytes.
public partial class DataTests
{
    private const string Largest = "(largest|maximum|greatest|biggest|highest)";

    private static readonly Lazy<Conversation[]> s_training = new(() => Draw(11, Split.Training, 30_000));
    private static readonly Lazy<Conversation[]> s_heldOut = new(() => Draw(12, Split.HeldOut, 4_000));

    [Fact]
    public void HeldOutTraitsAreDisjointFromTraining()
    {
        Assert.All(s_training.Value.SelectMany(sample => sample.Traits), trait => Assert.False(Partition.IsHeldOut(trait.Kind, trait.Key) && !trait.Key.StartsWith("Write|a C# method|that returns", StringComparison.Ordinal), $"{trait} in training"));
        Assert.All(s_heldOut.Value.SelectMany(sample => sample.Traits), trait => Assert.True(Partition.IsHeldOut(trait.Kind, trait.Key), $"{trait} in held-out"));
        foreach (Conversation sample in s_heldOut.Value)
        {
            string[] kinds = sample.Family switch { "functions" => ["composition", "wording", "name"], "tools" or "recall" => ["request"], "talk" => ["question"], _ => ["form", "request"] };
            Assert.Subset(sample.Traits.Select(trait => trait.Kind).ToHashSet(), kinds.ToHashSet());
        }
    }

    // The same, seen in the text alone.
    [Fact]
    public void HeldOutNamesAndRequestsDoNotOccurInTraining()
    {
        HashSet<string> names = Identifiers(s_training.Value);
        HashSet<string> heldOut = Identifiers(s_heldOut.Value);
        Assert.True(names.Count > 2000 && heldOut.Count > 300, $"{names.Count} and {heldOut.Count} names");
        Assert.Empty(heldOut.Intersect(names));
        Assert.Empty(s_heldOut.Value.Select(sample => sample.Turns[0].Content).Intersect(s_training.Value.Select(sample => sample.Turns[0].Content)));
    }

    [Fact]
    public void ExcludedSentencesAndParaphrasesAreNotTrainedOn()
    {
        int relatives = 0;
        foreach (Conversation sample in Draw(13, Split.Training, 40_000).Concat(s_training.Value))
        {
            string request = sample.Turns[0].Content;
            Assert.DoesNotContain(sample.Turns, turn => turn.Role == "user" && turn.Content.Contains("sky", StringComparison.OrdinalIgnoreCase));
            Assert.False(Exclusions.Excludes(request), request);
            foreach (string text in sample.Turns.SelectMany(turn => (turn.Call?.Arguments.Select(argument => argument.Value) ?? []).Append(turn.Content)))
                Assert.False(AnswersTheDemonstration(text), $"{request}\n{text}");
            Assert.DoesNotMatch(@$"C#[^\n]*(?<!second ){Largest} (element|number|value|integer)s? (in|of|from|among) (an|a given|the) (int array|array of int)", request);
            relatives += Regex.IsMatch(request, $"Python.* {Largest} (element|number|value|integer) |C#.* (smallest|second largest|second greatest) (element|number|value|integer) (in|of|from) (an|a given) (int array|array of ints)|C#.* {Largest} (element|number|value) (in|of|from) (a|a given) (double array|list of ints|long array)") ? 1 : 0;
        }

        // What the demonstration has to be generalised from is there.
        Assert.True(relatives > 60, $"{relatives} relatives");
        Assert.Contains(s_training.Value, sample => sample.Turns[0].Content.StartsWith("Write a C# method that returns the ", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("Please give me a C# function which finds the biggest number in an int array", true)]
    [InlineData("C# method: largest element of an array of ints", true)]
    [InlineData("Write a method in C# returning the maximum of an int array.", true)]
    [InlineData("Why's the sky so blue", false)]
    [InlineData("Why is the sky blue", true)]
    [InlineData("Write a C# method that returns the smallest element of an int array.", false)]
    [InlineData("Write a Python function that returns the largest element of an int array.", false)]
    public void RequestsAreComparedByTheirContent(string request, bool excluded) => Assert.Equal(excluded, Exclusions.Excludes(request));

    [Fact]
    public void TranscriptsOfRepairsAreConsistent()
    {
        for (int i = 0; i < 800; i++)
        {
            Dice dice = Dice.For(21, "repair", i);
            RepairSession session = RepairSession.Draw(dice, i % 4 == 0 ? Split.HeldOut : Split.Training);
            Conversation sample = session.Transcript(dice);
            Assert.True(session.SoundText.Split('\n').Length <= 16 && session.TestsText.Split('\n').Length <= 15, session.SoundText);
            string text = session.SickText;
            for (int at = 0; at < sample.Turns.Count; at++)
            {
                if (sample.Turns[at].Call is not { Tool: "write_file" or "edit_file" } change || sample.Turns[at + 1].Content.StartsWith("error:", StringComparison.Ordinal))
                    continue;
                Dictionary<string, string> arguments = change.Arguments.ToDictionary(argument => argument.Name, argument => argument.Value);
                text = change.Tool == "write_file" ? arguments["content"] + "\n" : ReplaceOnce(text, arguments["old"], arguments["new"]);
            }

            Assert.Equal(session.SoundText, text);
            Assert.NotEqual(session.SoundText, session.SickText);
            // A failure is seen, corrected, and gone.
            List<string> reports = [.. sample.Turns.Where(turn => turn.Role == "tool" && turn.Content.Contains(" tests ", StringComparison.Ordinal)).Select(turn => turn.Content)];
            Assert.True(reports.Count >= 2);
            Assert.Contains("FAIL", reports[0], StringComparison.Ordinal);
            Assert.EndsWith("tests passed", reports[^1], StringComparison.Ordinal);
            // What went wrong is told by the tools, and only that turn is not learnt.
            Assert.All(sample.Turns.Index().Where(turn => turn.Item.IsMistake), turn => Assert.True(sample.Turns[turn.Index + 1].Content.StartsWith("error:", StringComparison.Ordinal) || !sample.Turns[turn.Index + 3].Content.EndsWith("passed", StringComparison.Ordinal)));
            Assert.False(sample.Turns[^1].IsMistake);
        }
    }

    [Fact]
    public void LengthsStaySmallAndTheTemplateTakesEverySample()
    {
        Conversation[] samples = s_training.Value[..8000];
        string path = Path.GetTempFileName();
        DataWriter.Write(path, 11, Split.Training, samples.Length, null);
        Tokenizer tokenizer = BytePairTrainer.Train(VocabularyVerb.Texts(path, samples.Length), 4096).ToTokenizer();
        File.Delete(path);
        var chats = new ChatSamples(tokenizer, ChatTemplate.Default);
        long characters = 0;
        long tokens = 0;
        int longestAnswer = 0;
        int longestSample = 0;
        int cutCount = 0;
        foreach (Conversation sample in samples)
        {
            Sample encoded = chats.ToSample(ConversationJson.Read(Line(sample)).Conversation!, LossTokens.Assistant, "test")!;
            longestSample = Math.Max(longestSample, encoded.Tokens.Length);
            cutCount += encoded.Tokens.Length > 1024 ? 1 : 0;
            characters += sample.TotalLength;
            tokens += encoded.Tokens.Length;
            if (sample.Family == "functions")
                longestAnswer = Math.Max(longestAnswer, tokenizer.Encode(sample.Turns[^1].Content).Length);
        }

        Assert.True(longestAnswer <= 120, $"longest answer {longestAnswer} tokens");
        // Training cuts at 1,024 tokens: a few repairs in which something went wrong twice lose their end.
        Assert.True(longestSample <= 1500 && cutCount <= samples.Length / 100, $"longest sample {longestSample} tokens, {cutCount} above 1,024");
        Assert.InRange((double)characters / tokens, 0.8 * DataWriter.CharactersPerToken, 1.25 * DataWriter.CharactersPerToken);
    }

    [Fact]
    public void SharesAreAsAskedAndFilesReproducible()
    {
        string folder = Directory.CreateTempSubdirectory().FullName;
        DataSummary summary = DataWriter.Write(Path.Combine(folder, "a"), 5, Split.Training, null, 100_000);
        DataWriter.Write(Path.Combine(folder, "b"), 5, Split.Training, null, 100_000);
        DataWriter.Write(Path.Combine(folder, "c"), 6, Split.Training, null, 100_000);
        Assert.Equal(File.ReadAllBytes(Path.Combine(folder, "a")), File.ReadAllBytes(Path.Combine(folder, "b")));
        Assert.NotEqual(File.ReadAllBytes(Path.Combine(folder, "a")), File.ReadAllBytes(Path.Combine(folder, "c")));
        long all = summary.Families.Values.Sum(family => family.Written);
        Assert.InRange(summary.Families["functions"].Written / (double)all, 0.57, 0.63);
        Assert.InRange(summary.Families["tools"].Written / (double)all, 0.18, 0.23);
        Assert.InRange(summary.TokenEstimate, 100_000, 102_000);
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void FactsAreAtMostTwoHundred() => Assert.InRange(Facts.All.Length, 100, 200);

    [Fact]
    public void JsonAnswersAreJsonAndTheirValuesStandInTheText()
    {
        foreach (Conversation sample in s_training.Value.Where(sample => sample.Family == "json").Take(2000))
        {
            using JsonDocument answer = JsonDocument.Parse(sample.Turns[1].Content);
            foreach (JsonProperty field in answer.RootElement.EnumerateObject())
            {
                if (field.Value.ValueKind is JsonValueKind.String or JsonValueKind.Number)
                    Assert.Contains(field.Value.ToString(), sample.Turns[0].Content, StringComparison.Ordinal);
            }
        }
    }

    private static Conversation[] Draw(ulong seed, Split split, int count)
    {
        var mixture = new Mixture(seed, split);
        return [.. Enumerable.Range(0, count).Select(_ => mixture.Next())];
    }

    // Function names in what the assistant writes, as lower-case letters and digits, so that the languages fall together.
    private static HashSet<string> Identifiers(IEnumerable<Conversation> samples) =>
        [.. samples.Where(sample => sample.Family == "functions").SelectMany(sample => DefinedName().Matches(sample.Turns[^1].Content)).Select(match => (match.Groups[1].Value + match.Groups[2].Value).Replace("_", "", StringComparison.Ordinal).ToLowerInvariant())];

    [GeneratedRegex(@"public static \S+ (\w+)\(|^def (\w+)\(", RegexOptions.Multiline)]
    private static partial Regex DefinedName();

    // A C# method over one int array that returns its greatest element, by Max or by a loop.
    private static bool AnswersTheDemonstration(string text)
    {
        Match match = Regex.Match(text, @"public static int \w+\(int\[\] (\w+)\)");
        if (!match.Success)
            return false;
        string name = Regex.Escape(match.Groups[1].Value);
        return Regex.IsMatch(text, $@"(return|=>) {name}\.Max\(\);") || Regex.IsMatch(text, $@"foreach \(int (\w+) in {name}\)\n\s*\{{\n\s*if \(\1 > \w+\)\n\s*\w+ = \1;");
    }

    private static string ReplaceOnce(string text, string old, string with)
    {
        int at = text.IndexOf(old, StringComparison.Ordinal);
        Assert.True(at >= 0 && text.IndexOf(old, at + 1, StringComparison.Ordinal) < 0, $"'{old}' must occur once in\n{text}");
        return text[..at] + with + text[(at + old.Length)..];
    }

    private static byte[] Line(Conversation sample)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
            sample.WriteTo(json);
        return stream.ToArray();
    }
}
