using System.CommandLine;
using Qian.Inference;
using Qian.Server;

namespace Qian.Cli;

// qian serve: the HTTP API, until Ctrl-C. Replies that run come to their end first; a second Ctrl-C does not wait.
internal static class ServeVerb
{
    private static readonly ServerOptions s_defaults = new();

    public static Command Create()
    {
        var command = new Command("serve", "Serve a model over HTTP, as OpenAI's and Anthropic's APIs do");
        var model = new ModelOptions(command, withPrefixes: true);
        var host = new Option<string>("--host") { Description = "IP address to listen on; a public one needs a key", DefaultValueFactory = _ => s_defaults.Host, HelpName = "ADDRESS" };
        var port = new Option<int>("--port") { Description = "Port; 0 takes a free one", DefaultValueFactory = _ => s_defaults.Port, HelpName = "N" };
        var key = new Option<string[]>("--key") { Description = "API key that clients must send (may be given several times; other users of this machine can see it, so prefer a file)", HelpName = "KEY" };
        var keys = new Option<string?>("--keys") { Description = "File of named keys, made by 'qian keys add'; read again when it changes", HelpName = "FILE" };
        var certificate = new Option<string?>("--tls-cert") { Description = "Certificate to speak TLS with: PEM (its chain behind it) or PFX", HelpName = "FILE" };
        var certificateKey = new Option<string?>("--tls-key") { Description = "The certificate's key as PEM, where it is in a file of its own", HelpName = "FILE" };
        var certificatePassword = new Option<string?>("--tls-password-file") { Description = "File whose first line is the password of the key or PFX", HelpName = "FILE" };
        var adapter = new Option<string[]>("--adapter") { Description = "LoRA adapter that requests may choose by its name (may be given several times)", HelpName = "[NAME=]PATH" };
        var alias = new Option<string?>("--alias") { Description = "The model's name in replies (default: the file's)", HelpName = "NAME" };
        var parallel = new Option<int>("--parallel") { Description = "Replies generated side by side", DefaultValueFactory = _ => s_defaults.ParallelCount, HelpName = "N" };
        var queue = new Option<int>("--queue") { Description = "Requests that may wait; further ones get status 429", DefaultValueFactory = _ => s_defaults.QueueLimit, HelpName = "N" };
        var cors = new Option<string[]>("--cors") { Description = "Origin of web pages that may call the API (may be given several times)", HelpName = "ORIGIN" };
        var log = new Option<RequestLogFormat>("--log") { Description = "A line on stderr per request: none, text or json", DefaultValueFactory = _ => s_defaults.RequestLog, HelpName = "FORMAT" };
        var audit = new Option<string?>("--audit") { Description = "File that gets a JSON line per request: who, what, when, how much", HelpName = "FILE" };
        var auditContents = new Option<bool>("--audit-contents") { Description = "Put the words of the conversations into the audit file too" };
        var share = new Option<bool>("--share-prefixes") { Description = "Let holders of different keys share what is known of prompts (they can tell from speed what others sent)" };
        var noLoopGuard = new Option<bool>("--no-loop-guard") { Description = "Let replies repeat themselves as long as they like, where a request does not say" };
        var draft = new Option<string>("--draft") { HelpName = "auto|off|N", Description = "Tokens guessed ahead per pass where a request does not say: N, or as many as pay", DefaultValueFactory = _ => "auto" };
        var otlp = new Option<string?>("--otlp") { Description = $"OpenTelemetry collector to send spans and meters to, such as http://localhost:4318 (default: {TelemetryExport.EndpointVariable}; without either nothing is sent)", HelpName = "URL" };
        var maxTokens = new Option<int?>("--max-tokens", "-n") { Description = "Most tokens of one reply, whatever a request asks for", HelpName = "N" };
        var maxBody = new Option<long>("--max-body") { Description = "Most bytes of a request", DefaultValueFactory = _ => s_defaults.MaxBodyBytes, HelpName = "BYTES" };
        var drain = new Option<int>("--drain") { Description = "Seconds that running replies get to end when the server stops", DefaultValueFactory = _ => (int)s_defaults.DrainLimit.TotalSeconds, HelpName = "SECONDS" };
        foreach (Option option in (Option[])[host, port, key, keys, certificate, certificateKey, certificatePassword, adapter, alias, parallel, queue, cors, log, audit, auditContents, otlp, share, noLoopGuard, draft, maxTokens, maxBody, drain])
            command.Add(option);

        command.SetAction(async (parsed, cancellation) =>
        {
            string path = model.Path(parsed);
            var options = new ServerOptions
            {
                Host = parsed.GetValue(host)!,
                Port = parsed.GetValue(port),
                Keys = parsed.GetValue(key) ?? [],
                KeyFile = parsed.GetValue(keys),
                CertificatePath = parsed.GetValue(certificate),
                CertificateKeyPath = parsed.GetValue(certificateKey),
                CertificatePassword = parsed.GetValue(certificatePassword) is { } passwordFile ? File.ReadLines(passwordFile).FirstOrDefault() : null,
                ModelName = parsed.GetValue(alias) ?? NameOf(path),
                ParallelCount = parsed.GetValue(parallel),
                QueueLimit = parsed.GetValue(queue),
                AllowedOrigins = parsed.GetValue(cors) ?? [],
                RequestLog = parsed.GetValue(log),
                AuditPath = parsed.GetValue(audit),
                AuditContents = parsed.GetValue(auditContents),
                SharePrefixes = parsed.GetValue(share),
                LoopGuard = !parsed.GetValue(noLoopGuard),
                DraftTokens = SamplingFlags.DraftTokens(parsed.GetValue(draft)!),
                MaxOutputTokens = parsed.GetValue(maxTokens),
                MaxBodyBytes = parsed.GetValue(maxBody),
                DrainLimit = TimeSpan.FromSeconds(parsed.GetValue(drain)),
                PrefixLog = Console.Error,
            };
            // Before minutes of loading.
            Check(options);
            Uri? collector = TelemetryExport.Endpoint(parsed.GetValue(otlp));
            using Engine engine = model.Load(parsed, drafts: true, cancellation);
            foreach (string given in parsed.GetValue(adapter) ?? [])
                LoadAdapter(engine, given);
            if (!options.IsLoopback && options.CertificatePath is null)
                Terminal.Note("keys and conversations cross the network in the clear; --tls-cert encrypts them");
            using TelemetryExport? export = TelemetryExport.Start(collector);
            await using QianServer server = await Start(engine, options, cancellation);
            if (collector is not null)
                Terminal.Note($"sending spans and meters to {collector.GetLeftPart(UriPartial.Authority)}");
            Terminal.Note($"serving {options.ModelName} at {server.Address.GetLeftPart(UriPartial.Authority)} (Ctrl-C stops)");
            await Task.Delay(Timeout.Infinite, cancellation).ContinueWith(static _ => { }, CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);
            Terminal.Note($"stopping; replies that run may take {options.DrainLimit.TotalSeconds:0} s more");
            await server.StopAsync(CancellationToken.None);
            return Program.Done;
        });
        return command;
    }

    private static void Check(ServerOptions options)
    {
        try
        {
            options.Validate();
        }
        catch (BadRequestException error)
        {
            throw FlagNames.Rename(error);
        }
    }

    private static async Task<QianServer> Start(Engine engine, ServerOptions options, CancellationToken cancellation)
    {
        try
        {
            return await QianServer.StartAsync(engine, options, Console.Error, cancellation);
        }
        catch (BadRequestException error)
        {
            throw FlagNames.Rename(error);
        }
    }

    // The last part of the path, without what says only how it is stored.
    private static string NameOf(string path)
    {
        string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(path)));
        return name.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase) ? name[..^5] : name;
    }

    // NAME=PATH, or a path with its own name.
    private static void LoadAdapter(Engine engine, string given)
    {
        int equals = given.IndexOf('=');
        if (equals > 0 && !Path.Exists(given))
            engine.LoadAdapter(given[(equals + 1)..], given[..equals]);
        else
            engine.LoadAdapter(given);
    }
}
