using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Server.Http;
using Qian.Server.Replies;
using Qian.Server.Security;

namespace Qian.Server.OpenAi.Responses;

// POST /v1/responses; GET and DELETE /v1/responses/{id} for those that are kept.
internal sealed class ResponsesEndpoint(Engine engine, ServerOptions options, ReplySource replies)
{
    private const long MostStoredBytes = 64L << 20;

    private readonly ResponseStore _store = new(options.StoredResponseCount, MostStoredBytes);

    public async Task AnswerAsync(HttpContext context)
    {
        using JsonDocument body = await RequestBody.ReadAsync(context, options.MaxBodyBytes).ConfigureAwait(false);
        string owner = OwnerOf(context);
        JsonFields fields = JsonFields.Root(body.RootElement);
        ResponsesRequest request = ResponsesReader.Read(fields, options, _store, owner);
        ReplyOrder order = request.Chat.Order(engine, ServingTerms.Read(context, fields, engine, options));
        var response = new ResponseObject(ReplyHead.New("resp_", order.Adapter?.Name ?? options.ModelName), request, engine.Tokenizer);
        void Keep(ResponsesWriter finished) => Store(finished, response, owner);
        if (request.Chat.Streams)
        {
            await replies.StreamAsync(context, order, (events, _) => new ResponsesWriter(events, response, Keep)).ConfigureAwait(false);
            return;
        }

        var whole = new ResponsesWriter(null, response, Keep);
        whole.Complete(await replies.CollectAsync(context, order, piece => whole.Write(piece)).ConfigureAwait(false));
        await JsonReply.SendAsync(context, whole.WriteTo).ConfigureAwait(false);
    }

    public Task GetAsync(HttpContext context)
    {
        StoredResponse response = _store.Find(OwnerOf(context), IdOf(context)) ?? throw NotFound(context);
        context.Response.ContentType = "application/json";
        context.Response.ContentLength = response.Json.Length;
        return context.Response.Body.WriteAsync(response.Json, context.RequestAborted).AsTask();
    }

    public Task DeleteAsync(HttpContext context)
    {
        string id = IdOf(context);
        if (!_store.Remove(OwnerOf(context), id))
            throw NotFound(context);
        return JsonReply.SendAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteString("id", id);
            json.WriteString("object", "response");
            json.WriteBoolean("deleted", true);
            json.WriteEndObject();
        });
    }

    private static string OwnerOf(HttpContext context) => Caller.Of(context).Name;

    private static string IdOf(HttpContext context) => context.Request.RouteValues["id"]?.ToString() ?? "";

    private static RequestFault NotFound(HttpContext context)
    {
        string id = IdOf(context);
        return RequestFault.NotFound("id", $"Response with id '{(id.Length <= 80 ? id : id[..80])}' not found.");
    }

    private void Store(ResponsesWriter finished, ResponseObject response, string owner)
    {
        if (!response.Request.IsStored)
            return;
        List<Message> history = [.. response.Request.History];
        ResponseInput.Append(history, finished.Items);
        _store.Add(new StoredResponse(owner, response.Head.Id, history, finished.Items, JsonReply.Bytes(finished.WriteTo)));
    }
}
