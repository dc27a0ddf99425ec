using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;

namespace Qian.Inference.Verification;

// Runs model outputs that are known to break parsers through ours and compares reasoning, content, calls, finish and the repaired
// flag with what is expected; first in one piece, then split at every place and character by character, where the joined deltas must
// come to the same.
internal static class ToolCallCases
{
    public static bool Recognises(string path) => Path.GetFileName(path) == "tool-call-cases.json";

    public static IReadOnlyList<VerificationResult> Run(string path)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(path));
        var results = new List<VerificationResult>();
        foreach (JsonElement golden in document.RootElement.EnumerateArray())
        {
            string detail = Difference(golden);
            results.Add(new VerificationResult(
                $"tool call {golden.GetProperty("name").GetString()}", "outputs that differ", detail.Length == 0 ? 0 : 1, 0, detail.Length == 0, detail));
        }

        return results;
    }

    private static string Difference(JsonElement golden)
    {
        string raw = golden.GetProperty("raw").GetString()!;
        IReadOnlyList<ToolDefinition>? tools = MessageJson.ReadTools(golden.GetProperty("tools"));
        bool thinks = golden.GetProperty("thinking_prompt").GetBoolean();
        bool isCut = golden.GetProperty("ended").GetString() == "length";
        Reply whole = Parse(raw, tools, thinks, isCut, chunkLength: raw.Length, firstLength: 0);
        string detail = Compare(whole.Output, golden.GetProperty("expected"));
        for (int i = 0; i <= raw.Length && detail.Length == 0; i++)
        {
            detail = Compare(whole, Parse(raw, tools, thinks, isCut, raw.Length, firstLength: i), $"split at {i}");
        }

        foreach (int length in (ReadOnlySpan<int>)[1, 2, 3, 7])
        {
            detail = detail.Length > 0 ? detail : Compare(whole, Parse(raw, tools, thinks, isCut, length, 0), $"in steps of {length}");
        }

        return detail;
    }

    // What a client of the stream puts together, beside what the parser says it came to.
    private static Reply Parse(string raw, IReadOnlyList<ToolDefinition>? tools, bool thinks, bool isCut, int chunkLength, int firstLength)
    {
        var parser = new AssistantOutputParser(tools, thinks);
        string deltas = string.Empty;
        var texts = new SortedDictionary<string, string>(StringComparer.Ordinal);
        for (int at = 0, length = firstLength; at < raw.Length; at += length, length = chunkLength)
        {
            length = Math.Min(length, raw.Length - at);
            Collect(parser.Feed(raw.AsSpan(at, length)), texts);
        }

        Collect(parser.Finish(isCut), texts);
        foreach ((string stream, string text) in texts)
        {
            deltas += $"{stream}: {JsonSerializer.Serialize(text)}\n";
        }

        AssistantOutput output = parser.Output;
        string mismatch = Joined("Reasoning") != output.Reasoning ? "reasoning" : Joined("Content") != output.Content ? "content" : string.Empty;
        for (int i = 0; i < output.ToolCalls.Count; i++)
        {
            mismatch = Joined($"ToolCallArguments {i:000}") != output.ToolCalls[i].ArgumentsText ? $"arguments of call {i}" : mismatch;
            mismatch = Joined($"ToolCallStarted {i:000}") != output.ToolCalls[i].Name ? $"name of call {i}" : mismatch;
        }

        return new Reply(output, deltas, mismatch);

        string Joined(string stream) => texts.GetValueOrDefault(stream, string.Empty);
    }

    private static void Collect(IReadOnlyList<OutputEvent> events, SortedDictionary<string, string> texts)
    {
        foreach (OutputEvent one in events)
        {
            string stream = one.CallIndex < 0 ? one.Kind.ToString() : $"{one.Kind} {one.CallIndex:000}";
            texts[stream] = texts.GetValueOrDefault(stream, string.Empty) + one.Text;
        }
    }

    private static string Compare(Reply whole, Reply split, string how)
    {
        if (whole.Mismatch.Length > 0 || split.Mismatch.Length > 0)
        {
            return $"{how}: the deltas do not add up to the {whole.Mismatch}{split.Mismatch}";
        }

        return whole.Deltas != split.Deltas || whole.Output.IsRepaired != split.Output.IsRepaired || whole.Output.Finish != split.Output.Finish
            ? $"{how}: expected {whole.Deltas}found {split.Deltas}"
            : string.Empty;
    }

    private static string Compare(AssistantOutput output, JsonElement expected)
    {
        string reasoning = Field("reasoning", expected.GetProperty("reasoning").GetString()!, output.Reasoning);
        string content = Field("content", expected.GetProperty("content").GetString()!, output.Content);
        string finish = Field("finish", expected.GetProperty("finish").GetString()!, output.Finish);
        string repaired = Field("repaired", expected.GetProperty("repaired").GetBoolean().ToString(), output.IsRepaired.ToString());
        JsonElement calls = expected.GetProperty("tool_calls");
        string count = Field("number of calls", $"{calls.GetArrayLength()}", $"{output.ToolCalls.Count}");
        string detail = reasoning + content + finish + count + repaired;
        for (int i = 0; i < output.ToolCalls.Count && count.Length == 0; i++)
        {
            JsonElement call = calls[i];
            ParsedToolCall found = output.ToolCalls[i];
            bool isComplete = !call.TryGetProperty("complete", out JsonElement complete) || complete.GetBoolean();
            detail += Field($"name of call {i}", call.GetProperty("name").GetString()!, found.Name);
            detail += Field($"completeness of call {i}", isComplete.ToString(), found.IsComplete.ToString());
            if (!JsonElement.DeepEquals(call.GetProperty("arguments"), found.Arguments))
            {
                detail += Field($"arguments of call {i}", call.GetProperty("arguments").GetRawText(), found.Arguments.GetRawText());
            }
        }

        return detail;
    }

    private static string Field(string name, string expected, string found) => expected == found
        ? string.Empty
        : $"{name}: expected {JsonSerializer.Serialize(expected)}, found {JsonSerializer.Serialize(found)}; ";

    private sealed record Reply(AssistantOutput Output, string Deltas, string Mismatch);
}
