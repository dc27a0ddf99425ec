using System.Text;
using System.Text.Json;
using Qian.Inference.Chat.Jinja;

namespace Qian.Inference.Tests.Chat;

// Feature by feature against recorded outputs of jinja2 itself, error types and messages included.
public class JinjaExpectationTests
{
    [Fact]
    public void EveryFeatureRendersAsJinja2Does()
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(ChatData.PathOf("chat_template/jinja-expectations.json")));
        var variables = new Dictionary<string, JinjaValue>();
        foreach (JsonProperty variable in document.RootElement.GetProperty("variables").EnumerateObject())
        {
            variables[variable.Name] = JinjaJson.Read(variable.Value);
        }

        var differences = new StringBuilder();
        int count = 0;
        foreach (JsonElement golden in document.RootElement.GetProperty("cases").EnumerateArray())
        {
            string template = golden.GetProperty("template").GetString()!;
            string expected = golden.TryGetProperty("expected", out JsonElement text) ? text.GetString()!
                : golden.TryGetProperty("syntax_line", out JsonElement line) ? $"syntax error in line {line.GetInt32()}"
                : $"{golden.GetProperty("error").GetString()}: {golden.GetProperty("message").GetString()}";
            string actual = Render(template, variables);
            if (actual != expected)
            {
                differences.AppendLine($"{template}\n  expected {JsonSerializer.Serialize(expected)}\n  actual   {JsonSerializer.Serialize(actual)}");
            }

            count++;
        }

        Assert.Equal(160, count);
        Assert.True(differences.Length == 0, differences.ToString());
    }

    private static string Render(string template, Dictionary<string, JinjaValue> variables)
    {
        try
        {
            BlockNode parsed = JinjaParser.Parse(template, out _);
            return JinjaInterpreter.Render(parsed, variables, DateTimeOffset.UnixEpoch, JinjaLimits.Default).Value;
        }
        catch (TemplateException failure) when (failure.Fault == TemplateFault.Syntax)
        {
            return $"syntax error in line {failure.Line}";
        }
        catch (TemplateException failure)
        {
            return $"{(failure.Fault == TemplateFault.Raised ? "Template" : failure.Fault)}Error: {failure.Message}";
        }
    }
}
