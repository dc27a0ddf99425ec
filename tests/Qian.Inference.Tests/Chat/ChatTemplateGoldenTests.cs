using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Inference.Verification;

namespace Qian.Inference.Tests.Chat;

public class ChatTemplateGoldenTests
{
    private static readonly string s_folder = ChatData.PathOf("chat_template");
    private static readonly string s_file = ChatData.PathOf("chat_template/qwen3.6-chat_template.goldens.json");

    [Fact]
    public void FolderOfSixtyCasesRendersAsJinja2Does()
    {
        IReadOnlyList<VerificationResult> results = TemplateGoldens.Run(s_folder);
        Assert.Equal(60, results.Count);
        Assert.DoesNotContain(results, result => !result.Passed);
    }

    [Fact]
    public void FileOfThirtyEightCasesRendersAsJinja2Does()
    {
        IReadOnlyList<VerificationResult> results = TemplateGoldens.Run(s_file);
        Assert.Equal(38, results.Count);
        Assert.DoesNotContain(results, result => !result.Passed);
    }

    [Fact]
    public void GoldensAreRecognisedByTheirFiles()
    {
        Assert.True(TemplateGoldens.Recognises(s_folder));
        Assert.True(TemplateGoldens.Recognises(s_file));
        Assert.False(TemplateGoldens.Recognises(ChatData.PathOf("tool-calls")));
    }

    [Fact]
    public void EmbeddedTemplateIsTheOfficialOne()
    {
        string hash = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(ChatTemplate.Default.Source)));
        Assert.Equal("e84f32a23fdda27689f868aa4a1a5621f41133e51a48d7f3efcbea2839574259", hash);
        using JsonDocument goldens = JsonDocument.Parse(File.ReadAllText(s_file));
        Assert.Equal(hash, goldens.RootElement.GetProperty("template_sha256").GetString());
    }

    [Fact]
    public void NormalizingChangesNothingThatTheTemplateAccepts()
    {
        int count = 0;
        foreach (string path in (string[])[Path.Combine(s_folder, "cases.json"), s_file])
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllText(path));
            foreach (JsonElement golden in document.RootElement.GetProperty("cases").EnumerateArray())
            {
                if (!golden.TryGetProperty("expected", out JsonElement expected) && !golden.TryGetProperty("rendered", out expected))
                {
                    continue;
                }

                JsonElement kwargs = golden.GetProperty("kwargs");
                JsonElement tools = golden.TryGetProperty("tools", out JsonElement beside) ? beside
                    : kwargs.TryGetProperty("tools", out JsonElement within) ? within : default;
                IReadOnlyList<Message> messages = MessageNormalizer.Normalize(
                    MessageJson.Read(golden.GetProperty("messages")), ChatTemplate.Default.Summary);
                string rendered = ChatTemplate.Default.Render(
                    messages,
                    MessageJson.ReadTools(tools),
                    new ChatTemplateOptions
                    {
                        AddGenerationPrompt = kwargs.TryGetProperty("add_generation_prompt", out JsonElement add) && add.GetBoolean(),
                        EnableThinking = Flag(kwargs, "enable_thinking"),
                        PreserveThinking = Flag(kwargs, "preserve_thinking"),
                        AddVisionId = Flag(kwargs, "add_vision_id"),
                    });
                Assert.Equal(expected.GetString(), rendered);
                count++;
            }
        }

        Assert.Equal(84, count);
    }

    private static bool? Flag(JsonElement kwargs, string name) => kwargs.TryGetProperty(name, out JsonElement flag) ? flag.GetBoolean() : null;
}
