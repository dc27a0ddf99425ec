using System.Buffers;
using System.IO.Pipelines;
using System.Text;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Qian.Server.Http;

// Server-sent events into the connection's pipe: one JSON object per event, sent when it is whole, so that a token is on its
// way before the next one is computed, and an event that fails half-way leaves no trace. A flush also waits for a client that
// reads slowly.
internal sealed class EventStream : IDisposable
{
    private readonly HttpContext _context;
    private readonly PipeWriter _pipe;
    private readonly ArrayBufferWriter<byte> _data = new(1024);
    private readonly Utf8JsonWriter _json;
    private string? _name;

    public EventStream(HttpContext context)
    {
        _context = context;
        _pipe = context.Response.BodyWriter;
        _json = new Utf8JsonWriter(_data, JsonReply.Options);
    }

    // Sends status and headers: from here on, errors are events.
    public async Task StartAsync()
    {
        HttpResponse response = _context.Response;
        response.StatusCode = StatusCodes.Status200OK;
        response.ContentType = "text/event-stream; charset=utf-8";
        response.Headers.CacheControl = "no-cache";
        // Proxies would collect what is meant to flow.
        response.Headers["X-Accel-Buffering"] = "no";
        await response.StartAsync(_context.RequestAborted).ConfigureAwait(false);
    }

    // The writer of the next event's data; End or SendAsync ends it.
    public Utf8JsonWriter Event(string? name = null)
    {
        _name = name;
        _data.ResetWrittenCount();
        _json.Reset();
        return _json;
    }

    // Ends the event without sending it yet: more follow at once.
    public void End()
    {
        _json.Flush();
        if (_name is not null)
        {
            _pipe.Write("event: "u8);
            _pipe.Write(Encoding.ASCII.GetBytes(_name));
            _pipe.Write("\n"u8);
        }

        _pipe.Write("data: "u8);
        _pipe.Write(_data.WrittenSpan);
        _pipe.Write("\n\n"u8);
    }

    public ValueTask SendAsync()
    {
        End();
        return FlushAsync();
    }

    // "data: [DONE]", which is no JSON.
    public ValueTask SendDoneAsync()
    {
        _pipe.Write("data: [DONE]\n\n"u8);
        return FlushAsync();
    }

    // A line that every client skips. ASCII without line breaks.
    public ValueTask CommentAsync(string text)
    {
        _pipe.Write(": "u8);
        _pipe.Write(Encoding.ASCII.GetBytes(text));
        _pipe.Write("\n\n"u8);
        return FlushAsync();
    }

    public void Dispose() => _json.Dispose();

    public async ValueTask FlushAsync()
    {
        FlushResult result = await _pipe.FlushAsync(_context.RequestAborted).ConfigureAwait(false);
        if (result.IsCompleted || result.IsCanceled)
            throw new ClientGoneException();
    }
}
