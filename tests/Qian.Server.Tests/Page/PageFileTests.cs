using System.Net;
using System.Text.RegularExpressions;

namespace Qian.Server.Tests.Page;

// The page's files as they are served, without a browser: the policy, the types, and that nothing in them could break the policy.
public sealed partial class PageFileTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private Task<TestServer> Start(ServerOptions? options = null) => TestServer.StartAsync(model.Load(), options);

    private static async Task<List<string>> Places(TestServer server)
    {
        string index = await server.Client.GetStringAsync("/");
        var found = new List<string> { "/" };
        found.AddRange(Reference().Matches(index).Select(match => match.Groups[1].Value));
        for (int i = 1; i < found.Count; i++)
        {
            if (!found[i].EndsWith(".js", StringComparison.Ordinal))
                continue;
            string script = await server.Client.GetStringAsync(found[i]);
            found.AddRange(Import().Matches(script).Select(match => "/page/" + match.Groups[1].Value).Except(found));
        }

        return found;
    }

    [Fact]
    public async Task EveryFileIsServedUnderTheStrictPolicy()
    {
        await using TestServer server = await Start();
        List<string> places = await Places(server);
        Assert.True(places.Count > 12, string.Join(' ', places));
        foreach (string place in places)
        {
            using HttpResponseMessage response = await server.Client.GetAsync(place);
            Assert.Equal(HttpStatusCode.OK, response.StatusCode);
            string policy = Assert.Single(response.Headers.GetValues("Content-Security-Policy"));
            foreach (string part in (string[])["default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self';", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"])
                Assert.Contains(part, policy, StringComparison.Ordinal);
            Assert.DoesNotContain("unsafe", policy, StringComparison.Ordinal);
            Assert.Equal("no-referrer", Assert.Single(response.Headers.GetValues("Referrer-Policy")));
            Assert.Equal("nosniff", Assert.Single(response.Headers.GetValues("X-Content-Type-Options")));
            string expected = Path.GetExtension(place) switch { ".js" => "text/javascript", ".css" => "text/css", ".svg" => "image/svg+xml", _ => "text/html" };
            Assert.Equal(expected, response.Content.Headers.ContentType?.MediaType);
        }
    }

    // What the policy would stop, or a stranger's text could get through, does not occur at all.
    [Fact]
    public async Task NoFileMakesMarkupOfTextOrAsksForAnythingElsewhere()
    {
        await using TestServer server = await Start();
        foreach (string place in await Places(server))
        {
            string text = await server.Client.GetStringAsync(place);
            foreach (string word in (string[])["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc", "DOMParser", "createContextualFragment", "setHTMLUnsafe"])
                Assert.False(text.Contains(word, StringComparison.Ordinal), $"{place} uses {word}");
            Assert.Equal([], Elsewhere().Matches(text).Select(match => match.Value).Where(address => !address.StartsWith("http://www.w3.org/", StringComparison.Ordinal)));
        }

        string index = await server.Client.GetStringAsync("/");
        Assert.DoesNotMatch(InlineCode(), index);
    }

    [Fact]
    public async Task AFileThatTheBrowserHasIsNotSentAgain()
    {
        await using TestServer server = await Start();
        using HttpResponseMessage first = await server.Client.GetAsync("/page/app.js");
        using var again = new HttpRequestMessage(HttpMethod.Get, "/page/app.js");
        again.Headers.IfNoneMatch.Add(first.Headers.ETag!);
        using HttpResponseMessage second = await server.Client.SendAsync(again);
        Assert.Equal(HttpStatusCode.NotModified, second.StatusCode);
        Assert.Equal("", await second.Content.ReadAsStringAsync());
        using HttpResponseMessage head = await server.Client.SendAsync(new HttpRequestMessage(HttpMethod.Head, "/"));
        Assert.Equal((HttpStatusCode.OK, "text/html"), (head.StatusCode, head.Content.Headers.ContentType?.MediaType));
    }

    [Fact]
    public async Task ThePageIsOpenWhereTheApiNeedsAKey()
    {
        await using TestServer server = await Start(new ServerOptions { Keys = ["sk-test-12345678"] });
        foreach (string place in await Places(server))
            Assert.Equal(HttpStatusCode.OK, (await server.Client.GetAsync(place)).StatusCode);
        foreach (string place in (string[])["/v1/models", "/page/", "/page/nothing.js", "/page/../v1/models", "/index.html"])
            Assert.Equal(HttpStatusCode.Unauthorized, (await server.Client.GetAsync(place)).StatusCode);
    }

    [Fact]
    public async Task AForeignNameGetsNoPage()
    {
        await using TestServer server = await Start();
        using var request = new HttpRequestMessage(HttpMethod.Get, "/") { Headers = { Host = "rebound.example" } };
        Assert.Equal(HttpStatusCode.Forbidden, (await server.Client.SendAsync(request)).StatusCode);
        Assert.Equal(HttpStatusCode.MethodNotAllowed, (await server.Client.PostAsync("/", null)).StatusCode);
    }

    [GeneratedRegex("(?:src|href)=\"(/page/[^\"]+)\"")]
    private static partial Regex Reference();

    [GeneratedRegex(@"from '\./([\w.]+)'")]
    private static partial Regex Import();

    [GeneratedRegex("(?:https?:)?//[a-z0-9-]+\\.[a-z][^\\s'\")]*", RegexOptions.IgnoreCase)]
    private static partial Regex Elsewhere();

    [GeneratedRegex("""<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=""", RegexOptions.IgnoreCase)]
    private static partial Regex InlineCode();
}
