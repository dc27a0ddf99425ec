using System.Globalization;
using System.Text;
using System.Text.Json;

namespace Qian.Cli.Serving;

// What a client has of a reply. `Said`: thinking, answer and calls, marked, as one text to compare. `Fault`: why it is none.
internal sealed record ServeReply(string Said, string Content, string Reasoning, string Finish, int PromptCount, int CachedCount, int OutputCount, string? Fault);

// A reply put together from the objects of any of three dialects, be they pieces of a stream or the whole.
internal sealed class ReplyText
{
    private readonly StringBuilder _content = new();
    private readonly StringBuilder _reasoning = new();
    private readonly StringBuilder _calls = new();
    private string _finish = "";
    private string? _fault;
    private int _promptCount;
    private int _cachedCount;
    private int _outputCount;

    // Whether the object says something, be it only that a token came.
    public bool Take(JsonElement data)
    {
        if (data.TryGetProperty("error", out JsonElement error) && error.ValueKind == JsonValueKind.Object)
        {
            _fault = error.ToString();
            return false;
        }

        bool says = false;
        if (data.TryGetProperty("usage", out JsonElement usage))
            TakeUsage(usage);
        if (data.TryGetProperty("message", out JsonElement message) && message.TryGetProperty("usage", out JsonElement begun))
            TakeUsage(begun);
        if (data.TryGetProperty("choices", out JsonElement choices))
        {
            foreach (JsonElement choice in choices.EnumerateArray())
            {
                says = true;
                TakeChoice(choice);
            }
        }
        else if (data.TryGetProperty("delta", out JsonElement delta))
        {
            says = true;
            TakeBlock(delta);
        }
        else if (data.TryGetProperty("content_block", out JsonElement block))
        {
            TakeBlock(block);
        }
        else if (data.TryGetProperty("content", out JsonElement blocks) && blocks.ValueKind == JsonValueKind.Array)
        {
            foreach (JsonElement whole in blocks.EnumerateArray())
                TakeBlock(whole);
            TakeFinish(data, "stop_reason");
        }

        return says;
    }

    public ServeReply End(string? fault)
    {
        string content = _content.ToString(), reasoning = _reasoning.ToString();
        string said = string.Create(CultureInfo.InvariantCulture, $"{_finish} {_outputCount} [{reasoning}] [{content}] [{_calls}]");
        return new ServeReply(said, content, reasoning, _finish, _promptCount, _cachedCount, _outputCount, _fault ?? fault);
    }

    private void TakeChoice(JsonElement choice)
    {
        TakeFinish(choice, "finish_reason");
        Append(_content, choice, "text");
        if (choice.TryGetProperty("delta", out JsonElement said) || choice.TryGetProperty("message", out said))
        {
            Append(_content, said, "content");
            Append(_reasoning, said, "reasoning_content");
            if (said.TryGetProperty("tool_calls", out JsonElement calls) && calls.ValueKind == JsonValueKind.Array)
            {
                foreach (JsonElement call in calls.EnumerateArray())
                {
                    Append(_calls, call.GetProperty("function"), "name");
                    Append(_calls, call.GetProperty("function"), "arguments");
                }
            }
        }
    }

    // A block of Anthropic's, or a piece of one, or the end of the message.
    private void TakeBlock(JsonElement block)
    {
        TakeFinish(block, "stop_reason");
        Append(_content, block, "text");
        Append(_reasoning, block, "thinking");
        Append(_calls, block, "name");
        Append(_calls, block, "partial_json");
        if (block.TryGetProperty("input", out JsonElement input) && input.ValueKind == JsonValueKind.Object && input.EnumerateObject().Any())
            _calls.Append(input.GetRawText());
    }

    private void TakeUsage(JsonElement usage)
    {
        if (usage.ValueKind != JsonValueKind.Object)
            return;
        _promptCount = Count(usage, "prompt_tokens") ?? Count(usage, "input_tokens") ?? _promptCount;
        _outputCount = Count(usage, "completion_tokens") ?? Count(usage, "output_tokens") ?? _outputCount;
        if (usage.TryGetProperty("prompt_tokens_details", out JsonElement details) && details.ValueKind == JsonValueKind.Object)
            _cachedCount = Count(details, "cached_tokens") ?? _cachedCount;
    }

    private void TakeFinish(JsonElement from, string name)
    {
        if (from.TryGetProperty(name, out JsonElement finish) && finish.ValueKind == JsonValueKind.String)
            _finish = finish.GetString()!;
    }

    private static void Append(StringBuilder text, JsonElement from, string name)
    {
        if (from.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.String)
            text.Append(value.GetString());
    }

    private static int? Count(JsonElement from, string name) => from.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.Number ? value.GetInt32() : null;
}
