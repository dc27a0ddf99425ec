using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Inference;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.Plain;

// GET /health, /ready, /metrics and /v1/models.
internal sealed class StatusEndpoints(Engine engine, ServerOptions options, ReplySource replies, ServerMetrics metrics)
{
    private readonly DateTimeOffset _startedAt = DateTimeOffset.UtcNow;

    // The process is alive.
    public Task HealthAsync(HttpContext context) => JsonReply.SendAsync(context, json => WriteStatus(json, "ok"));

    // New replies would be begun.
    public Task ReadyAsync(HttpContext context) => replies.IsStopping
        ? JsonReply.SendAsync(context, json => WriteStatus(json, "stopping"), StatusCodes.Status503ServiceUnavailable)
        : JsonReply.SendAsync(context, json => WriteStatus(json, "ready"));

    public Task MetricsAsync(HttpContext context)
    {
        context.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
        return context.Response.WriteAsync(metrics.Page(replies.Admission), context.RequestAborted);
    }

    // One list for both dialects: their fields do not collide.
    public Task ModelsAsync(HttpContext context) => JsonReply.SendAsync(context, json =>
    {
        json.WriteStartObject();
        json.WriteString("object", "list");
        json.WriteStartArray("data");
        WriteModel(json, options.ModelName);
        foreach (Adapter adapter in engine.Adapters)
            WriteModel(json, adapter.Name);
        json.WriteEndArray();
        json.WriteBoolean("has_more", false);
        json.WriteString("first_id", options.ModelName);
        json.WriteString("last_id", engine.Adapters is [.., var last] ? last.Name : options.ModelName);
        json.WriteEndObject();
    });

    public Task ModelAsync(HttpContext context)
    {
        string name = context.Request.RouteValues["name"]?.ToString() ?? "";
        if (name != options.ModelName && engine.FindAdapter(name) is null)
            throw RequestFault.NoSuchModel(options.ModelName);
        return JsonReply.SendAsync(context, json => WriteModel(json, name));
    }

    private static void WriteStatus(Utf8JsonWriter json, string status)
    {
        json.WriteStartObject();
        json.WriteString("status", status);
        json.WriteEndObject();
    }

    // The model, or an adapter of it, which may be asked for by its name like a model.
    private void WriteModel(Utf8JsonWriter json, string name)
    {
        json.WriteStartObject();
        json.WriteString("id", name);
        json.WriteString("object", "model");
        json.WriteNumber("created", _startedAt.ToUnixTimeSeconds());
        json.WriteString("owned_by", "qian");
        json.WriteString("type", "model");
        json.WriteString("display_name", name);
        if (name != options.ModelName)
            json.WriteString("parent", options.ModelName);
        json.WriteString("created_at", _startedAt.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture));
        json.WriteNumber("max_model_len", engine.ContextLength);
        json.WriteEndObject();
    }
}
