using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.Anthropic;

// POST /v1/messages and /v1/messages/count_tokens.
internal sealed class MessagesEndpoint(Engine engine, ServerOptions options, ReplySource replies)
{
    public async Task AnswerAsync(HttpContext context)
    {
        using JsonDocument body = await RequestBody.ReadAsync(context, options.MaxBodyBytes).ConfigureAwait(false);
        JsonFields fields = JsonFields.Root(body.RootElement);
        ChatRequest request = MessagesReader.Read(fields, options);
        ReplyOrder order = request.Order(engine, ServingTerms.Read(context, fields, engine, options));
        ReplyHead head = ReplyHead.New("msg_", order.Adapter?.Name ?? options.ModelName);
        if (request.Streams)
            await replies.StreamAsync(context, order, (events, run) => new MessagesWriter(events, head, run)).ConfigureAwait(false);
        else
            await replies.SendWholeAsync(context, order, (json, drafts, usage) => MessagesWriter.WriteWhole(json, head, drafts[0], usage)).ConfigureAwait(false);
    }

    // The tokens of the very prompt that the message would be answered from.
    public async Task CountAsync(HttpContext context)
    {
        using JsonDocument body = await RequestBody.ReadAsync(context, options.MaxBodyBytes).ConfigureAwait(false);
        ChatRequest request = MessagesReader.ReadForCount(JsonFields.Root(body.RootElement), options);
        int count = PromptEncoder.Encode(engine.Tokenizer, request.Render(engine)).Count;
        await JsonReply.SendAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteNumber("input_tokens", count);
            json.WriteEndObject();
        }).ConfigureAwait(false);
    }
}
