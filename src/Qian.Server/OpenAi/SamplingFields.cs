using System.Globalization;
using System.Text.Json;
using Qian.Inference;
using Qian.Server.Http;

namespace Qian.Server.OpenAi;

// The sampling fields that OpenAI's two endpoints share, with the official ranges, and those that local servers have added.
internal static class SamplingFields
{
    public const int MostChoices = 128;

    public const int MostAlternatives = 20;

    public static SamplingOptions Read(JsonFields body) => new()
    {
        Temperature = body.Number("temperature", 0, 2),
        TopP = body.Number("top_p", 0, 1),
        TopK = body.Integer("top_k", -1, int.MaxValue) is { } topK ? Math.Max(topK, 0) : null,
        MinP = body.Number("min_p", 0, 1),
        PresencePenalty = body.Number("presence_penalty", -2, 2),
        FrequencyPenalty = body.Number("frequency_penalty", -2, 2),
        RepetitionPenalty = body.Number("repetition_penalty", 0.01, 100),
        Seed = body.Bits("seed"),
        StopStrings = Stops(body),
        LogitBias = Biases(body),
        IgnoreEos = body.Flag("ignore_eos"),
    };

    // A string or a list of strings.
    private static string[]? Stops(JsonFields body)
    {
        JsonElement stop = body.Any("stop");
        string[] stops = stop.ValueKind switch
        {
            JsonValueKind.Undefined => [],
            JsonValueKind.String => [stop.GetString()!],
            JsonValueKind.Array => [.. JsonFields.AsList(stop, "stop", SamplingOptions.MaxStopStrings).Select((item, i) => JsonFields.AsText(item, $"stop[{i}]"))],
            _ => throw JsonFields.WrongType("stop", "a string or an array of strings", stop),
        };
        // Official replies take an empty string for none.
        stops = [.. stops.Where(text => text.Length > 0)];
        if (stops.Any(text => text.Length > SamplingOptions.MaxStopStringLength))
            throw body.Invalid("stop", $"a stop text may have {SamplingOptions.MaxStopStringLength} characters at most.");
        return stops.Length == 0 ? null : stops;
    }

    // Token ids as keys.
    private static Dictionary<int, float>? Biases(JsonFields body)
    {
        if (body.Object("logit_bias") is not { } map)
            return null;
        var biases = new Dictionary<int, float>();
        foreach (JsonProperty entry in map.Json.EnumerateObject())
        {
            if (!int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int id))
                throw body.Invalid("logit_bias", $"its keys must be token ids, and '{Shorten(entry.Name)}' is none.");
            biases[id] = (float)JsonFields.AsNumber(entry.Value, $"logit_bias.{entry.Name}", -100, 100);
            if (biases.Count > 4096)
                throw body.Invalid("logit_bias", "at most 4096 tokens may have a bias.");
        }

        return biases;
    }

    private static string Shorten(string text) => text.Length <= 40 ? text : text[..40] + "…";
}
