using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace Qian.Server.Http;

// The two spellings of an error. Which one a path speaks is all that is decided here.
internal enum Dialect
{
    OpenAi,
    Anthropic,
}

internal static class Dialects
{
    public static Dialect Of(HttpRequest request) =>
        request.Path.StartsWithSegments("/v1/messages", StringComparison.Ordinal) || request.Headers.ContainsKey("anthropic-version") ? Dialect.Anthropic : Dialect.OpenAi;

    // {"error": …} and {"type": "error", "error": …}.
    public static void WriteFault(Utf8JsonWriter json, Dialect dialect, RequestFault fault)
    {
        json.WriteStartObject();
        if (dialect == Dialect.Anthropic)
            json.WriteString("type", "error");
        json.WriteStartObject("error");
        if (dialect == Dialect.Anthropic)
        {
            json.WriteString("type", AnthropicType(fault.Status));
            json.WriteString("message", fault.Parameter is { } place ? $"{place}: {fault.Message}" : fault.Message);
        }
        else
        {
            json.WriteString("message", fault.Message);
            json.WriteString("type", OpenAiType(fault.Status));
            json.WriteString("param", fault.Parameter);
            json.WriteString("code", fault.Code);
        }

        json.WriteEndObject();
        json.WriteEndObject();
    }

    private static string OpenAiType(int status) => status switch
    {
        StatusCodes.Status403Forbidden => "permission_error",
        StatusCodes.Status429TooManyRequests => "rate_limit_error",
        >= 500 => "server_error",
        _ => "invalid_request_error",
    };

    private static string AnthropicType(int status) => status switch
    {
        StatusCodes.Status401Unauthorized => "authentication_error",
        StatusCodes.Status403Forbidden => "permission_error",
        StatusCodes.Status404NotFound => "not_found_error",
        StatusCodes.Status413PayloadTooLarge => "request_too_large",
        StatusCodes.Status429TooManyRequests => "rate_limit_error",
        StatusCodes.Status503ServiceUnavailable => "overloaded_error",
        >= 500 => "api_error",
        _ => "invalid_request_error",
    };
}
