using System.Text.Json;
using Qian.Inference.Chat;

namespace Qian.Inference.Tests.Chat;

public class MessageNormalizerTests
{
    [Theory]
    [InlineData("""[{"role":"developer","content":"D"},{"role":"user","content":"q"}]""", "<|im_start|>system\nD<|im_end|>\n<|im_start|>user\nq<|im_end|>\n")]
    [InlineData("""[{"role":"system","content":"A"},{"role":"developer","content":"B"},{"role":"system","content":" "},{"role":"user","content":"q"}]""", "<|im_start|>system\nA\n\nB<|im_end|>\n<|im_start|>user\nq<|im_end|>\n")]
    [InlineData("""[{"role":"user","content":"q"},{"role":"system","content":"late"}]""", "<|im_start|>user\nq<|im_end|>\n<|im_start|>user\n<system-reminder>\nlate\n</system-reminder><|im_end|>\n")]
    [InlineData("""[{"role":"user","content":null},{"role":"user","content":["a",{"type":"text","text":"b"}]}]""", "<|im_start|>user\n<|im_end|>\n<|im_start|>user\nab<|im_end|>\n")]
    [InlineData("""[{"role":"user","content":[{"type":"video_url","video_url":{"url":"v"}},{"type":"input_image","image_url":"i"},{"type":"image_url","image_url":{"url":"i"}}]}]""", "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|><|im_end|>\n")]
    public void ConversationsAreBroughtIntoTheTemplatesForm(string messages, string expected) => Assert.Equal(expected, Render(messages));

    [Theory]
    [InlineData("""{"x": 1}""", "<parameter=x>\n1\n</parameter>\n")]
    [InlineData("""{\"x\": \"1\", \"y\": 1.0}""", "<parameter=x>\n1\n</parameter>\n<parameter=y>\n1.0\n</parameter>\n")]
    [InlineData("", "")]
    [InlineData("null", "")]
    [InlineData("""{\"path\": \"a\", \"content\": \"half \\\"of""", "<parameter=path>\na\n</parameter>\n<parameter=content>\nhalf \"of\n</parameter>\n")]
    [InlineData("""{\"path\": \"a\", \"con""", "<parameter=path>\na\n</parameter>\n")]
    [InlineData("""{\"a\": {\"b\": [1, 2""", "<parameter=a>\n{\"b\": [1, 2]}\n</parameter>\n")]
    [InlineData("""no json""", "<parameter=arguments>\nno json\n</parameter>\n")]
    [InlineData("""[1, 2]""", "<parameter=arguments>\n[1, 2]\n</parameter>\n")]
    public void ToolArgumentsBecomeAnObject(string arguments, string parameters)
    {
        string json = arguments.StartsWith("{\"", StringComparison.Ordinal) || arguments.StartsWith('[') ? arguments : $"\"{arguments}\"";
        string messages = $$$"""[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","function":{"name":"f","arguments":{{{json}}}}}]}]""";
        Assert.EndsWith($"</think>\n\n<tool_call>\n<function=f>\n{parameters}</function>\n</tool_call><|im_end|>\n", Render(messages), StringComparison.Ordinal);
    }

    [Fact]
    public void BareFunctionsAreWrapped()
    {
        using JsonDocument bare = JsonDocument.Parse("""{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}""");
        var tool = new ToolDefinition(bare.RootElement);
        Assert.Equal("""{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}""", tool.Json.GetRawText());
        Assert.Equal("f", tool.Name);
        using JsonDocument whole = JsonDocument.Parse("""{"type": "function", "function": {"name": "g", "description": "d"}, "extra": 1}""");
        Assert.Equal(whole.RootElement.GetRawText(), new ToolDefinition(whole.RootElement).Json.GetRawText());
    }

    [Theory]
    [InlineData("""{"type": "function"}""")]
    [InlineData("""{"name": ""}""")]
    [InlineData("""{"function": {"name": 1}}""")]
    [InlineData("[]")]
    [InlineData("""{"name": "\ud800"}""")]
    public void ToolsWithoutANameAreRefused(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        Assert.Throws<BadRequestException>(() => new ToolDefinition(document.RootElement));
    }

    [Theory]
    [InlineData("""[{"role":"system","content":"x"}]""", "No user query found in messages.")]
    [InlineData("""[{"role":"critic","content":"x"},{"role":"user","content":"q"}]""", "Unexpected message role.")]
    [InlineData("""[{"content":"x"}]""", "Each message must be an object with a \"role\".")]
    [InlineData("""[{"role":"user","content":"\ud83d"}]""", "A string of the request holds half a surrogate pair.")]
    public void WhatCannotBeMeantIsAnError(string messages, string message) =>
        Assert.Equal(message, Assert.Throws<BadRequestException>(() => Render(messages)).Message);

    [Fact]
    public void ATemplateThatKnowsTheRolesGetsThemUnchanged()
    {
        ChatTemplate template = ChatTemplate.Compile("{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}");
        using JsonDocument json = JsonDocument.Parse("""[{"role":"developer","content":"a"},{"role":"user","content":"b"},{"role":"system","content":"c"}]""");
        IReadOnlyList<Message> messages = MessageNormalizer.Normalize(MessageJson.Read(json.RootElement), template.Summary);
        Assert.Equal("[developer]a[user]b[system]c", template.Render(messages, null, ChatTemplateOptions.Default));
    }

    private static string Render(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        IReadOnlyList<Message> messages = MessageNormalizer.Normalize(MessageJson.Read(document.RootElement), ChatTemplate.Default.Summary);
        return ChatTemplate.Default.Render(messages, null, ChatTemplateOptions.Default with { AddGenerationPrompt = false });
    }
}
