using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Qian.Server.Security;

namespace Qian.Server.Http;

// The outermost ring around every request: the doorkeeper's word, faults as bodies of the right dialect, unknown places, and
// the count of it all. Nothing that goes wrong further in leaves as anything but a fault.
internal sealed class RequestBoundary(Doorkeeper doorkeeper, ServerMetrics metrics)
{
    public async Task RunAsync(HttpContext context, RequestDelegate next)
    {
        context.Response.Headers["x-request-id"] = context.Response.Headers["request-id"] = "req_" + Guid.NewGuid().ToString("N");
        try
        {
            if (doorkeeper.Admit(context))
            {
                using IDisposable? counted = Doorkeeper.Enter(context);
                await next(context).ConfigureAwait(false);
                // No endpoint, or one for another method: routing says so without a body.
                if (!context.Response.HasStarted && context.Response.StatusCode is StatusCodes.Status404NotFound or StatusCodes.Status405MethodNotAllowed && context.Response.ContentLength is null)
                    await JsonReply.SendFaultAsync(context, RequestFault.NoSuchPlace(Shorten(context.Request.Method), Shorten(context.Request.Path.Value ?? "/"))).ConfigureAwait(false);
            }
        }
        catch (Exception) when (context.RequestAborted.IsCancellationRequested)
        {
            metrics.Cancelled();
            return;
        }
        catch (Exception error)
        {
            RequestFault fault = Faults.Of(error, context);
            if (context.Response.HasStarted)
                context.Abort();
            else
                await JsonReply.SendFaultAsync(context, fault).ConfigureAwait(false);
        }

        // Only known places have a name in the metrics: strangers must not be able to grow them.
        metrics.Answered((context.GetEndpoint() as RouteEndpoint)?.RoutePattern.RawText ?? "other", context.Response.StatusCode);
    }

    private static string Shorten(string text) => text.Length <= 200 ? text : text[..200] + "…";
}
