using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;
using Qian.Inference;
using Qian.Server.Observation;

namespace Qian.Cli;

// The server's spans and meters on their way to a collector by OTLP. Only where somebody named one: without an endpoint nothing is
// listened to and nothing is sent. All further settings are OpenTelemetry's own variables (headers, timeout, intervals, service
// name). The protocol is protobuf over HTTP unless its variable says otherwise. What a collector does not take is lost; the server
// does not wait for it.
internal sealed class TelemetryExport : IDisposable
{
    public const string EndpointVariable = "OTEL_EXPORTER_OTLP_ENDPOINT";

    private const string ProtocolVariable = "OTEL_EXPORTER_OTLP_PROTOCOL";

    private readonly TracerProvider _spans;
    private readonly MeterProvider _meters;

    private TelemetryExport(Uri endpoint)
    {
        ResourceBuilder resource = ResourceBuilder.CreateEmpty().AddService("qian", autoGenerateServiceInstanceId: true).AddTelemetrySdk().AddEnvironmentVariableDetector();
        _spans = Sdk.CreateTracerProviderBuilder().SetResourceBuilder(resource).AddSource(Telemetry.SourceName).AddOtlpExporter(options => Configure(options, endpoint, "v1/traces")).Build();
        _meters = Sdk.CreateMeterProviderBuilder().SetResourceBuilder(resource).AddMeter(Telemetry.SourceName).AddOtlpExporter(options => Configure(options, endpoint, "v1/metrics")).Build();
    }

    // Null where neither the flag nor the variable names a collector.
    public static Uri? Endpoint(string? flag)
    {
        (string name, string? given) = flag is not null ? ("--otlp", flag) : (EndpointVariable, Environment.GetEnvironmentVariable(EndpointVariable));
        if (string.IsNullOrWhiteSpace(given))
            return flag is null ? null : throw new BadRequestException("--otlp: expected an address such as http://localhost:4318, found nothing.");
        return Uri.TryCreate(given, UriKind.Absolute, out Uri? endpoint) && endpoint.Scheme is "http" or "https"
            ? endpoint
            : throw new BadRequestException($"{name}: expected an address such as http://localhost:4318, found '{given}'.");
    }

    public static TelemetryExport? Start(Uri? endpoint) => endpoint is null ? null : new TelemetryExport(endpoint);

    // Sends what is left.
    public void Dispose()
    {
        _spans.Dispose();
        _meters.Dispose();
    }

    private static void Configure(OtlpExporterOptions options, Uri endpoint, string path)
    {
        if (string.IsNullOrEmpty(Environment.GetEnvironmentVariable(ProtocolVariable)))
            options.Protocol = OtlpExportProtocol.HttpProtobuf;
        // An endpoint is the collector's root; gRPC has no paths.
        options.Endpoint = options.Protocol == OtlpExportProtocol.HttpProtobuf ? new Uri(endpoint.AbsoluteUri.TrimEnd('/') + "/" + path) : endpoint;
    }
}
