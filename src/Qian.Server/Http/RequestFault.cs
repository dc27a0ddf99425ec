using Microsoft.AspNetCore.Http;

namespace Qian.Server.Http;

// Why a request is not served, in terms that every dialect can spell: a status, a message for its sender, the parameter at
// fault, a code that programs look at. The message is shown to strangers: no path of this machine, no contents of others.
internal sealed class RequestFault : Exception
{
    private RequestFault(int status, string message, string? parameter = null, string? code = null, int? retryAfterSeconds = null)
        : base(message)
    {
        Status = status;
        Parameter = parameter;
        Code = code;
        RetryAfterSeconds = retryAfterSeconds;
    }

    public int Status { get; }

    // Path of the field, such as messages[2].content.
    public string? Parameter { get; }

    public string? Code { get; }

    public int? RetryAfterSeconds { get; }

    public static RequestFault Bad(string? parameter, string message, string? code = null) => new(StatusCodes.Status400BadRequest, message, parameter, code);

    public static RequestFault ContextExceeded(string parameter, int found, int contextLength) => Bad(
        parameter,
        // The words by which clients of either official API know that it is time to compact.
        $"prompt is too long: {found} tokens > {contextLength - 1} maximum. This model's maximum context length is {contextLength} tokens, of which at least one is for the reply. Shorten the prompt, or serve the model with a longer context.",
        "context_length_exceeded");

    public static RequestFault WrongKey() => new(StatusCodes.Status401Unauthorized, "This server needs an API key, and the request has none that is valid.", code: "invalid_api_key");

    public static RequestFault Forbidden(string message) => new(StatusCodes.Status403Forbidden, message, code: "forbidden");

    public static RequestFault NoSuchPlace(string method, string path) => new(StatusCodes.Status404NotFound, $"There is no {method} {path} here.", code: "unknown_url");

    public static RequestFault WrongMethod(string method, string path) => new(StatusCodes.Status405MethodNotAllowed, $"{method} is not what {path} is asked with; the Allow header says what is.", code: "method_not_supported");

    public static RequestFault NotFound(string? parameter, string message) => new(StatusCodes.Status404NotFound, message, parameter, "not_found");

    public static RequestFault NoSuchModel(string served) => new(StatusCodes.Status404NotFound, $"There is no such model here; this server has '{served}'.", "model", "model_not_found");

    public static RequestFault TooLarge(long limitBytes) => new(StatusCodes.Status413PayloadTooLarge, $"The request's body is larger than {limitBytes} bytes.", code: "request_too_large");

    public static RequestFault Busy(int waitingCount, int retryAfterSeconds) =>
        new(StatusCodes.Status429TooManyRequests, $"{waitingCount} requests are waiting already. Try again later.", code: "rate_limit_exceeded", retryAfterSeconds: retryAfterSeconds);

    public static RequestFault Limited(string message, int retryAfterSeconds) => new(StatusCodes.Status429TooManyRequests, message, code: "rate_limit_exceeded", retryAfterSeconds: retryAfterSeconds);

    public static RequestFault Stopping() => new(StatusCodes.Status503ServiceUnavailable, "This server is stopping.", code: "server_stopping", retryAfterSeconds: 10);

    public static RequestFault OutOfMemory() =>
        new(StatusCodes.Status503ServiceUnavailable, "The memory for the conversations in progress is spent. Try again later.", code: "overloaded", retryAfterSeconds: 10);

    public static RequestFault Internal() => new(StatusCodes.Status500InternalServerError, "The server failed on this request.");

    // What the HTTP layer itself found wrong: a body cut short, a bad chunk, a reader that timed out.
    public static RequestFault Transport(int status) => new(status, "The request's body could not be read.");
}
