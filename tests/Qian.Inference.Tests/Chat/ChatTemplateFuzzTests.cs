using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Jinja;

using Qian.Inference.Tests.Fuzzing;

namespace Qian.Inference.Tests.Chat;

// Seeded mutations of the official template and of the recorded conversations. Whatever comes of them, rendering ends, and the only
// exceptions are the two public ones.
public class ChatTemplateFuzzTests
{
    private static readonly JinjaLimits s_limits = new() { StepCount = 100_000, CharCount = 2_000_000, OutputCharCount = 1 << 20 };

    [Fact]
    public void MutatedTemplatesEndInTextOrInAnErrorOfOurs()
    {
        using JsonDocument cases = JsonDocument.Parse(File.ReadAllText(ChatData.PathOf("chat_template/cases.json")));
        JsonElement[] goldens = [.. cases.RootElement.GetProperty("cases").EnumerateArray()];
        using JsonDocument features = JsonDocument.Parse(File.ReadAllText(ChatData.PathOf("chat_template/jinja-expectations.json")));
        string[] sources =
        [
            ChatTemplate.Default.Source,
            .. features.RootElement.GetProperty("cases").EnumerateArray().Select(one => one.GetProperty("template").GetString()!),
        ];
        string[] tokens = ["{%", "%}", "{{", "}}", "{#", "-", "(", ")", "[", "]", "'", "\"", "|", ".", "endif", "for x in", "messages", "0", "~", "is", "{% endfor %}", "\\", "\n"];
        var random = new Random(11);
        int renderedCount = 0;
        for (int i = 0; i < Mutator.Count(4000); i++)
        {
            string source = (i & 3) == 0 ? sources[0] : sources[random.Next(sources.Length)];
            for (int edits = random.Next(1, 4); edits > 0; edits--)
            {
                int at = random.Next(source.Length + 1);
                int length = Math.Min(random.Next(1, 12), source.Length - at);
                source = random.Next(3) switch
                {
                    0 => source.Remove(at, length),
                    1 => source.Insert(at, tokens[random.Next(tokens.Length)]),
                    _ => source.Insert(random.Next(source.Length + 1), source.Substring(at, length)),
                };
            }

            JsonElement golden = goldens[random.Next(goldens.Length)];
            renderedCount += TryRender(source, golden.GetProperty("messages"), golden.GetProperty("tools"), golden.GetProperty("kwargs")) ? 1 : 0;
        }

        Assert.InRange(renderedCount, Mutator.Count(4000) / 20, Mutator.Count(4000) * 19 / 20);
    }

    [Fact]
    public void MutatedConversationsEndInTextOrInAnErrorOfOurs()
    {
        using JsonDocument cases = JsonDocument.Parse(File.ReadAllText(ChatData.PathOf("chat_template/cases.json")));
        JsonElement[] goldens = [.. cases.RootElement.GetProperty("cases").EnumerateArray()];
        var random = new Random(12);
        int renderedCount = 0;
        for (int i = 0; i < Mutator.Count(4000); i++)
        {
            JsonNode? messages = JsonNode.Parse(goldens[random.Next(goldens.Length)].GetProperty("messages").GetRawText());
            for (int edits = random.Next(1, 4); edits > 0; edits--)
            {
                messages = Mutate(messages, random, 0);
            }

            JsonElement json = JsonSerializer.SerializeToElement(messages);
            JsonElement golden = goldens[random.Next(goldens.Length)];
            renderedCount += TryRender(ChatTemplate.Default.Source, json, golden.GetProperty("tools"), golden.GetProperty("kwargs")) ? 1 : 0;
            try
            {
                IReadOnlyList<Message> normalized = MessageNormalizer.Normalize(MessageJson.Read(json), ChatTemplate.Default.Summary);
                ChatTemplate.Default.Render(normalized, null, ChatTemplateOptions.Default);
            }
            catch (BadRequestException refusal)
            {
                Assert.NotEmpty(refusal.Message);
            }
        }

        Assert.InRange(renderedCount, Mutator.Count(4000) / 20, Mutator.Count(4000) * 19 / 20);
    }

    private static JsonNode? Mutate(JsonNode? node, Random random, int depth)
    {
        if (depth < 6 && random.Next(5) > 0)
        {
            if (node is JsonArray { Count: > 0 } array)
            {
                int index = random.Next(array.Count);
                JsonNode? child = array[index];
                array[index] = null;
                array[index] = Mutate(child, random, depth + 1);
                return array;
            }

            if (node is JsonObject { Count: > 0 } members)
            {
                string key = members.ElementAt(random.Next(members.Count)).Key;
                JsonNode? child = members[key];
                members.Remove(key);
                members[random.Next(8) == 0 ? key + "s" : key] = Mutate(child, random, depth + 1);
                return members;
            }
        }

        return random.Next(9) switch
        {
            0 => null,
            1 => JsonValue.Create(random.Next(100)),
            2 => JsonValue.Create(0.5),
            3 => JsonValue.Create(true),
            4 => JsonValue.Create("<tool_response>x</tool_response>"),
            5 => new JsonArray(),
            6 => new JsonObject { ["type"] = "text", ["text"] = "t" },
            7 => JsonValue.Create("{\"a\": [1, \"b"),
            _ => JsonValue.Create("system"),
        };
    }

    private static bool TryRender(string source, JsonElement messages, JsonElement tools, JsonElement kwargs)
    {
        try
        {
            ChatTemplate.Compile(source, s_limits).RenderJson(messages, tools, kwargs);
            return true;
        }
        catch (Exception refusal) when (refusal is BadRequestException or BadModelFileException)
        {
            Assert.NotEmpty(refusal.Message);
            return false;
        }
    }
}
