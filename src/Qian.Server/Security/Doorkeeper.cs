using System.Net;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Primitives;
using Qian.Server.Http;
using Qian.Server.Page;

namespace Qian.Server.Security;

// Looks at every request before anything else does. A web page of a stranger reaches a server on localhost in two ways: by a
// name of its own that resolves here (DNS rebinding), which the Host header gives away, and by a plain cross-site request,
// which the Origin header gives away. Then the key.
internal sealed class Doorkeeper
{
    private static readonly string[] s_open = ["/health", "/ready"];

    private readonly ServerOptions _options;
    private readonly ApiKeys _keys;
    private readonly bool _isLoopback;

    public Doorkeeper(ServerOptions options, ApiKeys keys)
    {
        _options = options;
        _keys = keys;
        _isLoopback = options.IsLoopback;
    }

    // False when the request is answered already: a browser's question whether it may ask. Throws what a client did wrong.
    public bool Admit(HttpContext context)
    {
        HttpRequest request = context.Request;
        IHeaderDictionary headers = context.Response.Headers;
        headers.XContentTypeOptions = "nosniff";
        if (_isLoopback && !IsLocalName(request.Host.Host))
            throw RequestFault.Forbidden("The Host header names another machine; this server answers as localhost only.");
        if (!StringValues.IsNullOrEmpty(request.Headers.Origin))
        {
            string origin = request.Headers.Origin.ToString();
            bool isListed = _options.AllowedOrigins.Contains(origin, StringComparer.OrdinalIgnoreCase);
            if (!isListed && !IsSameOrigin(origin, request))
                throw RequestFault.Forbidden("Web pages of this origin may not call this server; list the origin to allow it.");
            if (isListed)
            {
                headers.AccessControlAllowOrigin = origin;
                headers.Vary = "Origin";
                if (IsPreflight(request))
                {
                    headers.AccessControlAllowMethods = "GET, POST";
                    headers.AccessControlAllowHeaders = request.Headers.AccessControlRequestHeaders;
                    headers.AccessControlMaxAge = "600";
                    context.Response.StatusCode = StatusCodes.Status204NoContent;
                    return false;
                }
            }
        }

        if (!s_open.Contains(request.Path.Value) && !PageFiles.Holds(request.Path) && _keys.AreNeeded)
            AskForKey(context);
        else
            RequireScope(request, Caller.Anyone);
        return true;
    }

    // Counts the request against its key's limits until it is disposed, and says what is left of them, also where it is refused.
    // Looking is free, asking the model is not.
    public static IDisposable? Enter(HttpContext context)
    {
        if (HttpMethods.IsGet(context.Request.Method) || HttpMethods.IsHead(context.Request.Method) || context.Features.Get<Allowance>() is not { } allowance)
            return null;
        try
        {
            return allowance.Enter();
        }
        finally
        {
            RateHeaders.Write(context, allowance);
        }
    }

    private void AskForKey(HttpContext context)
    {
        (ApiKey key, Allowance allowance) = _keys.Find(context.Request) ?? throw RequestFault.WrongKey();
        var caller = new Caller(key.Name, key.Scopes) { Identity = Convert.ToHexString(key.Hash) };
        context.Features.Set(caller);
        context.Features.Set(allowance);
        RequireScope(context.Request, caller);
    }

    // To look around, any key will do.
    private static void RequireScope(HttpRequest request, Caller caller)
    {
        if (HttpMethods.IsGet(request.Method) || HttpMethods.IsHead(request.Method) || HttpMethods.IsOptions(request.Method))
            return;
        KeyScopes needed = request.Path.StartsWithSegments("/v1/adapters", StringComparison.OrdinalIgnoreCase) ? KeyScopes.Admin : KeyScopes.Infer;
        if (!caller.Scopes.HasFlag(needed))
            throw RequestFault.Forbidden(needed == KeyScopes.Admin ? "This changes the server and needs a key with the scope 'admin'." : "This key has not the scope 'infer'.");
    }

    private static bool IsPreflight(HttpRequest request) => HttpMethods.IsOptions(request.Method) && !StringValues.IsNullOrEmpty(request.Headers.AccessControlRequestMethod);

    private static bool IsSameOrigin(string origin, HttpRequest request) =>
        Uri.TryCreate(origin, UriKind.Absolute, out Uri? uri) && uri.Scheme == request.Scheme && string.Equals(uri.Authority, request.Host.Value, StringComparison.OrdinalIgnoreCase);

    private static bool IsLocalName(string host) =>
        string.Equals(host, "localhost", StringComparison.OrdinalIgnoreCase) || IPAddress.TryParse(host.Trim('[', ']'), out IPAddress? address) && IPAddress.IsLoopback(address);
}
