using System.Collections.Concurrent;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Server.Tests.Page;

// One page of the browser as a user has it: real mouse, real keys. Everything that went wrong on it, and every address that it
// asked for, is kept; closing it fails the test if a script failed or the policy had to stop something.
internal sealed class BrowserPage(Chromium browser, string context, string session) : IAsyncDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(3);

    private readonly ConcurrentQueue<string> _faults = new();
    private readonly ConcurrentQueue<string> _addresses = new();

    public IReadOnlyCollection<string> Addresses => _addresses;

    public async Task PrepareAsync(int width, int height, bool isPhone)
    {
        browser.Event += Listen;
        foreach (string domain in (string[])["Page", "Runtime", "Network", "Log", "Accessibility"])
            await Send(domain + ".enable");
        await Send("Emulation.setDeviceMetricsOverride", new() { ["width"] = width, ["height"] = height, ["deviceScaleFactor"] = 1, ["mobile"] = isPhone });
        if (isPhone)
            await Send("Emulation.setTouchEmulationEnabled", new() { ["enabled"] = true });
        await Send("Emulation.setFocusEmulationEnabled", new() { ["enabled"] = true });
    }

    public Task<JsonElement> Send(string method, JsonObject? parameters = null) => browser.SendAsync(method, parameters ?? [], session);

    // Opens the server's page; settings as the page would have kept them.
    public Task Open(TestServer server, string settings = """{"temperature":0}""") => Open(server.Server.Address, settings);

    public async Task Open(Uri address, string settings)
    {
        await Send("Page.addScriptToEvaluateOnNewDocument", new() { ["source"] = $"if (!localStorage.getItem('qian.settings')) localStorage.setItem('qian.settings', {JsonSerializer.Serialize(settings)});" });
        await Send("Page.navigate", new() { ["url"] = address.ToString() });
        await Until("document.readyState === 'complete' && (document.querySelector('#status-text')?.textContent || document.querySelector('dialog[open]'))");
    }

    // Once what is shown is what the browser has kept.
    public async Task Reload()
    {
        const string isKept = """
            Promise.all([import('/page/store.js'), import('/page/tree.js')]).then(async ([store, tree]) => {
                const [newest] = await store.list();
                const kept = newest ? tree.shown(await store.load(newest.id)) : [];
                return kept.every(node => node.role !== 'assistant' || node.end) && kept.map(node => node.id).join() === [...document.querySelectorAll('.message')].map(node => node.dataset.id).join();
            })
            """;
        using var patience = new CancellationTokenSource(s_patience);
        while (!(await Run(isKept)).GetBoolean())
            await Task.Delay(20, patience.Token);
        // Nothing is asked of a page that is about to go: the browser would break that off.
        var loaded = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        void Hear(string method, string? from, JsonElement parameters)
        {
            if (from == session && method == "Page.loadEventFired")
                loaded.TrySetResult();
        }

        browser.Event += Hear;
        await Send("Page.reload");
        await loaded.Task.WaitAsync(s_patience);
        browser.Event -= Hear;
        await Until("document.querySelector('#status-text').textContent !== ''");
    }

    // The value of an expression, which may be a promise.
    public async Task<JsonElement> Run(string expression)
    {
        JsonElement reply = await Send("Runtime.evaluate", new() { ["expression"] = expression, ["awaitPromise"] = true, ["returnByValue"] = true });
        if (reply.TryGetProperty("exceptionDetails", out JsonElement details))
            throw new InvalidOperationException($"{expression}: {details}");
        return reply.GetProperty("result").TryGetProperty("value", out JsonElement value) ? value : default;
    }

    public async Task<string> Text(string selector) => (await Run($"document.querySelector({Quote(selector)})?.textContent ?? '(nothing)'")).GetString()!;

    public async Task<int> Count(string selector) => (await Run($"document.querySelectorAll({Quote(selector)}).length")).GetInt32();

    public async Task<bool> Holds(string condition) => (await Run($"Boolean({condition})")).GetBoolean();

    public async Task Until(string condition)
    {
        using var patience = new CancellationTokenSource(s_patience);
        while (!await Holds(condition))
        {
            if (patience.IsCancellationRequested)
                Assert.Fail($"Never true: {condition}. The page says: {await Text("body")}. It complained: {string.Join("; ", _faults)}");
            await Task.Delay(20);
        }
    }

    // A click where the element is seen; what lies above it gets it, as for a user.
    public async Task Click(string selector)
    {
        string find = $"document.querySelector({Quote(selector)})";
        await Until($"{find} !== null && {find}.checkVisibility()");
        JsonElement place = await Run($"(() => {{ const node = {find}; node.scrollIntoView({{ block: 'nearest' }}); const box = node.getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; }})()");
        foreach (string kind in (string[])["mouseMoved", "mousePressed", "mouseReleased"])
            await Send("Input.dispatchMouseEvent", new() { ["type"] = kind, ["x"] = place[0].GetDouble(), ["y"] = place[1].GetDouble(), ["button"] = kind == "mouseMoved" ? "none" : "left", ["clickCount"] = 1 });
    }

    public Task<JsonElement> Type(string text) => Send("Input.insertText", new() { ["text"] = text });

    // Modifiers: 1 alt, 2 control, 8 shift.
    public async Task Press(string key, string code, int keyCode, string text = "", int modifiers = 0)
    {
        await Send("Input.dispatchKeyEvent", new() { ["type"] = text.Length > 0 ? "keyDown" : "rawKeyDown", ["key"] = key, ["code"] = code, ["windowsVirtualKeyCode"] = keyCode, ["text"] = text, ["modifiers"] = modifiers });
        await Send("Input.dispatchKeyEvent", new() { ["type"] = "keyUp", ["key"] = key, ["code"] = code, ["windowsVirtualKeyCode"] = keyCode, ["modifiers"] = modifiers });
    }

    public Task Enter() => Press("Enter", "Enter", 13, "\r");

    public Task Escape() => Press("Escape", "Escape", 27);

    public Task Tab() => Press("Tab", "Tab", 9);

    public Task Paste() => Send("Input.dispatchKeyEvent", new() { ["type"] = "rawKeyDown", ["key"] = "v", ["code"] = "KeyV", ["windowsVirtualKeyCode"] = 86, ["modifiers"] = 2, ["commands"] = new JsonArray("paste") });

    // Writes a message, sends it, waits for the reply's end.
    public async Task Ask(string text)
    {
        int before = await Count(".message.reply");
        await Click("#draft");
        await Type(text);
        await Enter();
        await Until($"document.querySelectorAll('.message.reply').length > {before}");
        await Settle();
    }

    // No reply is being written any more.
    public Task Settle() => Until("document.querySelector('#send').title === 'Send' && document.querySelector('[aria-busy=true]') === null");

    // What the browser reports, now or in a moment, and the test means to cause.
    public async Task Forgive(string part)
    {
        using var patience = new CancellationTokenSource(s_patience);
        while (!_faults.Any(fault => fault.Contains(part, StringComparison.Ordinal)))
            await Task.Delay(20, patience.Token);
        string[] faults = [.. _faults];
        _faults.Clear();
        foreach (string fault in faults.Where(fault => !fault.Contains(part, StringComparison.Ordinal)))
            _faults.Enqueue(fault);
    }

    public async ValueTask DisposeAsync()
    {
        browser.Event -= Listen;
        await browser.SendAsync("Target.disposeBrowserContext", new() { ["browserContextId"] = context });
        Assert.True(_faults.IsEmpty, string.Join('\n', _faults));
    }

    public static string Quote(string text) => JsonSerializer.Serialize(text);

    private void Listen(string method, string? from, JsonElement parameters)
    {
        if (from != session)
            return;
        if (method == "Runtime.exceptionThrown")
            _faults.Enqueue(parameters.GetProperty("exceptionDetails").ToString());
        else if (method == "Log.entryAdded" && parameters.GetProperty("entry").GetProperty("level").GetString() is "error" or "warning")
            _faults.Enqueue(parameters.GetProperty("entry").GetProperty("text").GetString()!);
        else if (method == "Runtime.consoleAPICalled" && parameters.GetProperty("type").GetString() is "error" or "warning")
            _faults.Enqueue(parameters.ToString());
        else if (method == "Network.requestWillBeSent")
            _addresses.Enqueue(parameters.GetProperty("request").GetProperty("url").GetString()!);
    }
}
