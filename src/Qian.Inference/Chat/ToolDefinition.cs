using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference.Chat.Output;

namespace Qian.Inference.Chat;

/// <summary>A tool that the model may call, as the JSON that the template prints: <c>{"type": "function", "function": {…}}</c>.</summary>
public sealed class ToolDefinition
{
    /// <summary>Creates a definition from its JSON. A bare function (its name at the top level) is wrapped as the template expects it.</summary>
    /// <param name="json">The tool, in OpenAI's form.</param>
    /// <exception cref="BadRequestException">The JSON is no object, or has no function with a name, or holds text that is no Unicode.</exception>
    public ToolDefinition(JsonElement json)
    {
        if (json.ValueKind != JsonValueKind.Object)
        {
            throw new BadRequestException($"A tool must be a JSON object, not {json.ValueKind}.");
        }

        if (!ArgumentText.IsText(json))
        {
            throw new BadRequestException("A string in a tool's definition holds half a surrogate pair.");
        }

        if (!json.TryGetProperty("function", out JsonElement function) && json.TryGetProperty("name", out _))
        {
            json = Wrap(json);
            function = json.GetProperty("function");
        }

        if (function.ValueKind != JsonValueKind.Object
            || !function.TryGetProperty("name", out JsonElement name)
            || name.ValueKind != JsonValueKind.String
            || MessageJson.String(name) is not { Length: > 0 } text)
        {
            throw new BadRequestException("A tool must have a \"function\" object with a \"name\".");
        }

        Json = json;
        Name = text;
        Description = function.TryGetProperty("description", out JsonElement description) && description.ValueKind == JsonValueKind.String
            ? MessageJson.String(description)
            : string.Empty;
        Parameters = function.TryGetProperty("parameters", out JsonElement parameters) ? parameters : default;
    }

    /// <summary>The whole definition. A part of the caller's document unless it had to be wrapped: keep that document alive.</summary>
    public JsonElement Json { get; }

    /// <summary>The function's name.</summary>
    public string Name { get; }

    /// <summary>What the function does; empty when not said.</summary>
    public string Description { get; }

    /// <summary>The JSON schema of the arguments; of kind <see cref="JsonValueKind.Undefined"/> when there is none.</summary>
    public JsonElement Parameters { get; }

    // {"type": "function", "name": …} and {"name": …} alike.
    private static JsonElement Wrap(JsonElement bare)
    {
        var function = new JsonObject();
        foreach (JsonProperty property in bare.EnumerateObject())
        {
            if (property.Name != "type")
            {
                function[property.Name] = JsonNode.Parse(property.Value.GetRawText());
            }
        }

        return JsonSerializer.SerializeToElement(new JsonObject { ["type"] = "function", ["function"] = function });
    }
}
