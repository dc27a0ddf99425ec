using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Qian.Server.Observation;
using Qian.Server.Security;

namespace Qian.Server.Http;

// The outermost ring around every request: the doorkeeper's word, faults as bodies of the right dialect, unknown places, and
// the record of it all. Nothing that goes wrong further in leaves as anything but a fault.
internal sealed class RequestBoundary(Doorkeeper doorkeeper, ServerMetrics metrics, RequestLog log)
{
    private int _runningCount;

    // Requests that came in and are not told of yet, also when their clients have left.
    public int RunningCount => Volatile.Read(ref _runningCount);

    public async Task RunAsync(HttpContext context, RequestDelegate next)
    {
        Interlocked.Increment(ref _runningCount);
        try
        {
            await AnswerAsync(context, next).ConfigureAwait(false);
        }
        finally
        {
            Interlocked.Decrement(ref _runningCount);
        }
    }

    private async Task AnswerAsync(HttpContext context, RequestDelegate next)
    {
        var record = new RequestRecord(Shorten(context.Request.Method))
        {
            Remote = context.Connection.RemoteIpAddress?.ToString() ?? "",
            Contents = log.WantsContents ? new RequestContents() : null,
        };
        context.Features.Set(record);
        context.Response.Headers["x-request-id"] = context.Response.Headers["request-id"] = record.Id;
        try
        {
            if (doorkeeper.Admit(context))
            {
                using IDisposable? counted = Doorkeeper.Enter(context);
                await next(context).ConfigureAwait(false);
                // No endpoint, or one for another method: routing says so without a body.
                if (!context.Response.HasStarted && context.Response.StatusCode is StatusCodes.Status404NotFound or StatusCodes.Status405MethodNotAllowed && context.Response.ContentLength is null)
                    await JsonReply.SendFaultAsync(context, Unrouted(context)).ConfigureAwait(false);
            }
        }
        catch (Exception error) when (error is ClientGoneException || context.RequestAborted.IsCancellationRequested)
        {
            record.IsCancelled = true;
        }
        catch (Exception error)
        {
            RequestFault fault = Faults.Of(error, context);
            record.Failed(fault);
            if (context.Response.HasStarted)
                context.Abort();
            else
                await JsonReply.SendFaultAsync(context, fault).ConfigureAwait(false);
        }

        Tell(context, record);
    }

    private static RequestFault Unrouted(HttpContext context)
    {
        string method = Shorten(context.Request.Method), path = Shorten(context.Request.Path.Value ?? "/");
        return context.Response.StatusCode == StatusCodes.Status405MethodNotAllowed ? RequestFault.WrongMethod(method, path) : RequestFault.NoSuchPlace(method, path);
    }

    private void Tell(HttpContext context, RequestRecord record)
    {
        // Only known places have a name in the metrics: strangers must not be able to grow them.
        record.Route = (context.GetEndpoint() as RouteEndpoint)?.RoutePattern.RawText ?? "other";
        record.Caller = Caller.Of(context).Name;
        record.Status = context.Response.StatusCode;
        record.Ended();
        if (record.IsCancelled)
            metrics.Cancelled();
        else
            metrics.Answered(record.Route, record.Status);
        if (record.Operation is not null)
            Telemetry.End(record);
        log.Write(record);
    }

    private static string Shorten(string text) => text.Length <= 200 ? text : text[..200] + "…";
}
