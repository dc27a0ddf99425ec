using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Qian.Server.Tests.Page;

// The line between a browser and a server, which can be held: it carries all that is said, but not what the server says from a
// certain word on, until it is let go. So a reply stands still at a known place for as long as a test wants.
internal sealed class HeldLine : IAsyncDisposable
{
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly CancellationTokenSource _stop = new();
    private readonly TaskCompletionSource _released = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Uri _server;
    private readonly byte[] _word;
    private readonly Task _accepting;

    public HeldLine(Uri server, string word)
    {
        _server = server;
        _word = Encoding.ASCII.GetBytes(word);
        _listener.Start();
        _accepting = AcceptAsync();
    }

    // What the browser takes for the server's.
    public Uri Address => new($"http://127.0.0.1:{((IPEndPoint)_listener.LocalEndpoint).Port}");

    public void Release() => _released.TrySetResult();

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _accepting;
        _listener.Dispose();
    }

    private async Task AcceptAsync()
    {
        var carrying = new List<Task>();
        try
        {
            while (true)
                carrying.Add(CarryAsync(await _listener.AcceptTcpClientAsync(_stop.Token)));
        }
        catch (OperationCanceledException)
        {
            await Task.WhenAll(carrying);
        }
    }

    // One connection; when either side closes it, it is closed to the other.
    private async Task CarryAsync(TcpClient browser)
    {
        using (browser)
        using (var server = new TcpClient())
        using (var ended = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token))
        {
            await server.ConnectAsync(IPAddress.Loopback, _server.Port);
            Task[] ways = [Quietly(AskAsync(browser.GetStream(), server.GetStream(), ended.Token)), Quietly(AnswerAsync(server.GetStream(), browser.GetStream(), ended.Token))];
            await Task.WhenAny(ways);
            await ended.CancelAsync();
            await Task.WhenAll(ways);
        }
    }

    private static Task AskAsync(NetworkStream browser, NetworkStream server, CancellationToken ended) => browser.CopyToAsync(server, ended);

    private async Task AnswerAsync(NetworkStream server, NetworkStream browser, CancellationToken ended)
    {
        byte[] buffer = new byte[8192];
        // The last bytes that were carried, before the new ones: the word may come in parts.
        int carried = 0;
        int count;
        while ((count = await server.ReadAsync(buffer.AsMemory(carried), ended)) > 0)
        {
            int end = carried + count, at = buffer.AsSpan(0, end).IndexOf(_word), hold = at < 0 ? end : Math.Max(at, carried);
            await browser.WriteAsync(buffer.AsMemory(carried..hold), ended);
            if (hold < end)
            {
                await _released.Task.WaitAsync(ended);
                await browser.WriteAsync(buffer.AsMemory(hold..end), ended);
            }

            carried = Math.Min(_word.Length - 1, end);
            buffer.AsSpan((end - carried)..end).CopyTo(buffer);
        }
    }

    private static async Task Quietly(Task carrying)
    {
        try
        {
            await carrying;
        }
        catch (Exception error) when (error is IOException or SocketException or OperationCanceledException)
        {
            // Closed by one side, or the test is over.
        }
    }
}
