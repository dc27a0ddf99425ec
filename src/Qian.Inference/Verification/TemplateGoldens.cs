using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Jinja;

namespace Qian.Inference.Verification;

// Compares rendered prompts with recorded outputs of jinja2, error messages included. Reads two layouts: a folder with cases.json
// beside the chat_template.jinja that they were made with, and a single file of cases for the embedded template, which carries that
// template's hash.
internal static class TemplateGoldens
{
    public static bool Recognises(string path) => Directory.Exists(path)
        ? File.Exists(Path.Combine(path, "cases.json")) && File.Exists(Path.Combine(path, "chat_template.jinja"))
        : Path.GetFileName(path).EndsWith("chat_template.goldens.json", StringComparison.Ordinal);

    public static IReadOnlyList<VerificationResult> Run(string path)
    {
        bool isFolder = Directory.Exists(path);
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(isFolder ? Path.Combine(path, "cases.json") : path));
        ChatTemplate template = isFolder
            ? ChatTemplate.Compile(File.ReadAllText(Path.Combine(path, "chat_template.jinja")))
            : ChatTemplate.Default;
        var results = new List<VerificationResult>();
        foreach (JsonElement golden in document.RootElement.GetProperty("cases").EnumerateArray())
        {
            string name = golden.GetProperty("name").GetString()!;
            string expected = Expected(golden);
            string actual = Actual(template, golden);
            int differsAt = expected.AsSpan().CommonPrefixLength(actual);
            bool isEqual = expected == actual;
            results.Add(new VerificationResult(
                $"template {name}",
                "outputs that differ",
                isEqual ? 0 : 1,
                0,
                isEqual,
                isEqual ? string.Empty : $"at character {differsAt}: expected {Around(expected, differsAt)}, found {Around(actual, differsAt)}"));
        }

        return results;
    }

    private static string Expected(JsonElement golden)
    {
        foreach (string key in (ReadOnlySpan<string>)["expected", "rendered"])
        {
            if (golden.TryGetProperty(key, out JsonElement rendered))
            {
                return "text: " + rendered.GetString();
            }
        }

        return "error: " + golden.GetProperty(golden.TryGetProperty("error", out _) ? "error" : "error_type").GetString();
    }

    private static string Actual(ChatTemplate template, JsonElement golden)
    {
        JsonElement variables = golden.GetProperty("kwargs");
        JsonElement tools = golden.TryGetProperty("tools", out JsonElement beside) ? beside : default;
        if (tools.ValueKind == JsonValueKind.Undefined && variables.TryGetProperty("tools", out JsonElement within))
        {
            tools = within;
        }

        try
        {
            var segments = template.RenderJson(golden.GetProperty("messages"), tools, variables);
            return "text: " + string.Concat(segments.Select(segment => segment.Text));
        }
        catch (BadRequestException refusal) when (refusal.InnerException is TemplateException failure)
        {
            // The recordings name Python's exception type unless the template itself raised.
            return failure.Fault == TemplateFault.Raised ? $"error: {failure.Message}" : $"error: {failure.Fault}Error: {failure.Message}";
        }
    }

    private static string Around(string text, int index)
    {
        int start = Math.Max(0, index - 10);
        return JsonSerializer.Serialize(text[start..Math.Min(text.Length, index + 30)]);
    }
}
