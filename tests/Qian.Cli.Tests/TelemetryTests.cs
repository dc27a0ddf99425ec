using System.Collections.Concurrent;
using System.Net;
using System.Text;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// qian serve with a collector of its own: what is sent, and that nothing is unless one is named.
public sealed class TelemetryTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static readonly HttpClient s_client = new();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task SpansAndMetersReachTheCollectorThatWasNamed(bool byVariable)
    {
        using var collector = new Collector();
        string[] arguments = ["serve", "-m", model.Path, "-c", "4096", "--port", "0", .. byVariable ? [] : (string[])["--otlp", collector.Address]];
        using CliProcess process = CliProcess.Start(byVariable ? ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.Address) : null, arguments);
        await Ask(process);
        Assert.Contains("sending spans and meters to", process.Notes, StringComparison.Ordinal);
        process.Interrupt();
        Assert.Equal(0, (await process.End()).ExitCode);

        string spans = Assert.Single(collector.Bodies("/v1/traces")), meters = collector.Bodies("/v1/metrics").Last();
        string[] inSpans = ["service.name", "qian", "Qian.Server", "text_completion tiny", "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model", "gen_ai.usage.input_tokens", "gen_ai.response.finish_reasons", "length"];
        Assert.All(inSpans, part => Assert.Contains(part, spans, StringComparison.Ordinal));
        string[] inMeters = ["gen_ai.server.request.duration", "gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token", "gen_ai.client.token.usage", "gen_ai.token.type"];
        Assert.All(inMeters, part => Assert.Contains(part, meters, StringComparison.Ordinal));
        // The words of a conversation stay here.
        Assert.DoesNotContain("Guten Morgen", spans + meters, StringComparison.Ordinal);
        Assert.Equal(["application/x-protobuf"], collector.ContentTypes.Distinct());
    }

    [Fact]
    public async Task ACollectorThatIsNotThereHindersNobody()
    {
        string address;
        using (var gone = new Collector())
            address = gone.Address;
        using CliProcess process = CliProcess.Start("serve", "-m", model.Path, "-c", "4096", "--port", "0", "--otlp", address);
        await Ask(process);
        process.Interrupt();
        Assert.Equal(0, (await process.End()).ExitCode);
    }

    [Theory]
    [InlineData("collector:4318")]
    [InlineData("/v1/traces")]
    [InlineData("")]
    public async Task AnAddressThatIsNoneIsRefusedBeforeLoading(string address)
    {
        CliResult result = await CliProcess.Run("serve", "-m", "/nowhere/model.gguf", "--otlp", address);
        Assert.Equal(2, result.ExitCode);
        Assert.Contains("--otlp: expected an address", result.Error, StringComparison.Ordinal);
    }

    private static async Task Ask(CliProcess process)
    {
        await process.Noted("(Ctrl-C stops)");
        string line = process.Notes.Split('\n').Single(line => line.StartsWith("serving ", StringComparison.Ordinal));
        using var body = new StringContent("""{"prompt":"Guten Morgen","max_tokens":5,"ignore_eos":true,"temperature":0}""", Encoding.UTF8, "application/json");
        using HttpResponseMessage response = await s_client.PostAsync(new Uri(new Uri(line.Split(' ')[3]), "/v1/completions"), body);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
    }

    // Takes whatever is posted and keeps it. Protobuf spells texts as they are, so they are found in the bytes.
    private sealed class Collector : IDisposable
    {
        private readonly HttpListener _listener = new();
        private readonly ConcurrentQueue<(string Path, string Body, string? ContentType)> _taken = new();
        private readonly Task _listening;

        public Collector()
        {
            using (var probe = new System.Net.Sockets.TcpListener(IPAddress.Loopback, 0))
            {
                probe.Start();
                Address = $"http://127.0.0.1:{((IPEndPoint)probe.LocalEndpoint).Port}";
            }

            _listener.Prefixes.Add(Address + "/");
            _listener.Start();
            _listening = Task.Run(Listen);
        }

        public string Address { get; }

        public IEnumerable<string?> ContentTypes => _taken.Select(request => request.ContentType);

        public string[] Bodies(string path) => [.. _taken.Where(request => request.Path == path).Select(request => request.Body)];

        public void Dispose()
        {
            _listener.Close();
            _listening.Wait();
        }

        private async Task Listen()
        {
            try
            {
                while (true)
                {
                    HttpListenerContext context = await _listener.GetContextAsync();
                    using var body = new MemoryStream();
                    await context.Request.InputStream.CopyToAsync(body);
                    _taken.Enqueue((context.Request.Url!.AbsolutePath, Encoding.Latin1.GetString(body.ToArray()), context.Request.ContentType));
                    context.Response.ContentType = "application/x-protobuf";
                    context.Response.Close();
                }
            }
            catch (Exception error) when (error is HttpListenerException or ObjectDisposedException)
            {
                // Closed.
            }
        }
    }
}
