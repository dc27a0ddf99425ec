using System.Diagnostics;
using System.Net.WebSockets;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Qian.Server.Tests.Page;

// A headless Chromium that is driven through its DevTools protocol: one process for all tests of the collection, a profile of its
// own for every page. Started by the first page, so that a machine without a browser can still skip.
public sealed class Chromium : IAsyncLifetime
{
    private static readonly string[] s_names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome.exe", "msedge.exe"];

    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(5);

    private readonly SemaphoreSlim _starting = new(1);
    private readonly ClientWebSocket _socket = new();
    private readonly SemaphoreSlim _sending = new(1);
    private readonly Dictionary<int, TaskCompletionSource<JsonElement>> _answers = [];
    private readonly CancellationTokenSource _closing = new();
    private readonly string _folder = Directory.CreateTempSubdirectory("qian-chromium-").FullName;
    private Process? _process;
    private Task _reading = Task.CompletedTask;
    private int _lastId;

    // Told of every event: its method, its page's session, its parameters.
    internal event Action<string, string?, JsonElement>? Event;

    // The executable, by QIAN_CHROMIUM or on the search path; null where there is none.
    public static string? Find()
    {
        if (Environment.GetEnvironmentVariable("QIAN_CHROMIUM") is { Length: > 0 } named)
            return File.Exists(named) ? named : null;
        string[] folders = [.. (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator), "/Applications/Chromium.app/Contents/MacOS", "/Applications/Google Chrome.app/Contents/MacOS"];
        string[] names = OperatingSystem.IsMacOS() ? [.. s_names, "Chromium", "Google Chrome"] : s_names;
        return folders.Where(folder => folder.Length > 0).SelectMany(folder => names.Select(name => Path.Combine(folder, name))).FirstOrDefault(File.Exists);
    }

    public Task InitializeAsync() => Task.CompletedTask;

    // A page in a profile of its own: nothing is kept from one test to the next.
    internal async Task<BrowserPage> OpenAsync(int width = 1200, int height = 800, bool isPhone = false)
    {
        await StartAsync();
        string context = (await SendAsync("Target.createBrowserContext", [])).GetProperty("browserContextId").GetString()!;
        string target = (await SendAsync("Target.createTarget", new() { ["url"] = "about:blank", ["browserContextId"] = context })).GetProperty("targetId").GetString()!;
        string session = (await SendAsync("Target.attachToTarget", new() { ["targetId"] = target, ["flatten"] = true })).GetProperty("sessionId").GetString()!;
        var page = new BrowserPage(this, context, session);
        await page.PrepareAsync(width, height, isPhone);
        return page;
    }

    internal async Task<JsonElement> SendAsync(string method, JsonObject parameters, string? session = null)
    {
        int id = Interlocked.Increment(ref _lastId);
        var answer = new TaskCompletionSource<JsonElement>(TaskCreationOptions.RunContinuationsAsynchronously);
        lock (_answers)
            _answers[id] = answer;
        var message = new JsonObject { ["id"] = id, ["method"] = method, ["params"] = parameters };
        if (session is not null)
            message["sessionId"] = session;
        byte[] bytes = JsonSerializer.SerializeToUtf8Bytes(message);
        await _sending.WaitAsync();
        try
        {
            await _socket.SendAsync(bytes, WebSocketMessageType.Text, endOfMessage: true, _closing.Token);
        }
        finally
        {
            _sending.Release();
        }

        JsonElement reply = await answer.Task.WaitAsync(s_patience);
        if (reply.TryGetProperty("error", out JsonElement error))
            throw new InvalidOperationException($"{method}: {error}");
        return reply.GetProperty("result");
    }

    public async Task DisposeAsync()
    {
        if (_process is { } process)
        {
            // On its own it takes away what it has laid beside its folder.
            await SendAsync("Browser.close", []);
            using var patience = new CancellationTokenSource(s_patience);
            try
            {
                await process.WaitForExitAsync(patience.Token);
            }
            finally
            {
                process.Kill(entireProcessTree: true);
                process.Dispose();
            }
        }

        await _closing.CancelAsync();
        await _reading;
        _socket.Dispose();

        // Its helper processes let go of their files a moment after it.
        for (int attempt = 0; ; attempt++)
        {
            try
            {
                Directory.Delete(_folder, recursive: true);
                return;
            }
            catch (IOException) when (attempt < 600)
            {
                await Task.Delay(100);
            }
        }
    }

    private async Task StartAsync()
    {
        await _starting.WaitAsync();
        try
        {
            if (_process is not null)
                return;
            // Without a sandbox, because containers have no room for one; it sees nothing but our own pages.
            string[] arguments =
            [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions", "--disable-background-networking",
                "--disable-component-update", "--disable-sync", "--mute-audio", "--remote-debugging-port=0", $"--user-data-dir={_folder}", "about:blank",
            ];
            var start = new ProcessStartInfo(Find()!, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
            _process = Process.Start(start)!;
            _process.OutputDataReceived += (_, _) => { };
            _process.ErrorDataReceived += (_, _) => { };
            _process.BeginOutputReadLine();
            _process.BeginErrorReadLine();
            using var patience = new CancellationTokenSource(s_patience);
            string[] address;
            string file = Path.Combine(_folder, "DevToolsActivePort");
            while (!File.Exists(file) || (address = await File.ReadAllLinesAsync(file, patience.Token)).Length < 2)
                await Task.Delay(20, patience.Token);
            await _socket.ConnectAsync(new Uri($"ws://127.0.0.1:{address[0]}{address[1]}"), patience.Token);
            _reading = ReadAsync();
        }
        finally
        {
            _starting.Release();
        }
    }

    private async Task ReadAsync()
    {
        var message = new MemoryStream();
        byte[] buffer = new byte[1 << 16];
        try
        {
            while (true)
            {
                WebSocketReceiveResult part = await _socket.ReceiveAsync(buffer, _closing.Token);
                message.Write(buffer, 0, part.Count);
                if (!part.EndOfMessage)
                    continue;
                if (message.Length == 0)
                    return;
                using JsonDocument document = JsonDocument.Parse(message.ToArray());
                message.SetLength(0);
                Dispatch(document.RootElement.Clone());
            }
        }
        catch (Exception error) when (error is OperationCanceledException or WebSocketException)
        {
            // Closed: those who still wait for an answer run out of patience and say for what.
        }
    }

    private void Dispatch(JsonElement message)
    {
        if (message.TryGetProperty("id", out JsonElement id))
        {
            TaskCompletionSource<JsonElement>? answer;
            lock (_answers)
                _answers.Remove(id.GetInt32(), out answer);
            answer?.SetResult(message);
            return;
        }

        Event?.Invoke(message.GetProperty("method").GetString()!, message.TryGetProperty("sessionId", out JsonElement session) ? session.GetString() : null, message.GetProperty("params"));
    }
}

// All page tests share one browser.
[CollectionDefinition(nameof(Chromium))]
public sealed class ChromiumCollection : ICollectionFixture<Chromium>;

// A test that needs a browser, reported as skipped where there is none.
[AttributeUsage(AttributeTargets.Method)]
public sealed class BrowserFactAttribute : FactAttribute
{
    public BrowserFactAttribute()
    {
        if (Chromium.Find() is null)
            Skip = "No Chromium was found on the search path; install one or name it in QIAN_CHROMIUM.";
    }
}
