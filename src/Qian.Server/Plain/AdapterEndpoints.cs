using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Inference;
using Qian.Server.Http;
using Qian.Server.Observation;

namespace Qian.Server.Plain;

// GET, POST and DELETE /v1/adapters: LoRA adapters beside the model. Whoever loads one names a path of this machine, so the
// doorkeeper asks for the scope 'admin' first; even then no reply tells more of the path than that it did not work.
internal sealed class AdapterEndpoints(Engine engine, ServerOptions options, TextWriter log)
{
    private const int LongestName = 128;

    public Task ListAsync(HttpContext context) => JsonReply.SendAsync(context, json =>
    {
        json.WriteStartObject();
        json.WriteString("object", "list");
        json.WriteStartArray("data");
        foreach (Adapter adapter in engine.Adapters)
            Write(json, adapter);
        json.WriteEndArray();
        json.WriteEndObject();
    });

    // {"path": folder or file, "name": optional}
    public async Task LoadAsync(HttpContext context)
    {
        using JsonDocument document = await RequestBody.ReadAsync(context, options.MaxBodyBytes).ConfigureAwait(false);
        JsonFields body = JsonFields.Root(document.RootElement);
        string path = body.RequiredText("path");
        string? name = body.Text("name");
        if (name is { Length: 0 or > LongestName } || name?.Any(char.IsControl) == true)
            throw body.Invalid("name", $"expected 1 to {LongestName} characters.");
        if (name == options.ModelName)
            throw body.Invalid("name", "this is the model's own name.");
        Adapter adapter = await Task.Run(() => Load(path, name)).ConfigureAwait(false);
        RequestRecord.Of(context).Subject = adapter.Name;
        await JsonReply.SendAsync(context, json => Write(json, adapter), StatusCodes.Status201Created).ConfigureAwait(false);
    }

    // Replies that run with it come to their end.
    public Task UnloadAsync(HttpContext context)
    {
        string name = context.Request.RouteValues["name"]?.ToString() ?? "";
        Adapter adapter = engine.FindAdapter(name) ?? throw RequestFault.NotFound("name", "No adapter of this name is loaded.");
        adapter.Dispose();
        RequestRecord.Of(context).Subject = adapter.Name;
        return JsonReply.SendAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteString("id", adapter.Name);
            json.WriteString("object", "adapter");
            json.WriteBoolean("deleted", true);
            json.WriteEndObject();
        });
    }

    private Adapter Load(string path, string? name)
    {
        try
        {
            return engine.LoadAdapter(path, name);
        }
        catch (BadRequestException refusal)
        {
            throw RequestFault.Bad("name", $"Invalid 'name': {refusal.Message}", "invalid_value");
        }
        catch (Exception error) when (error is BadModelFileException or IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            log.WriteLine($"qian: an adapter was not loaded: {error.Message}");
            throw RequestFault.Bad("path", "Invalid 'path': there is no adapter there that fits this model; the server's log says why.", "invalid_value");
        }
    }

    private void Write(Utf8JsonWriter json, Adapter adapter)
    {
        json.WriteStartObject();
        json.WriteString("id", adapter.Name);
        json.WriteString("object", "adapter");
        json.WriteString("base_model", options.ModelName);
        json.WriteNumber("rank", adapter.Rank);
        json.WriteNumber("target_count", adapter.TargetCount);
        json.WriteNumber("bytes", adapter.Bytes);
        json.WriteEndObject();
    }
}
