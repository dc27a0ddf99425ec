using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Qian.Server.Http;

// A whole JSON reply, written into memory first so that a failure on the way can still become a proper error.
internal static class JsonReply
{
    // Replies are JSON and never HTML (nosniff says so), so that text of any language may stay readable.
    public static JsonWriterOptions Options { get; } = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = false };

    public static async Task SendAsync(HttpContext context, Action<Utf8JsonWriter> write, int status = StatusCodes.Status200OK)
    {
        byte[] body = Bytes(write);
        HttpResponse response = context.Response;
        response.StatusCode = status;
        response.ContentType = "application/json";
        response.ContentLength = body.Length;
        await response.Body.WriteAsync(body, context.RequestAborted).ConfigureAwait(false);
    }

    public static byte[] Bytes(Action<Utf8JsonWriter> write)
    {
        using var body = new MemoryStream();
        using (var json = new Utf8JsonWriter(body, Options))
            write(json);
        return body.ToArray();
    }

    public static Task SendFaultAsync(HttpContext context, RequestFault fault)
    {
        if (fault.RetryAfterSeconds is { } seconds)
            context.Response.Headers.RetryAfter = seconds.ToString(CultureInfo.InvariantCulture);
        if (fault.Status == StatusCodes.Status401Unauthorized)
            context.Response.Headers.WWWAuthenticate = "Bearer";
        // The rest of the body is not read, so the connection cannot be used again: without this word a client would try.
        if (fault.Status == StatusCodes.Status413PayloadTooLarge && HttpProtocol.IsHttp11(context.Request.Protocol))
            context.Response.Headers.Connection = "close";
        Dialect dialect = Dialects.Of(context.Request);
        return SendAsync(context, json => Dialects.WriteFault(json, dialect, fault), fault.Status);
    }
}
