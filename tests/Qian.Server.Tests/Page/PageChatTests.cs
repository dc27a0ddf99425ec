using System.Text.Json;
using Qian.Inference;

namespace Qian.Server.Tests.Page;

// The page as its users have it: a real browser, a real server, a model whose answers are known.
[Collection(nameof(Chromium))]
public sealed class PageChatTests(Chromium browser, ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Key = "sk-page-12345678";

    private static readonly string s_withTools = JsonSerializer.Serialize(new
    {
        temperature = 0,
        tools = $$"""[{"name":"add","description":"Adds","parameters":{{ScriptedModel.ToolJson}}}]""",
    });

    private Task<TestServer> Start(ServerOptions? options = null) => TestServer.StartAsync(model.Load(), options);

    // The embedded model, by which a reply takes a while and has figures worth showing.
    private static Engine LoadNano()
    {
        string at = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(at, "Qian.slnx")))
            at = Path.GetDirectoryName(at)!;
        return Engine.Load(Path.Combine(at, "models", "nano"), new EngineOptions { ContextLength = 4096, ThreadCount = 1 });
    }

    [BrowserFact]
    public async Task AnAnswerIsStreamedShownAndKept()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server);
        Assert.Equal("tiny", await page.Text("#status-text"));
        await page.Click("#think");
        await page.Ask("Say **hello**");
        Assert.Equal("Say **hello**", await page.Text(".message.mine .bubble"));
        Assert.Equal(ScriptedModel.PlainAnswer, await page.Text(".message.reply .message-body > .prose"));
        Assert.False(await page.Holds("document.querySelector('.thought').checkVisibility()"));
        string figures = await page.Text(".figures");
        Assert.Contains($"{ScriptedModel.PlainScript.Length + 1} tokens", figures, StringComparison.Ordinal);
        Assert.Matches(@"first after (\d+\.\d+|\d+) (s|min)", figures);
        Assert.Matches(@"prompt \d+, \d+ % cached", figures);
        Assert.Matches(@"^\d+ of 2,048$", await page.Text("#context-text"));
        Assert.Contains(ScriptedModel.PlainAnswer, await page.Text("#announcer"), StringComparison.Ordinal);
        Assert.Equal("Say **hello**", await page.Text("#shelf-list [aria-current]"));

        await page.Reload();
        await page.Until("document.querySelectorAll('.message').length === 2");
        Assert.Equal(ScriptedModel.PlainAnswer, await page.Text(".message.reply .message-body > .prose"));
        await page.Click("#new-chat");
        Assert.Equal(0, await page.Count(".message"));
        // The list on the shelf is drawn a moment after.
        await page.Until("document.querySelector('#shelf-list [aria-current]') === null");
        await page.Click("#shelf-list button");
        await page.Until("document.querySelectorAll('.message').length === 2");
        Assert.All(page.Addresses, address => Assert.StartsWith(server.Server.Address.ToString(), address, StringComparison.Ordinal));
    }

    [BrowserFact]
    public async Task ThinkingAndToolCallsAreShownAndAnswered()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, s_withTools);
        await page.Ask("What is 20 and 22?");
        Assert.StartsWith("Thought for", await page.Text(".thought summary"), StringComparison.Ordinal);
        Assert.False(await page.Holds("document.querySelector('.thought').open"));
        await page.Click(".thought summary");
        // The page fills it once it hears that it is open.
        await page.Until("document.querySelector('.thought .prose').textContent !== ''");
        Assert.Equal(ScriptedModel.Thought, await page.Text(".thought .prose"));
        Assert.Equal(ScriptedModel.Answer, await page.Text(".message.reply .message-body > .prose"));
        Assert.Equal("add", await page.Text(".call-name"));
        Assert.Equal(TestServer.Parse(ScriptedModel.Arguments).ToString(), TestServer.Parse(await page.Text(".call pre")).GetRawText().Replace("\n", "").Replace("  ", "").Replace(": ", ":"));

        await page.Click(".call-form textarea");
        await page.Type("42");
        await page.Click(".call-form button");
        await page.Until("document.querySelectorAll('.message.reply').length === 2");
        await page.Settle();
        Assert.Equal("42", await page.Text(".message.result pre"));
        Assert.Equal(1, await page.Count(".call-form"));
    }

    [BrowserFact]
    public async Task AskingAgainAndEditingGrowBranches()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, """{"temperature":0,"think":false}""");
        await page.Ask("First");
        await page.Ask("Second");
        Assert.Equal(4, await page.Count(".message"));
        await page.Click(".message:nth-child(2) [aria-label='Ask again']");
        await page.Until("document.querySelectorAll('.message').length === 2");
        await page.Settle();
        Assert.Equal("2 / 2", await page.Text(".message:nth-child(2) .version-count"));
        await page.Click(".message:nth-child(2) [aria-label='Previous version']");
        await page.Until("document.querySelectorAll('.message').length === 4");
        Assert.Equal("Second", await page.Text(".message:nth-child(3) .bubble"));

        // The arrow key in the empty box edits the last message.
        await page.Click("#draft");
        await page.Press("ArrowUp", "ArrowUp", 38);
        await page.Until("document.activeElement.classList.contains('edit-field')");
        await page.Type(" thought");
        await page.Enter();
        await page.Until("document.querySelector('.message:nth-child(3) .bubble')?.textContent === 'Second thought'");
        await page.Settle();
        Assert.Equal("2 / 2", await page.Text(".message:nth-child(3) .version-count"));
        await page.Click(".message:nth-child(3) [aria-label='Previous version']");
        await page.Until("document.querySelector('.message:nth-child(3) .bubble').textContent === 'Second'");
        Assert.Equal("1 / 2", await page.Text(".message:nth-child(3) .version-count"));

        // Escape leaves an edit without a trace.
        await page.Click(".message:nth-child(1) [aria-label='Edit']");
        await page.Type("nothing of this");
        await page.Escape();
        Assert.Equal("First", await page.Text(".message:nth-child(1) .bubble"));
        Assert.Equal(0, await page.Count(".message:nth-child(1) .version-count"));
        await page.Reload();
        await page.Until("document.querySelector('.message:nth-child(3) .version-count')?.textContent === '1 / 2'");
    }

    [BrowserFact]
    public async Task AReplyIsStoppedAndKeepsWhatItHas()
    {
        string[] script = [.. Enumerable.Range(1, 40).Select(i => $"word{i} ")];
        using var wordy = new ScriptedModel(["Hm."], script);
        await using TestServer server = await TestServer.StartAsync(wordy.Load());
        await using var line = new HeldLine(server.Server.Address, "word3");
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(line.Address, """{"temperature":0,"think":false}""");
        await page.Click("#draft");
        await page.Type("Talk");
        await page.Enter();
        await page.Until("document.querySelector('.reply .message-body > .prose')?.textContent.includes('word2')");
        Assert.Equal("Stop", (await page.Run("document.querySelector('#send').title")).GetString());
        Assert.StartsWith("Writing", await page.Text("#status-text"), StringComparison.Ordinal);
        await page.Escape();
        await page.Settle();
        Assert.Equal("Stopped.", await page.Text(".reply .notice"));
        Assert.Equal("word1 word2", (await page.Text(".reply .message-body > .prose")).TrimEnd());
        line.Release();
        await page.Click(".reply [aria-label='Ask again']");
        await page.Until("document.querySelector('.reply .version-count')?.textContent === '2 / 2'");
        Assert.EndsWith("word40", (await page.Text(".reply .message-body > .prose")).TrimEnd(), StringComparison.Ordinal);
    }

    [BrowserFact]
    public async Task AKeyIsAskedForAndKeptForTheTabOnly()
    {
        await using TestServer server = await Start(new ServerOptions { Keys = [Key], ModelName = "locked" });
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server);
        await page.Until("document.querySelector('#key-dialog').open");
        Assert.Equal("", await page.Text("#key-wrong"));
        await page.Click("#key-field");
        await page.Type("sk-wrong-12345678");
        await page.Enter();
        await page.Until("document.querySelector('#key-wrong').textContent !== '' && document.querySelector('#key-dialog').open");
        await page.Forgive("401");
        await page.Click("#key-field");
        await page.Type(Key);
        await page.Enter();
        await page.Until("document.querySelector('#status-text').textContent === 'locked'");
        Assert.False(await page.Holds("document.querySelector('#key-dialog').open"));
        Assert.Equal(Key, (await page.Run("sessionStorage.getItem('qian.key')")).GetString());
        Assert.False(await page.Holds($"JSON.stringify(localStorage).includes('{Key}') || document.cookie.length > 0"));
        await page.Ask("Hello");
        Assert.Equal(1, await page.Count(".message.reply"));
        await page.Reload();
        Assert.False(await page.Holds("document.querySelector('#key-dialog').open"));
    }

    [BrowserFact]
    public async Task WhatTheServerRefusesIsSaidAndCanBeTriedAgain()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, """{"temperature":0,"think":false}""");
        await page.Send("Network.emulateNetworkConditions", new() { ["offline"] = true, ["latency"] = 0, ["downloadThroughput"] = 0, ["uploadThroughput"] = 0 });
        await page.Ask("Is anybody there?");
        await page.Forgive("ERR_INTERNET_DISCONNECTED");
        Assert.Contains("cannot be reached", await page.Text(".reply .notice.bad"), StringComparison.Ordinal);
        await page.Send("Network.emulateNetworkConditions", new() { ["offline"] = false, ["latency"] = 0, ["downloadThroughput"] = -1, ["uploadThroughput"] = -1 });
        await page.Click(".reply .notice.bad button");
        await page.Until("document.querySelector('.reply .version-count')?.textContent === '2 / 2'");
        Assert.Equal(ScriptedModel.PlainAnswer, await page.Text(".reply .message-body > .prose"));

        await page.Ask(string.Concat(Enumerable.Repeat("far too long ", 3000)));
        await page.Forgive("400");
        Assert.Contains("context length is 2048 tokens", await page.Text(".message:last-child .notice.bad"), StringComparison.Ordinal);
    }

    [BrowserFact]
    public async Task SettingsReachTheServerAndStay()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, """{"temperature":0,"think":false}""");
        await page.Click("#settings-open");
        await page.Click("#set-max_tokens");
        await page.Type("2");
        await page.Click("#set-temperature");
        await page.Type("9");
        Assert.True(await page.Holds("document.querySelector('#set-temperature').getAttribute('aria-invalid') === 'true'"));
        await page.Click("#set-system");
        await page.Type("Be brief.");
        await page.Escape();
        await page.Until("!document.querySelector('#settings').open");
        Assert.Equal("settings-open", (await page.Run("document.activeElement.id")).GetString());
        await page.Ask("Hello");
        Assert.Equal(string.Concat(ScriptedModel.PlainScript[..2]), await page.Text(".reply .message-body > .prose"));
        Assert.Contains("length limit", await page.Text(".reply .notice"), StringComparison.Ordinal);
        JsonElement kept = TestServer.Parse((await page.Run("localStorage.getItem('qian.settings')")).GetString()!);
        Assert.Equal((2, 0, "Be brief."), (kept.GetProperty("max_tokens").GetInt32(), kept.GetProperty("temperature").GetInt32(), kept.GetProperty("system").GetString()));

        await page.Click("#settings-open");
        await page.Click(".segment-row label:nth-child(3) input");
        string dark = (await page.Run("getComputedStyle(document.body).backgroundColor")).GetString()!;
        await page.Click(".segment-row label:nth-child(2) input");
        Assert.NotEqual(dark, (await page.Run("getComputedStyle(document.body).backgroundColor")).GetString());
        await page.Click("#settings-reset");
        Assert.Equal("", (await page.Run("document.querySelector('#set-max_tokens').value")).GetString());
    }

    [BrowserFact]
    public async Task ConversationsAreRenamedDeletedAndBroughtBack()
    {
        await using TestServer server = await Start();
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, """{"temperature":0,"think":false}""");
        await page.Ask("Hello");
        await page.Click("#menu-open");
        await page.Click("#menu-rename");
        await page.Type("Greetings");
        await page.Enter();
        await page.Until("document.querySelector('#shelf-list [aria-current]')?.textContent === 'Greetings'");
        Assert.Equal("Greetings", await page.Text("#title"));
        await page.Click("#menu-open");
        await page.Click("#menu-delete");
        await page.Until("document.querySelectorAll('#shelf-list button').length === 0");
        Assert.Equal(0, await page.Count(".message"));
        await page.Click("#toast button");
        await page.Until("document.querySelector('#shelf-list [aria-current]')?.textContent === 'Greetings'");
        Assert.Equal(2, await page.Count(".message"));
    }

    [BrowserFact]
    public async Task NanoWritesCodeInColoursAtAMeasuredSpeed()
    {
        await using TestServer server = await TestServer.StartAsync(LoadNano());
        await using BrowserPage page = await browser.OpenAsync();
        await page.Open(server, """{"temperature":0,"max_tokens":400}""");
        await page.Click("#starters li:first-child button");
        await page.Enter();
        await page.Until("document.querySelectorAll('.message.reply').length === 1");
        await page.Settle();
        Assert.Equal("csharp", await page.Text(".reply .code figcaption span"));
        Assert.True(await page.Count(".reply .code .c-word") > 1);
        Assert.Matches(@"\d+ tokens\d+(\.\d)? tokens/sfirst after \d+(\.\d+)? (s|min \d+ s)prompt \d+, \d+ % cached", await page.Text(".figures"));
        string code = await page.Text(".reply .code code");
        await page.Click(".reply .code [aria-label='Copy code']");
        await page.Until("document.querySelector('#announcer').textContent === 'Copied'");
        await page.Click("#draft");
        await page.Paste();
        await page.Until("document.querySelector('#draft').value !== ''");
        Assert.Equal(code, (await page.Run("document.querySelector('#draft').value")).GetString());
    }
}
