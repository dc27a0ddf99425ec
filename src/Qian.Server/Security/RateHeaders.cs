using System.Globalization;
using Microsoft.AspNetCore.Http;
using Qian.Server.Http;

namespace Qian.Server.Security;

// What is left of a key's requests per minute, in the headers by which the clients of either vendor pace themselves. A key
// without a rate gets none: there is nothing to pace. How many requests it may have at a time has no official header.
internal static class RateHeaders
{
    public static void Write(HttpContext context, Allowance allowance)
    {
        if (allowance.Rate() is not (int limit, int remaining, TimeSpan reset))
            return;
        bool isAnthropic = Dialects.Of(context.Request) == Dialect.Anthropic;
        IHeaderDictionary headers = context.Response.Headers;
        headers[isAnthropic ? "anthropic-ratelimit-requests-limit" : "x-ratelimit-limit-requests"] = limit.ToString(CultureInfo.InvariantCulture);
        headers[isAnthropic ? "anthropic-ratelimit-requests-remaining" : "x-ratelimit-remaining-requests"] = remaining.ToString(CultureInfo.InvariantCulture);
        headers[isAnthropic ? "anthropic-ratelimit-requests-reset" : "x-ratelimit-reset-requests"] = isAnthropic ? Moment(reset) : Duration(reset);
    }

    // The second by which it has come.
    private static string Moment(TimeSpan wait) =>
        DateTimeOffset.UtcNow.Add(wait).AddSeconds(1).ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture);

    // 350ms, 6s, 1m30s.
    private static string Duration(TimeSpan wait)
    {
        if (wait < TimeSpan.FromSeconds(1))
            return FormattableString.Invariant($"{Math.Ceiling(wait.TotalMilliseconds)}ms");
        int seconds = (int)Math.Ceiling(wait.TotalSeconds);
        return FormattableString.Invariant(seconds < 60 ? (FormattableString)$"{seconds}s" : $"{seconds / 60}m{seconds % 60}s");
    }
}
