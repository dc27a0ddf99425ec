using System.Text.Encodings.Web;
using System.Text.Json;

namespace Qian.Cli;

// What --json prints: one object on one line, names in snake_case, text as people read it.
internal static class JsonOutput
{
    private static readonly JsonSerializerOptions s_options = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
    };

    public static void Print<T>(T value) => Console.WriteLine(JsonSerializer.Serialize(value, s_options));

    // A text in quotes, as JSON spells it.
    public static string Quote(string text) => JsonSerializer.Serialize(text, s_options);
}
