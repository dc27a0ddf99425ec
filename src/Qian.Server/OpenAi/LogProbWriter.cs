using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Text;

namespace Qian.Server.OpenAi;

// Log-probabilities in the two spellings of OpenAI: objects per token (chat), and four lists (completions).
internal static class LogProbWriter
{
    // JSON has no infinity; this is what others write for "impossible".
    private const float Impossible = -9999;

    // "logprobs": {"content": [{token, logprob, bytes, top_logprobs}], "refusal": null}
    public static void WriteChat(Utf8JsonWriter json, Tokenizer tokenizer, IEnumerable<GeneratedToken> tokens)
    {
        json.WriteStartObject("logprobs");
        WriteList(json, "content", tokenizer, tokens);
        json.WriteNull("refusal");
        json.WriteEndObject();
    }

    // [{token, logprob, bytes, top_logprobs}]
    public static void WriteList(Utf8JsonWriter json, string name, Tokenizer tokenizer, IEnumerable<GeneratedToken> tokens)
    {
        json.WriteStartArray(name);
        foreach (GeneratedToken token in tokens)
        {
            json.WriteStartObject();
            WriteToken(json, tokenizer, token.Id, token.LogProbability ?? 0);
            json.WriteStartArray("top_logprobs");
            foreach (TokenLogProbability alternative in token.Alternatives ?? [])
            {
                json.WriteStartObject();
                WriteToken(json, tokenizer, alternative.Id, alternative.LogProbability);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    public static float Finite(float logProbability) => float.IsFinite(logProbability) ? logProbability : Impossible;

    // A token's text; half a character is told by its bytes, as OpenAI does.
    public static string TextOf(Tokenizer tokenizer, int id)
    {
        string text = tokenizer.Decode([id]);
        if (!text.Contains('\ufffd', StringComparison.Ordinal))
            return text;
        return "bytes:" + string.Concat(tokenizer.TokenBytes(id).ToArray().Select(value => $"\\x{value:x2}"));
    }

    private static void WriteToken(Utf8JsonWriter json, Tokenizer tokenizer, int id, float logProbability)
    {
        json.WriteString("token", tokenizer.Decode([id]));
        json.WriteNumber("logprob", Finite(logProbability));
        json.WriteStartArray("bytes");
        foreach (byte value in tokenizer.TokenBytes(id))
            json.WriteNumberValue(value);
        json.WriteEndArray();
    }
}
