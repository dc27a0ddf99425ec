using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Text;
using Qian.Server.Http;
using Qian.Server.OpenAi;
using Qian.Server.Replies;

namespace Qian.Server.Plain;

// What the model will really see: POST /tokenize, /detokenize and /apply-template, in the spellings of llama.cpp and vLLM.
internal sealed class TextEndpoints(Engine engine, ServerOptions options)
{
    // {"content" or "prompt": text} or {"messages": …}; "parse_special" lets text that spells a control token become one.
    public async Task TokenizeAsync(HttpContext context)
    {
        using JsonDocument document = await RequestBody.ReadAsync(context, options.MaxBodyBytes).ConfigureAwait(false);
        JsonFields body = JsonFields.Root(document.RootElement);
        bool withPieces = body.Flag("with_pieces") ?? false;
        bool special = body.Flag("parse_special") ?? false;
        List<int> ids;
        if (body.Has("messages"))
            ids = PromptEncoder.Encode(engine.Tokenizer, Conversation(body).Render(engine));
        else if ((body.Text("content") ?? body.Text("prompt")) is { } text)
            ids = [.. engine.Tokenizer.Encode(text, special)];
        else
            throw body.Missing("content");
        await JsonReply.SendAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteNumber("count", ids.Count);
            json.WriteNumber("max_model_len", engine.ContextLength);
            json.WriteStartArray("tokens");
            foreach (int id in ids)
            {
                if (withPieces)
                    WritePiece(json, id);
                else
                    json.WriteNumberValue(id);
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }).ConfigureAwait(false);
    }

    public async Task DetokenizeAsync(HttpContext context)
    {
        using JsonDocument document = await RequestBody.ReadAsync(context, options.MaxBodyBytes).ConfigureAwait(false);
        JsonFields body = JsonFields.Root(document.RootElement);
        Tokenizer tokenizer = engine.Tokenizer;
        JsonElement[] tokens = body.List("tokens", 1 << 24) ?? throw body.Missing("tokens");
        string text = tokenizer.Decode([.. tokens.Select((item, i) => JsonFields.AsInteger(item, $"tokens[{i}]", 0, tokenizer.VocabularySize - 1))]);
        await JsonReply.SendAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteString("content", text);
            json.WriteString("prompt", text);
            json.WriteEndObject();
        }).ConfigureAwait(false);
    }

    public async Task ApplyTemplateAsync(HttpContext context)
    {
        using JsonDocument document = await RequestBody.ReadAsync(context, options.MaxBodyBytes).ConfigureAwait(false);
        string prompt = PromptEncoder.Join(Conversation(JsonFields.Root(document.RootElement)).Render(engine));
        await JsonReply.SendAsync(context, json =>
        {
            json.WriteStartObject();
            json.WriteString("prompt", prompt);
            json.WriteEndObject();
        }).ConfigureAwait(false);
    }

    private ChatRequest Conversation(JsonFields body) => new()
    {
        Messages = ChatCompletionReader.Messages(body, options.MaxMessageCount),
        Tools = ChatCompletionReader.Tools(body, options.MaxToolCount),
        Template = ChatCompletionReader.Thinking(body) with { AddGenerationPrompt = body.Flag("add_generation_prompt") ?? true },
    };

    private void WritePiece(Utf8JsonWriter json, int id)
    {
        json.WriteStartObject();
        json.WriteNumber("id", id);
        json.WriteString("piece", engine.Tokenizer.Decode([id]));
        json.WriteEndObject();
    }
}
