using System.Reflection;
using System.Security.Cryptography;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace Qian.Server.Page;

// The web page at "/": a handful of files inside this assembly, served as they are. The page is open to whoever reaches the
// server, for it holds nothing; what it asks of the API needs the key as everywhere. A model's output is hostile HTML: the page
// makes nodes of it and never markup, and the policy below is the second wall, behind which a mistake of the page runs nothing
// and sends nothing away. Knows nothing of models and replies.
internal static class PageFiles
{
    private const string Folder = "/page/";

    // No inline scripts or styles, nothing from elsewhere, no strings turned into markup, in nobody's frame.
    private const string Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; " +
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

    private static readonly Dictionary<string, PageFile> s_files = Read();

    public static bool Holds(PathString path) => s_files.ContainsKey(path.Value ?? "");

    public static void Map(IEndpointRouteBuilder routes)
    {
        foreach ((string path, PageFile file) in s_files)
            routes.MapMethods(path, [HttpMethods.Get, HttpMethods.Head], context => SendAsync(context, file));
    }

    private static async Task SendAsync(HttpContext context, PageFile file)
    {
        HttpResponse response = context.Response;
        IHeaderDictionary headers = response.Headers;
        headers.ContentSecurityPolicy = Policy;
        headers["Referrer-Policy"] = "no-referrer";
        headers["Cross-Origin-Opener-Policy"] = "same-origin";
        headers["Cross-Origin-Resource-Policy"] = "same-origin";
        headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=(), payment=(), usb=()";
        headers.XFrameOptions = "DENY";
        headers.ETag = file.Tag;
        // Kept, and asked about each time: a newer server must not meet an older page.
        headers.CacheControl = "no-cache";
        if (context.Request.Headers.IfNoneMatch == file.Tag)
        {
            response.StatusCode = StatusCodes.Status304NotModified;
            return;
        }

        response.ContentType = file.ContentType;
        response.ContentLength = file.Bytes.Length;
        if (!HttpMethods.IsHead(context.Request.Method))
            await response.Body.WriteAsync(file.Bytes, context.RequestAborted).ConfigureAwait(false);
    }

    private static Dictionary<string, PageFile> Read()
    {
        Assembly assembly = typeof(PageFiles).Assembly;
        var files = new Dictionary<string, PageFile>(StringComparer.Ordinal);
        foreach (string resource in assembly.GetManifestResourceNames())
        {
            if (!resource.StartsWith("page/", StringComparison.Ordinal))
                continue;
            using Stream stream = assembly.GetManifestResourceStream(resource)!;
            byte[] bytes = new byte[stream.Length];
            stream.ReadExactly(bytes);
            string name = resource["page/".Length..];
            string tag = $"\"{Convert.ToHexStringLower(SHA256.HashData(bytes))[..16]}\"";
            files[name == "index.html" ? "/" : Folder + name] = new PageFile(bytes, ContentTypeOf(name), tag);
        }

        return files;
    }

    private static string ContentTypeOf(string name) => Path.GetExtension(name) switch
    {
        ".html" => "text/html; charset=utf-8",
        ".css" => "text/css; charset=utf-8",
        ".js" => "text/javascript; charset=utf-8",
        ".svg" => "image/svg+xml",
        string other => throw new InvalidOperationException($"No content type is known for a page file of the kind {other}."),
    };

    private sealed record PageFile(byte[] Bytes, string ContentType, string Tag);
}
