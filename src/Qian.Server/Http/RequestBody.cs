using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Inference.Chat.Output;

namespace Qian.Server.Http;

// A request's body as JSON: bounded in bytes (Kestrel counts) and depth, and every string in it known to be text.
internal static class RequestBody
{
    private static readonly JsonDocumentOptions s_options = new() { MaxDepth = 64 };

    public static async Task<JsonDocument> ReadAsync(HttpContext context, long limitBytes)
    {
        if (context.Request.Headers.ContentEncoding is { Count: > 0 } encodings && encodings != "identity")
            throw RequestFault.Bad(null, "Compressed bodies are not read; send the JSON as it is.");
        if (context.Request.ContentLength > limitBytes)
            throw RequestFault.TooLarge(limitBytes);
        JsonDocument document;
        try
        {
            document = await JsonDocument.ParseAsync(context.Request.Body, s_options, context.RequestAborted).ConfigureAwait(false);
        }
        catch (JsonException error)
        {
            throw RequestFault.Bad(null, $"The body is no JSON that can be read (at most 64 levels deep): line {error.LineNumber + 1}, byte {error.BytePositionInLine + 1}.");
        }
        catch (BadHttpRequestException error)
        {
            throw error.StatusCode == StatusCodes.Status413PayloadTooLarge ? RequestFault.TooLarge(limitBytes) : RequestFault.Transport(error.StatusCode);
        }

        if (ArgumentText.IsText(document.RootElement))
            return document;
        document.Dispose();
        throw RequestFault.Bad(null, "A string of the body is no text: it holds half a surrogate pair, or bytes that are not UTF-8.");
    }
}
