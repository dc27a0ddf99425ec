using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Chat.Output;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi;

// Replies of /v1/chat/completions, whole and as chunks. A stream put together gives the whole reply: both are written from
// the same pieces.
internal sealed class ChatCompletionWriter : IReplyWriter
{
    private readonly EventStream _events;
    private readonly ReplyHead _head;
    private readonly ChatRequest _request;
    private readonly Engine _engine;
    private readonly bool[] _isBegun;

    public ChatCompletionWriter(EventStream events, ReplyHead head, ChatRequest request, Engine engine)
    {
        _events = events;
        _head = head;
        _request = request;
        _engine = engine;
        _isBegun = new bool[request.ChoiceCount];
    }

    public static void WriteWhole(Utf8JsonWriter json, ReplyHead head, ChatRequest request, Engine engine, IReadOnlyList<ReplyDraft> drafts, ReplyUsage usage)
    {
        json.WriteStartObject();
        head.Write(json, "chat.completion");
        json.WriteStartArray("choices");
        for (int i = 0; i < drafts.Count; i++)
        {
            json.WriteStartObject();
            json.WriteNumber("index", i);
            WriteMessage(json, drafts[i]);
            if (request.Sampling.LogProbs is null)
                json.WriteNull("logprobs");
            else
                LogProbWriter.WriteChat(json, engine.Tokenizer, drafts[i].AnswerTokens);
            WriteFinish(json, drafts[i].End);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        WriteUsage(json, usage);
        json.WriteEndObject();
    }

    public static void WriteUsage(Utf8JsonWriter json, ReplyUsage usage)
    {
        json.WriteStartObject("usage");
        json.WriteNumber("prompt_tokens", usage.PromptCount);
        json.WriteNumber("completion_tokens", usage.OutputCount);
        json.WriteNumber("total_tokens", usage.TotalCount);
        json.WriteStartObject("prompt_tokens_details");
        json.WriteNumber("cached_tokens", usage.CachedCount);
        json.WriteEndObject();
        json.WriteStartObject("completion_tokens_details");
        json.WriteNumber("reasoning_tokens", usage.ReasoningCount);
        json.WriteEndObject();
        usage.WriteExtensions(json);
        json.WriteEndObject();
    }

    // The official reason, and the true one where that has no word for it. Null: it goes on.
    public static void WriteFinish(Utf8JsonWriter json, ReplyEnd? end)
    {
        json.WriteString("finish_reason", end is null ? null : end.IsCut ? "length" : end.HasCalls ? "tool_calls" : "stop");
        end?.WriteDetail(json);
    }

    public void Begin()
    {
    }

    public void Write(in ReplyPiece piece)
    {
        bool withLogProbs = _request.Sampling.LogProbs is not null;
        GeneratedToken[] scored = withLogProbs && piece is { IsAnswer: true, Token: { } token } ? [token] : [];
        Role(piece.ChoiceIndex);
        foreach (OutputEvent step in piece.Events)
        {
            if (step.Kind == OutputEventKind.ToolCallCompleted)
                continue;
            Utf8JsonWriter json = Chunk(piece.ChoiceIndex);
            WriteStep(json, step);
            EndChunk(json, scored, null);
            scored = [];
        }

        if (scored.Length > 0)
            EndChunk(Chunk(piece.ChoiceIndex), scored, null);
        if (piece.End is { } end)
            EndChunk(Chunk(piece.ChoiceIndex), [], end);
    }

    public void Wait()
    {
    }

    public ValueTask EndAsync(ReplyUsage usage) => CompletionStream.EndAsync(_events, _head, "chat.completion.chunk", _request.StreamsUsage ? usage : null);

    public ValueTask FailAsync(RequestFault fault) => CompletionStream.FailAsync(_events, fault);

    private static void WriteMessage(Utf8JsonWriter json, ReplyDraft draft)
    {
        string content = draft.Content, reasoning = draft.Reasoning;
        ReplyBlock[] calls = [.. draft.Calls];
        json.WriteStartObject("message");
        json.WriteString("role", "assistant");
        if (content.Length == 0 && calls.Length > 0)
            json.WriteNull("content");
        else
            json.WriteString("content", content);
        if (reasoning.Length > 0)
            json.WriteString("reasoning_content", reasoning);
        json.WriteNull("refusal");
        if (calls.Length > 0)
        {
            json.WriteStartArray("tool_calls");
            foreach (ReplyBlock call in calls)
            {
                json.WriteStartObject();
                json.WriteString("id", NewCallId());
                json.WriteString("type", "function");
                json.WriteStartObject("function");
                json.WriteString("name", call.CallName);
                json.WriteString("arguments", call.Text.ToString());
                json.WriteEndObject();
                json.WriteEndObject();
            }

            json.WriteEndArray();
        }

        json.WriteEndObject();
    }

    private static string NewCallId() => "call_" + Guid.NewGuid().ToString("N")[..24];

    private void Role(int choiceIndex)
    {
        if (_isBegun[choiceIndex])
            return;
        _isBegun[choiceIndex] = true;
        Utf8JsonWriter json = Chunk(choiceIndex);
        json.WriteString("role", "assistant");
        json.WriteString("content", "");
        EndChunk(json, [], null);
    }

    private static void WriteStep(Utf8JsonWriter json, OutputEvent step)
    {
        switch (step.Kind)
        {
            case OutputEventKind.Reasoning:
                json.WriteString("reasoning_content", step.Text);
                return;
            case OutputEventKind.Content:
                json.WriteString("content", step.Text);
                return;
        }

        bool starts = step.Kind == OutputEventKind.ToolCallStarted;
        json.WriteStartArray("tool_calls");
        json.WriteStartObject();
        json.WriteNumber("index", step.CallIndex);
        if (starts)
        {
            json.WriteString("id", NewCallId());
            json.WriteString("type", "function");
        }

        json.WriteStartObject("function");
        if (starts)
            json.WriteString("name", step.Text);
        json.WriteString("arguments", starts ? "" : step.Text);
        json.WriteEndObject();
        json.WriteEndObject();
        json.WriteEndArray();
    }

    // Up to and into "delta".
    private Utf8JsonWriter Chunk(int choiceIndex)
    {
        Utf8JsonWriter json = _events.Event();
        json.WriteStartObject();
        _head.Write(json, "chat.completion.chunk");
        json.WriteStartArray("choices");
        json.WriteStartObject();
        json.WriteNumber("index", choiceIndex);
        json.WriteStartObject("delta");
        return json;
    }

    private void EndChunk(Utf8JsonWriter json, GeneratedToken[] scored, ReplyEnd? end)
    {
        json.WriteEndObject();
        if (scored.Length > 0)
            LogProbWriter.WriteChat(json, _engine.Tokenizer, scored);
        else
            json.WriteNull("logprobs");
        WriteFinish(json, end);
        json.WriteEndObject();
        json.WriteEndArray();
        if (_request.StreamsUsage)
            json.WriteNull("usage");
        json.WriteEndObject();
        _events.End();
    }
}
