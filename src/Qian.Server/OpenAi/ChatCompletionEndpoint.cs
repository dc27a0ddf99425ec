using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Inference;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi;

// POST /v1/chat/completions.
internal sealed class ChatCompletionEndpoint(Engine engine, ServerOptions options, ReplySource replies)
{
    public async Task AnswerAsync(HttpContext context)
    {
        using JsonDocument body = await RequestBody.ReadAsync(context, options.MaxBodyBytes).ConfigureAwait(false);
        JsonFields fields = JsonFields.Root(body.RootElement);
        ChatRequest request = ChatCompletionReader.Read(fields, options);
        ReplyOrder order = request.Order(engine, ServingTerms.Read(context, fields, engine, options));
        ReplyHead head = ReplyHead.New("chatcmpl-", order.Adapter?.Name ?? options.ModelName);
        if (request.Streams)
            await replies.StreamAsync(context, order, (events, _) => new ChatCompletionWriter(events, head, request, engine)).ConfigureAwait(false);
        else
            await replies.SendWholeAsync(context, order, (json, drafts, usage) => ChatCompletionWriter.WriteWhole(json, head, request, engine, drafts, usage)).ConfigureAwait(false);
    }
}
