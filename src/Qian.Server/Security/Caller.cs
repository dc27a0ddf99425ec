using Microsoft.AspNetCore.Http;

namespace Qian.Server.Security;

// What a key opens: asking the model, or changing the server.
[Flags]
internal enum KeyScopes
{
    None = 0,
    Infer = 1,
    Admin = 2,
}

// Who a request comes from, once the doorkeeper has looked: the name of the key, never the key.
internal sealed record Caller(string Name, KeyScopes Scopes)
{
    // Tells the holders of different keys apart, also where a name passes from one to another; "" where there are no keys.
    public string Identity { get; init; } = "";

    // Where no keys are needed.
    public static Caller Anyone { get; } = new("", KeyScopes.Infer);

    public static Caller Of(HttpContext context) => context.Features.Get<Caller>() ?? Anyone;
}
