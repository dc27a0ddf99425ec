using System.Text.Json;

namespace Qian.Server.Tests.Page;

// A model's output is a stranger's: whatever it writes, the page shows it and runs nothing of it.
[Collection(nameof(Chromium))]
public sealed class PageHostilityTests(Chromium browser)
{
    private static readonly string[] s_thoughts = ["<script>window.pwned = 1</script> [t](javascript:window.pwned=2) <img src=x onerror=window.pwned=3>", "\n\n\n</", "think>\n\n", "Done."];

    private static readonly string[] s_answer =
    [
        "<script>window.pwned = 4</script>\n\n", "<img src=x onerror=\"window.pwned = 5\">\n\n", "[click](javascript:window.pwned=6) ", "[data](data:text/html,<script>window.pwned=7</script>) ",
        "[case](JaVaScRiPt:window.pwned=8) ", "[entity](&#106;avascript:window.pwned=9) ", "[tab](java\tscript:window.pwned=10) ", "![pixel](https://tracker.example/p.png) ", "![x](x\" onerror=\"window.pwned=11) ",
        "<a href=\"javascript:window.pwned=12\">raw</a> ", "<javascript:window.pwned=13> ", "[vb](vbscript:window.pwned=14) ", "[file](file:///etc/passwd) ", "[blob](blob:https://a.example/1) ", "[rel](/v1/models) ",
        "[quote](https://example.org/\"onmouseover=\"window.pwned=15) ", "[good](https://example.org/a?b=c&d) ", "**<b onclick=window.pwned=16>bold</b>** ", "`<svg onload=window.pwned=17>`\n\n",
        "```html\n<script>window.pwned = 18</script>\n<iframe src=\"javascript:window.pwned=19\"></iframe>\n```\n\n", "```\"onload=\"window.pwned=20\nx\n```\n\n", "| <b onclick=\"window.pwned=21\">x</b> | [y](javascript:window.pwned=22) |\n| - | - |\n| <svg/onload=window.pwned=23> | z |\n\n",
        "<style>body { display: none }</style>\n\n", "<form action=\"https://evil.example\"><input name=q></form>\n\n", "<meta http-equiv=refresh content=\"0;url=https://evil.example\">\n\n", "# <iframe srcdoc=\"<script>window.pwned=24</script>\"></iframe>\n\n",
        "> <object data=x></object>\n\n", "- [ ] <details open ontoggle=window.pwned=25>\n\n", "end of it",
    ];

    [BrowserFact]
    public async Task NothingOfAHostileAnswerRuns()
    {
        using var model = new ScriptedModel(s_thoughts, s_answer);
        await using TestServer server = await TestServer.StartAsync(model.Load());
        await using BrowserPage page = await browser.OpenAsync();
        await page.Send("Page.addScriptToEvaluateOnNewDocument", new() { ["source"] = "window.violations = []; document.addEventListener('securitypolicyviolation', event => window.violations.push(event.violatedDirective + ' ' + event.blockedURI));" });
        await page.Open(server);
        await page.Ask("<img src=x onerror=window.pwned=26>");
        await page.Click(".thought summary");
        await page.Until("document.querySelector('.thought .prose').textContent !== ''");
        await page.Click("#think");
        await page.Ask("Go on");
        Assert.Contains("end of it", await page.Text(".message:last-child .message-body > .prose"), StringComparison.Ordinal);
        Assert.Contains("<script>window.pwned = 4</script>", await page.Text(".message:last-child .message-body > .prose"), StringComparison.Ordinal);
        Assert.Contains("<script>window.pwned = 1</script>", await page.Text(".thought .prose"), StringComparison.Ordinal);
        await page.Run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))");

        Assert.True(await page.Holds("window.pwned === undefined"));
        Assert.Equal(0, await page.Count("#thread :is(script, style, img, iframe, object, embed, form:not(.call-form), meta, base, link, video, audio, svg [onload])"));
        Assert.True(await page.Holds("[...document.querySelectorAll('#thread *')].every(node => [...node.attributes].every(({ name }) => !name.startsWith('on') && name !== 'style' && name !== 'srcdoc'))"));
        string[] addresses = [.. (await page.Run("[...document.querySelectorAll('#thread a')].map(link => link.href)")).EnumerateArray().Select(item => item.GetString()!)];
        Assert.Contains("https://example.org/a?b=c&d", addresses);
        Assert.All(addresses, address => Assert.StartsWith("https://", address, StringComparison.Ordinal));
        Assert.True(await page.Holds("[...document.querySelectorAll('#thread a')].every(link => link.rel.includes('noopener') && link.target === '_blank')"));
        Assert.True(await page.Holds("getComputedStyle(document.body).display === 'flex'"));
        // Not even the second wall was needed.
        Assert.Equal(0, (await page.Run("window.violations.length")).GetInt32());
        Assert.All(page.Addresses, address => Assert.StartsWith(server.Server.Address.ToString(), address, StringComparison.Ordinal));
    }

    // The second wall itself: what would happen if the page made a mistake.
    [BrowserFact]
    public async Task ThePolicyStopsWhatAMistakeWouldLetThrough()
    {
        using var model = new ScriptedModel();
        await using TestServer server = await TestServer.StartAsync(model.Load());
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server);
        Assert.Equal("TypeError", (await page.Run("(() => { try { document.body.innerHTML = '<b>x</b>'; return 'allowed'; } catch (error) { return error.name; } })()")).GetString());
        Assert.Equal("stopped", (await page.Run("new Promise(done => { document.addEventListener('securitypolicyviolation', () => done('stopped'), { once: true }); const node = document.createElement('img'); node.src = 'https://tracker.example/p.png'; document.body.append(node); })")).GetString());
        Assert.Equal("stopped", (await page.Run("fetch('https://tracker.example/').then(() => 'sent', () => 'stopped')")).GetString());
        Assert.True(await page.Holds("(() => { const node = document.createElement('button'); try { node.setAttribute('onclick', 'window.pwned = 1'); } catch { } document.body.append(node); node.click(); return window.pwned === undefined; })()"));
        foreach (string part in (string[])["TrustedHTML", "TrustedScript", "Loading the image", "Connecting to", "Fetch API"])
            await page.Forgive(part);
    }

    // Long runs of marks, which must neither nest without bound nor end in an exception.
    [BrowserFact]
    public async Task EndlessMarkupIsShownFlat()
    {
        using var model = new ScriptedModel();
        await using TestServer server = await TestServer.StartAsync(model.Load());
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server);
        string[] pieces = ["*a ", "a* ", "_a ", "**a*", "[", "](", "[a](", "`", "> ", ">", "- ", "  - a\n", "1. ", "~~a ", "<", "\\(", "$$\n", "```\n", "|", "| a ", "#", "\n", "&", "http://a", "\\", "![", "﷽", "\u202e", "\0", "a_b*"];
        JsonElement report = await page.Run($$"""
            (async () => {
                const { MarkdownView } = await import('/page/render.js');
                const pieces = {{JsonSerializer.Serialize(pieces)}};
                const texts = pieces.flatMap(piece => [piece.repeat(3000), piece.repeat(1500) + 'a' + [...piece].reverse().join('').repeat(1500)]);
                let seed = 1;
                const next = count => (seed = seed * 48271 % 2147483647) % count;
                for (let i = 0; i < 400; i++)
                    texts.push(Array.from({ length: next(200) }, () => pieces[next(pieces.length)]).join(''));
                let deepest = 0;
                for (const text of texts) {
                    const view = new MarkdownView();
                    // In pieces, as it streams in, must end as the whole does at once.
                    for (let end = 0; end < text.length; end += Math.ceil(text.length / 3))
                        view.update(text.slice(0, end));
                    view.update(text);
                    const whole = new MarkdownView();
                    whole.update(text);
                    if (!view.node.isEqualNode(whole.node))
                        return { differs: text };
                    let level = [...whole.node.children], depth = 0;
                    for (; level.length > 0; depth++)
                        level = level.flatMap(node => [...node.children]);
                    deepest = Math.max(deepest, depth);
                }
                return { deepest, count: texts.length };
            })()
            """);
        Assert.False(report.TryGetProperty("differs", out JsonElement text), text.ToString());
        Assert.Equal(460, report.GetProperty("count").GetInt32());
        Assert.InRange(report.GetProperty("deepest").GetInt32(), 8, 40);
    }
}
