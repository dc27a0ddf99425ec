using System.Text.Json;

namespace Qian.Server.Tests.Page;

// The page without a mouse, without eyes, and on a phone.
[Collection(nameof(Chromium))]
public sealed class PageAccessTests(Chromium browser, ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Settings = """{"temperature":0,"think":false}""";

    private Task<TestServer> Start() => TestServer.StartAsync(model.Load());

    private static Task<JsonElement> Focused(BrowserPage page) => page.Run("document.activeElement.id || document.activeElement.getAttribute('aria-label') || document.activeElement.textContent");

    [BrowserFact]
    public async Task EverythingThatCanBeUsedHasANameAndARole()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, Settings);
        await page.Ask("Hello");
        foreach (string step in (string[])["", "#settings-open"])
        {
            if (step.Length > 0)
                await page.Click(step);
            JsonElement tree = (await page.Send("Accessibility.getFullAXTree")).GetProperty("nodes");
            string[] used = ["button", "textbox", "searchbox", "combobox", "spinbutton", "radio", "checkbox", "link", "dialog", "progressbar", "list"];
            int count = 0;
            foreach (JsonElement node in tree.EnumerateArray().Where(node => !node.GetProperty("ignored").GetBoolean()))
            {
                string role = node.GetProperty("role").GetProperty("value").GetString()!;
                if (!used.Contains(role))
                    continue;
                count++;
                string name = node.TryGetProperty("name", out JsonElement found) ? found.GetProperty("value").GetString()! : "";
                Assert.True(name.Length > 0 || role == "list", $"a {role} has no name: {node}");
            }

            Assert.True(count > 10);
        }

        Assert.Equal("en", (await page.Run("document.documentElement.lang")).GetString());
        Assert.Equal(1, await page.Count("h1"));
        Assert.Equal(["You", "Reply"], (await page.Run("[...document.querySelectorAll('.message h2')].map(node => node.textContent)")).EnumerateArray().Select(item => item.GetString()));
        Assert.Equal("polite", (await page.Run("document.querySelector('#announcer').ariaLive")).GetString());
    }

    [BrowserFact]
    public async Task TheKeyboardReachesEverything()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, Settings);
        Assert.Equal("draft", (await Focused(page)).GetString());
        await page.Type("Hello");
        await page.Enter();
        await page.Until("document.querySelectorAll('.message').length === 2");
        await page.Settle();
        await page.Press("n", "KeyN", 78, modifiers: 1);
        await page.Until("document.querySelectorAll('.message').length === 0");
        await page.Press("t", "KeyT", 84, modifiers: 1);
        Assert.Equal("true", (await page.Run("document.querySelector('#think').getAttribute('aria-pressed')")).GetString());
        await page.Run("document.activeElement.blur()");
        await page.Press("?", "Slash", 191, "?", 8);
        await page.Until("document.querySelector('#keys-dialog').open");
        await page.Escape();
        await page.Until("!document.querySelector('#keys-dialog').open");
        await page.Press("/", "Slash", 191, "/");
        Assert.Equal("draft", (await Focused(page)).GetString());
        Assert.Equal("", (await page.Run("document.querySelector('#draft').value")).GetString());

        // From the first to the last: a place for the focus that can be seen, and none of them a trap.
        await page.Run("document.activeElement.blur(); document.querySelector('.skip').focus()");
        var seen = new List<string>();
        for (int i = 0; i < 60 && !seen.Contains("settings-open"); i++)
        {
            seen.Add((await Focused(page)).GetString()!);
            Assert.True(await page.Holds("document.activeElement.matches(':focus-visible') && document.activeElement.getBoundingClientRect().width > 0"), seen[^1]);
            await page.Tab();
        }

        foreach (string id in (string[])["Skip to the message box", "shelf-close", "new-chat", "menu-open", "draft", "think", "settings-open"])
            Assert.Contains(id, seen);
    }

    // Enter that chooses a word in an input method is not meant for the page.
    [BrowserFact]
    public async Task AnInputMethodKeepsItsEnter()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, Settings);
        await page.Click("#draft");
        await page.Send("Input.imeSetComposition", new() { ["text"] = "ni hao", ["selectionStart"] = 6, ["selectionEnd"] = 6 });
        await page.Press("Process", "Enter", 229);
        Assert.Equal(0, await page.Count(".message"));
        await page.Type("你好");
        await page.Enter();
        await page.Until("document.querySelectorAll('.message.reply').length === 1");
        await page.Settle();
        Assert.Equal("你好", await page.Text(".message.mine .bubble"));
    }

    [BrowserFact]
    public async Task APhoneHasRoomForIt()
    {
        string[] wide = ["| a | b | c | d | e | f | g |\n| - | - | - | - | - | - | - |\n| lorem | ipsum | dolor | sit | amet | consectetur | adipiscing |\n\n", "```\n" + new string('x', 200) + "\n```\n\n", new string('y', 200) + "\n\n", "https://example.org/" + new string('z', 200)];
        using var wordy = new ScriptedModel(["Hm."], wide);
        await using TestServer server = await TestServer.StartAsync(wordy.Load());
        await using BrowserPage page = await browser.OpenAsync(360, 740, isPhone: true);
        await page.Open(server, Settings);
        await page.Click("#draft");
        await page.Type("Hello");
        await page.Click("#send");
        await page.Until("document.querySelectorAll('.message.reply').length === 1");
        await page.Settle();
        Assert.Contains("zzz", await page.Text(".reply .message-body > .prose"), StringComparison.Ordinal);
        foreach (string place in (string[])["document.scrollingElement", "document.querySelector('#scroll')", "document.querySelector('.foot')"])
            Assert.True(await page.Holds($"{place}.scrollWidth <= {place}.clientWidth"), place);
        // Text that may be written into is large enough that no phone zooms in on it, and what is touched is large enough to hit.
        Assert.True(await page.Holds("parseFloat(getComputedStyle(document.querySelector('#draft')).fontSize) >= 16"));
        Assert.Equal("[]", (await page.Run("JSON.stringify([...document.querySelectorAll('.stage button')].filter(node => node.checkVisibility()).map(node => [node.id || node.getAttribute('aria-label') || node.textContent, node.getBoundingClientRect()]).filter(([, box]) => box.height < 32 || box.width < 32).map(([name]) => name))")).GetString());

        Assert.True(await page.Holds("document.querySelector('#shelf').inert && !document.querySelector('#stage').inert"));
        await page.Click("#shelf-open");
        await page.Until("!document.querySelector('#shelf').inert && document.querySelector('#stage').inert");
        await page.Escape();
        await page.Until("document.querySelector('#shelf').inert");
        Assert.Equal("shelf-open", (await Focused(page)).GetString());
        await page.Click("#shelf-open");
        await page.Click("#new-chat");
        await page.Until("document.querySelector('#shelf').inert && document.querySelectorAll('.message').length === 0");
    }

    // Every text on its ground, in both themes: 4.5 to 1, as WCAG asks of small text.
    [BrowserFact]
    public async Task TextStandsOutFromItsGround()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, Settings);
        await page.Ask("Hello");
        foreach (string theme in (string[])["light", "dark"])
        {
            JsonElement weak = await page.Run($$"""
                (() => {
                    document.documentElement.dataset.theme = '{{theme}}';
                    const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
                    const colour = name => {
                        probe.clearRect(0, 0, 1, 1);
                        probe.fillStyle = name;
                        probe.fillRect(0, 0, 1, 1);
                        return [...probe.getImageData(0, 0, 1, 1).data];
                    };
                    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
                    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                    const style = getComputedStyle(document.documentElement);
                    const box = document.body.appendChild(document.createElement('span'));
                    const of = name => {
                        box.style.color = `var(--${name})`;
                        return light(colour(getComputedStyle(box).color));
                    };
                    const pairs = ['paper', 'shade', 'raised'].flatMap(ground => ['ink', 'ink-soft', 'ink-faint', 'accent'].map(text => [text, ground]))
                        .concat([['on-accent', 'accent'], ['on-accent', 'accent-hover'], ['accent', 'accent-wash'], ['danger', 'danger-wash'], ['danger', 'raised'], ['ink', 'hover']]);
                    const weak = pairs.filter(([text, ground]) => ratio(of(text), of(ground)) < 4.5).map(pair => pair.join(' on '));
                    const shade = of('shade');
                    for (const kind of ['comment', 'string', 'number', 'word', 'type', 'call', 'key', 'meta']) {
                        box.style.color = '';
                        box.className = 'c-' + kind;
                        if (ratio(light(colour(getComputedStyle(box).color)), shade) < 4.5)
                            weak.push(kind);
                    }
                    box.remove();
                    return { weak, grounds: [of('paper')] };
                })()
                """);
            Assert.Equal("[]", weak.GetProperty("weak").GetRawText());
        }
    }
}
