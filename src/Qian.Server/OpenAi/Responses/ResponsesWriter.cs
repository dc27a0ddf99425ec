using System.Text;
using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat.Output;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi.Responses;

// Puts a response together, item by item, and spells each step as the official event where there is a stream. A whole reply is
// the same writer without one, so both have the same items. Every event has a number; the last one carries the whole response.
internal sealed class ResponsesWriter : IReplyWriter
{
    private readonly EventStream? _events;
    private readonly ResponseObject _response;
    private readonly Action<ResponsesWriter> _completed;
    private readonly List<ResponseItem> _items = [];
    private readonly List<GeneratedToken> _scored = [];   // scored tokens whose text has not come yet
    private readonly StringBuilder _held = new();         // text that came inside a call: its item follows the call's
    private ResponseItem? _open;
    private ReplyEnd? _end;
    private ReplyUsage _usage;
    private int _sequenceNumber;

    // Completed is told before the last event, so that a client that has it can refer to the response.
    public ResponsesWriter(EventStream? events, ResponseObject response, Action<ResponsesWriter> completed)
    {
        _events = events;
        _response = response;
        _completed = completed;
    }

    public IReadOnlyList<ResponseItem> Items => _items;

    public string Status => _end is { IsCut: true } ? "incomplete" : "completed";

    // The finished response.
    public void WriteTo(Utf8JsonWriter json) => _response.Write(json, Status, _items, _usage, end: _end);

    public void Begin()
    {
        WriteResponse("response.created", "in_progress", null);
        WriteResponse("response.in_progress", "in_progress", null);
    }

    public void Write(in ReplyPiece piece)
    {
        if (_response.Request.WithLogProbs && piece is { IsAnswer: true, Token: { LogProbability: not null } token })
            _scored.Add(token);
        foreach (OutputEvent step in piece.Events)
            Write(step);
        if (piece.End is not { } end)
            return;
        _end = end;
        CloseCall(isWhole: !end.IsCut);
        Close(isWhole: !end.IsCut);
    }

    public void Wait()
    {
    }

    // After the last piece, with or without a stream.
    public void Complete(ReplyUsage usage)
    {
        _usage = usage;
        _completed(this);
    }

    public ValueTask EndAsync(ReplyUsage usage)
    {
        Complete(usage);
        WriteResponse("response." + Status, Status, usage);
        return _events!.FlushAsync();
    }

    public ValueTask FailAsync(RequestFault fault)
    {
        if (Start("response.failed") is { } json)
        {
            json.WritePropertyName("response");
            _response.Write(json, "failed", _items, null, fault);
            Finish(json);
        }

        return _events!.FlushAsync();
    }

    private void Write(in OutputEvent step)
    {
        switch (step.Kind)
        {
            case OutputEventKind.Reasoning:
                Grow(ResponseItemKind.Reasoning, step.Text);
                break;
            case OutputEventKind.Content when _open?.Kind == ResponseItemKind.FunctionCall:
                _held.Append(step.Text);
                break;
            case OutputEventKind.Content:
                Grow(ResponseItemKind.Message, step.Text);
                break;
            case OutputEventKind.ToolCallStarted:
                CloseCall(isWhole: true);
                Close(isWhole: true);
                Open(new ResponseItem(ResponseItemKind.FunctionCall) { Name = step.Text });
                break;
            case OutputEventKind.ToolCallArguments:
                _open!.Text.Append(step.Text);
                Delta("response.function_call_arguments.delta", step.Text);
                break;
            case OutputEventKind.ToolCallCompleted:
                CloseCall(isWhole: true);
                break;
        }
    }

    private void Grow(ResponseItemKind kind, string text)
    {
        if (_open?.Kind != kind)
        {
            Close(isWhole: true);
            Open(new ResponseItem(kind));
        }

        _open!.Text.Append(text);
        Delta(kind == ResponseItemKind.Reasoning ? "response.reasoning_text.delta" : "response.output_text.delta", text);
    }

    private void Open(ResponseItem item)
    {
        _open = item;
        _items.Add(item);
        if (Start("response.output_item.added") is not { } json)
            return;
        WriteItem(json);
        Finish(json);
        if (item.Kind == ResponseItemKind.FunctionCall)
            return;
        json = StartPart("response.content_part.added");
        json.WritePropertyName("part");
        item.WritePart(json, _response.Tokenizer, "");
        Finish(json);
    }

    private void Delta(string type, string text)
    {
        GeneratedToken[] scored = _open!.Kind == ResponseItemKind.Message ? [.. _scored] : [];
        if (scored.Length > 0)
        {
            _open.Tokens.AddRange(scored);
            _scored.Clear();
        }

        if (_events is null)
            return;
        Utf8JsonWriter json = StartPart(type);
        json.WriteString("delta", text);
        if (_open.Kind == ResponseItemKind.Message)
            LogProbWriter.WriteList(json, "logprobs", _response.Tokenizer, scored);
        Finish(json);
    }

    private void CloseCall(bool isWhole)
    {
        if (_open?.Kind == ResponseItemKind.FunctionCall)
            Close(isWhole);
        string held = _held.ToString();
        _held.Clear();
        if (held.Length > 0)
            Grow(ResponseItemKind.Message, held);
    }

    // A reply that was cut leaves its last item incomplete.
    private void Close(bool isWhole)
    {
        if (_open is not { } item)
            return;
        item.Status = isWhole ? "completed" : "incomplete";
        if (_events is not null)
            WriteDone(item);
        _open = null;
    }

    private void WriteDone(ResponseItem item)
    {
        bool isCall = item.Kind == ResponseItemKind.FunctionCall;
        string text = item.Text.ToString();
        Utf8JsonWriter json = StartPart(isCall ? "response.function_call_arguments.done" : item.Kind == ResponseItemKind.Reasoning ? "response.reasoning_text.done" : "response.output_text.done");
        if (isCall)
            json.WriteString("name", item.Name);
        json.WriteString(isCall ? "arguments" : "text", text);
        if (item.Kind == ResponseItemKind.Message)
            LogProbWriter.WriteList(json, "logprobs", _response.Tokenizer, item.Tokens);
        Finish(json);
        if (!isCall)
        {
            json = StartPart("response.content_part.done");
            json.WritePropertyName("part");
            item.WritePart(json, _response.Tokenizer, text);
            Finish(json);
        }

        json = Start("response.output_item.done")!;
        WriteItem(json);
        Finish(json);
    }

    private void WriteResponse(string type, string status, ReplyUsage? usage)
    {
        if (Start(type) is not { } json)
            return;
        json.WritePropertyName("response");
        _response.Write(json, status, _items, usage, end: _end);
        Finish(json);
    }

    private void WriteItem(Utf8JsonWriter json)
    {
        json.WriteNumber("output_index", _items.Count - 1);
        json.WritePropertyName("item");
        _open!.Write(json, _response.Tokenizer);
    }

    // Null without a stream.
    private Utf8JsonWriter? Start(string type)
    {
        Utf8JsonWriter? json = _events?.Event(type);
        json?.WriteStartObject();
        json?.WriteString("type", type);
        json?.WriteNumber("sequence_number", _sequenceNumber++);
        return json;
    }

    // An event of the open item, or of its one part.
    private Utf8JsonWriter StartPart(string type)
    {
        Utf8JsonWriter json = Start(type)!;
        json.WriteString("item_id", _open!.Id);
        json.WriteNumber("output_index", _items.Count - 1);
        if (_open.Kind != ResponseItemKind.FunctionCall)
            json.WriteNumber("content_index", 0);
        return json;
    }

    private void Finish(Utf8JsonWriter json)
    {
        json.WriteEndObject();
        _events!.End();
    }
}
