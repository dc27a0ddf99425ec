using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Inference;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi;

// POST /v1/completions.
internal sealed class CompletionEndpoint(Engine engine, ServerOptions options, ReplySource replies)
{
    public async Task AnswerAsync(HttpContext context)
    {
        using JsonDocument body = await RequestBody.ReadAsync(context, options.MaxBodyBytes).ConfigureAwait(false);
        JsonFields fields = JsonFields.Root(body.RootElement);
        CompletionRequest request = CompletionRequest.Read(fields, engine);
        ReplyOrder order = ServingTerms.Read(context, fields, engine, options).Lay(request.Order);
        ReplyHead head = ReplyHead.New("cmpl-", order.Adapter?.Name ?? options.ModelName);
        if (request.Streams)
            await replies.StreamAsync(context, order, (events, _) => new CompletionWriter(events, head, request, engine.Tokenizer)).ConfigureAwait(false);
        else
            await replies.SendWholeAsync(context, order, (json, drafts, usage) => CompletionWriter.WriteWhole(json, head, request, engine.Tokenizer, drafts, usage)).ConfigureAwait(false);
    }
}
