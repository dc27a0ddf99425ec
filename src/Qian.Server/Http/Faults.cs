using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Qian.Inference;

namespace Qian.Server.Http;

// The one place where exceptions become faults. What is nobody's request but our own failure goes to the log in full, and to
// the client as a plain 500: its message may name what strangers should not know.
internal static class Faults
{
    public static RequestFault Of(Exception error, HttpContext context)
    {
        switch (error)
        {
            case RequestFault fault:
                return fault;
            case BadRequestException refusal:
                return RequestFault.Bad(null, refusal.Message);
            case BadHttpRequestException transport:
                return RequestFault.Transport(transport.StatusCode);
            default:
                context.RequestServices.GetService<FaultLog>()?.Write(context, error);
                return RequestFault.Internal();
        }
    }
}

// Where failures of ours are told.
internal sealed class FaultLog(TextWriter writer)
{
    public void Write(HttpContext context, Exception error) => writer.WriteLine($"qian: {context.Request.Method} {context.Request.Path} failed: {error}");
}
