using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Qian.Inference;
using Qian.Server.Anthropic;
using Qian.Server.Http;
using Qian.Server.Observation;
using Qian.Server.OpenAi;
using Qian.Server.OpenAi.Responses;
using Qian.Server.Page;
using Qian.Server.Plain;
using Qian.Server.Replies;
using Qian.Server.Security;

namespace Qian.Server;

/// <summary>
/// A loaded model behind HTTP, in the dialects of OpenAI (<c>/v1/chat/completions</c>, <c>/v1/completions</c>) and Anthropic
/// (<c>/v1/messages</c>). Start it, read <see cref="Address"/>, stop it.
/// </summary>
public sealed class QianServer : IAsyncDisposable
{
    private readonly WebApplication _application;
    private readonly ReplySource _replies;
    private readonly RequestBoundary _boundary;
    private readonly ServerOptions _options;
    private readonly RequestLog _requestLog;
    private readonly ServerCertificate? _certificate;

    private QianServer(WebApplication application, ReplySource replies, RequestBoundary boundary, ServerOptions options, RequestLog requestLog, ServerCertificate? certificate)
    {
        _requestLog = requestLog;
        _certificate = certificate;
        _application = application;
        _replies = replies;
        _boundary = boundary;
        _options = options;
        Address = new Uri(application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());
    }

    /// <summary>Where it listens, with the port that was taken.</summary>
    public Uri Address { get; }

    /// <summary>Starts to serve <paramref name="engine"/>, which must outlive the server.</summary>
    /// <param name="engine">A model with a tokenizer.</param>
    /// <param name="options">Where, to whom, how much.</param>
    /// <param name="log">Told in full what clients are told as a bare 500; null for nobody.</param>
    /// <param name="cancellationToken">Gives up starting.</param>
    /// <exception cref="BadRequestException">An option is out of range, or a public address was given without a key.</exception>
    /// <exception cref="BadModelFileException">The model has no tokenizer, or its chat template cannot be used.</exception>
    /// <exception cref="IOException">The address is taken.</exception>
    public static async Task<QianServer> StartAsync(Engine engine, ServerOptions options, TextWriter? log = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(engine);
        options.Validate();
        // Both are needed by the first request; better to hear of it now.
        _ = engine.Tokenizer;
        _ = engine.Template.Summary;
        CheckMemory(engine, options);
        TextWriter told = log ?? TextWriter.Null;
        var requestLog = new RequestLog(options, told);
        var keys = new ApiKeys(options.Keys, options.KeyFile, told);
        ServerCertificate? certificate = options.LoadCertificate();

        WebApplicationBuilder builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel(kestrel =>
        {
            kestrel.AddServerHeader = false;
            kestrel.Limits.MaxRequestBodySize = options.MaxBodyBytes;
            foreach (IPAddress address in options.Addresses())
                kestrel.Listen(address, options.Port, endpoint => Encrypt(endpoint, certificate));
        });
        builder.Services.AddRoutingCore();
        builder.Services.AddSingleton(new FaultLog(told));
        // Signals are the program's business.
        builder.Services.AddSingleton<IHostLifetime, NoLifetime>();
        builder.Services.Configure<HostOptions>(host => host.ShutdownTimeout = Timeout.InfiniteTimeSpan);
        WebApplication application = builder.Build();

        var metrics = new ServerMetrics();
        var replies = new ReplySource(engine, options, metrics, options.PrefixLog ?? TextWriter.Null);
        var boundary = new RequestBoundary(new Doorkeeper(options, keys), metrics, requestLog);
        application.Use(boundary.RunAsync);
        application.UseRouting();
        Map(application, engine, options, replies, metrics, told);
        try
        {
            await application.StartAsync(cancellationToken).ConfigureAwait(false);
        }
        catch
        {
            await application.DisposeAsync().ConfigureAwait(false);
            requestLog.Dispose();
            certificate?.Dispose();
            throw;
        }

        return new QianServer(application, replies, boundary, options, requestLog, certificate);
    }

    /// <summary>
    /// Stops taking requests, lets the replies that run come to their end within the options' drain limit, breaks off the
    /// rest, and returns when nothing is left.
    /// </summary>
    /// <param name="cancellationToken">Breaks off what still runs at once.</param>
    public async Task StopAsync(CancellationToken cancellationToken = default)
    {
        _replies.IsStopping = true;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        limit.CancelAfter(_options.DrainLimit);
        try
        {
            await _application.StopAsync(limit.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (limit.IsCancellationRequested)
        {
            // The connections that were left have been broken off.
        }

        // Their generations end within a step, and each is told of; only then may the engine and the log go.
        while (_boundary.RunningCount > 0)
            await Task.Delay(5, CancellationToken.None).ConfigureAwait(false);
    }

    /// <summary>Stops, if that was not done yet.</summary>
    public async ValueTask DisposeAsync()
    {
        await StopAsync().ConfigureAwait(false);
        await _application.DisposeAsync().ConfigureAwait(false);
        _requestLog.Dispose();
        _certificate?.Dispose();
    }

    private static void Encrypt(ListenOptions endpoint, ServerCertificate? certificate)
    {
        if (certificate is null)
            return;
        endpoint.UseHttps(https =>
        {
            https.ServerCertificate = certificate.Leaf;
            https.ServerCertificateChain = certificate.Chain;
        });
    }

    // Each reply that is generated beside others has a recurrent state of its own.
    private static void CheckMemory(Engine engine, ServerOptions options)
    {
        MemoryPlan memory = engine.Memory;
        if (memory.FixedBytes(options.ParallelCount) <= memory.AvailableBytes)
            return;
        long fits = Math.Max(1, (memory.AvailableBytes - memory.FixedBytes(0)) / memory.SequenceStateBytes);
        throw new BadRequestException($"{nameof(ServerOptions.ParallelCount)}: expected at most {fits}, which is what fits in memory beside the model, found {options.ParallelCount}.");
    }

    private static void Map(IEndpointRouteBuilder routes, Engine engine, ServerOptions options, ReplySource replies, ServerMetrics metrics, TextWriter log)
    {
        var text = new TextEndpoints(engine, options);
        var status = new StatusEndpoints(engine, options, replies, metrics);
        var responses = new ResponsesEndpoint(engine, options, replies);
        var adapters = new AdapterEndpoints(engine, options, log);
        var messages = new MessagesEndpoint(engine, options, replies);
        routes.MapPost("/v1/chat/completions", new ChatCompletionEndpoint(engine, options, replies).AnswerAsync);
        routes.MapPost("/v1/completions", new CompletionEndpoint(engine, options, replies).AnswerAsync);
        routes.MapPost("/v1/responses", responses.AnswerAsync);
        routes.MapGet("/v1/responses/{id}", responses.GetAsync);
        routes.MapDelete("/v1/responses/{id}", responses.DeleteAsync);
        routes.MapPost("/v1/messages", messages.AnswerAsync);
        routes.MapPost("/v1/messages/count_tokens", messages.CountAsync);
        routes.MapGet("/v1/adapters", adapters.ListAsync);
        routes.MapPost("/v1/adapters", adapters.LoadAsync);
        routes.MapDelete("/v1/adapters/{**name}", adapters.UnloadAsync);
        routes.MapPost("/tokenize", text.TokenizeAsync);
        routes.MapPost("/detokenize", text.DetokenizeAsync);
        routes.MapPost("/apply-template", text.ApplyTemplateAsync);
        MapLook("/v1/models", status.ModelsAsync);
        MapLook("/v1/models/{**name}", status.ModelAsync);
        MapLook("/health", status.HealthAsync);
        MapLook("/ready", status.ReadyAsync);
        MapLook("/metrics", status.MetricsAsync);
        PageFiles.Map(routes);

        // Who only wants to know whether somebody answers asks by HEAD.
        void MapLook(string pattern, RequestDelegate answer) => routes.MapMethods(pattern, [HttpMethods.Get, HttpMethods.Head], answer);
    }

    private sealed class NoLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
