using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat.Output;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.Anthropic;

// Replies of /v1/messages, whole and as events: one content block after the other, each opened, continued and closed.
internal sealed class MessagesWriter : IReplyWriter
{
    private readonly EventStream _events;
    private readonly ReplyHead _head;
    private readonly ReplyRun _run;
    private readonly StringBuilder _held = new();   // text that came inside a call: its block follows the call's
    private int _blockIndex = -1;
    private ReplyBlockKind? _open;
    private ReplyEnd? _end;

    public MessagesWriter(EventStream events, ReplyHead head, ReplyRun run)
    {
        _events = events;
        _head = head;
        _run = run;
    }

    public static void WriteWhole(Utf8JsonWriter json, ReplyHead head, ReplyDraft draft, ReplyUsage usage)
    {
        json.WriteStartObject();
        WriteHead(json, head);
        json.WriteStartArray("content");
        foreach (ReplyBlock block in draft.Blocks)
        {
            json.WriteStartObject();
            switch (block.Kind)
            {
                case ReplyBlockKind.Thinking:
                    json.WriteString("type", "thinking");
                    json.WriteString("thinking", block.Text.ToString());
                    json.WriteString("signature", SignatureOf(head));
                    break;
                case ReplyBlockKind.Text:
                    json.WriteString("type", "text");
                    json.WriteString("text", block.Text.ToString());
                    break;
                default:
                    WriteCall(json, block.CallName);
                    json.WritePropertyName("input");
                    if (block.IsComplete)
                        json.WriteRawValue(block.Text.ToString());
                    else
                        draft.End!.CutArguments.WriteTo(json);
                    break;
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
        WriteStop(json, draft.End!);
        WriteUsage(json, usage);
        json.WriteEndObject();
    }

    public void Begin()
    {
        Utf8JsonWriter json = Start("message_start");
        json.WriteStartObject("message");
        WriteHead(json, _head);
        json.WriteStartArray("content");
        json.WriteEndArray();
        json.WriteNull("stop_reason");
        json.WriteNull("stop_sequence");
        WriteUsage(json, _run.Usage);
        json.WriteEndObject();
        Finish(json);
    }

    public void Write(in ReplyPiece piece)
    {
        foreach (OutputEvent step in piece.Events)
            Write(step);
        _end ??= piece.End;
    }

    public void Wait() => Finish(Start("ping"));

    public ValueTask EndAsync(ReplyUsage usage)
    {
        CloseCall();
        Close();
        Utf8JsonWriter json = Start("message_delta");
        json.WriteStartObject("delta");
        WriteStop(json, _end!);
        json.WriteEndObject();
        WriteUsage(json, usage);
        Finish(json);
        Finish(Start("message_stop"));
        return _events.FlushAsync();
    }

    public ValueTask FailAsync(RequestFault fault)
    {
        Dialects.WriteFault(_events.Event("error"), Dialect.Anthropic, fault);
        return _events.SendAsync();
    }

    private static void WriteHead(Utf8JsonWriter json, ReplyHead head)
    {
        json.WriteString("id", head.Id);
        json.WriteString("type", "message");
        json.WriteString("role", "assistant");
        json.WriteString("model", head.Model);
    }

    private static void WriteStop(Utf8JsonWriter json, ReplyEnd end)
    {
        json.WriteString("stop_reason", end.Finish == FinishReason.ContextFull ? "model_context_window_exceeded" : end.IsCut ? "max_tokens" : end.StopString is not null ? "stop_sequence" : end.HasCalls ? "tool_use" : "end_turn");
        json.WriteString("stop_sequence", end.StopString);
        end.WriteDetail(json);
    }

    // Cached tokens are not input tokens in this dialect.
    private static void WriteUsage(Utf8JsonWriter json, ReplyUsage usage)
    {
        json.WriteStartObject("usage");
        json.WriteNumber("input_tokens", usage.PromptCount - usage.CachedCount);
        json.WriteNumber("cache_creation_input_tokens", 0);
        json.WriteNumber("cache_read_input_tokens", usage.CachedCount);
        json.WriteNumber("output_tokens", usage.OutputCount);
        json.WriteStartObject("output_tokens_details");
        json.WriteNumber("thinking_tokens", usage.ReasoningCount);
        json.WriteEndObject();
        usage.WriteExtensions(json);
        json.WriteEndObject();
    }

    // All of a call but its input. "caller" tells it from calls that vendor-side tools make.
    private static void WriteCall(Utf8JsonWriter json, string name)
    {
        json.WriteString("type", "tool_use");
        json.WriteString("id", "toolu_" + Guid.NewGuid().ToString("N")[..24]);
        json.WriteString("name", name);
        json.WriteStartObject("caller");
        json.WriteString("type", "direct");
        json.WriteEndObject();
    }

    // Clients drop thinking that bears no signature. Nothing is signed here: it names the reply that the thinking is of.
    private static string SignatureOf(ReplyHead head) => head.Id;

    private void Write(in OutputEvent step)
    {
        switch (step.Kind)
        {
            case OutputEventKind.Reasoning:
                Open(ReplyBlockKind.Thinking, "");
                Delta("thinking_delta", "thinking", step.Text);
                break;
            case OutputEventKind.Content when _open == ReplyBlockKind.Call:
                _held.Append(step.Text);
                break;
            case OutputEventKind.Content:
                WriteText(step.Text);
                break;
            case OutputEventKind.ToolCallStarted:
                Close();
                Open(ReplyBlockKind.Call, step.Text);
                break;
            case OutputEventKind.ToolCallArguments:
                Delta("input_json_delta", "partial_json", step.Text);
                break;
            case OutputEventKind.ToolCallCompleted:
                CloseCall();
                break;
        }
    }

    private void WriteText(string text)
    {
        Open(ReplyBlockKind.Text, "");
        Delta("text_delta", "text", text);
    }

    private void CloseCall()
    {
        Close();
        if (_held.Length > 0)
            WriteText(_held.ToString());
        _held.Clear();
    }

    private void Open(ReplyBlockKind kind, string callName)
    {
        if (_open == kind)
            return;
        Close();
        _open = kind;
        _blockIndex++;
        Utf8JsonWriter json = Start("content_block_start");
        json.WriteNumber("index", _blockIndex);
        json.WriteStartObject("content_block");
        switch (kind)
        {
            case ReplyBlockKind.Thinking:
                json.WriteString("type", "thinking");
                json.WriteString("thinking", "");
                json.WriteString("signature", "");
                break;
            case ReplyBlockKind.Text:
                json.WriteString("type", "text");
                json.WriteString("text", "");
                break;
            default:
                WriteCall(json, callName);
                json.WriteStartObject("input");
                json.WriteEndObject();
                break;
        }

        json.WriteEndObject();
        Finish(json);
    }

    private void Close()
    {
        if (_open is null)
            return;
        if (_open == ReplyBlockKind.Thinking)
            Delta("signature_delta", "signature", SignatureOf(_head));
        _open = null;
        Utf8JsonWriter json = Start("content_block_stop");
        json.WriteNumber("index", _blockIndex);
        Finish(json);
    }

    private void Delta(string type, string name, string text)
    {
        Utf8JsonWriter json = Start("content_block_delta");
        json.WriteNumber("index", _blockIndex);
        json.WriteStartObject("delta");
        json.WriteString("type", type);
        json.WriteString(name, text);
        json.WriteEndObject();
        Finish(json);
    }

    private Utf8JsonWriter Start(string type)
    {
        Utf8JsonWriter json = _events.Event(type);
        json.WriteStartObject();
        json.WriteString("type", type);
        return json;
    }

    private void Finish(Utf8JsonWriter json)
    {
        json.WriteEndObject();
        _events.End();
    }
}
