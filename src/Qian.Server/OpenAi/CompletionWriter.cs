using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Text;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi;

// Replies of /v1/completions, whole and as chunks: text_completion objects with log-probabilities as four lists.
internal sealed class CompletionWriter : IReplyWriter
{
    private readonly EventStream _events;
    private readonly ReplyHead _head;
    private readonly CompletionRequest _request;
    private readonly Tokenizer _tokenizer;
    private readonly bool[] _isBegun;
    private readonly int[] _textLengths;   // per choice: where its next token's text begins

    public CompletionWriter(EventStream events, ReplyHead head, CompletionRequest request, Tokenizer tokenizer)
    {
        _events = events;
        _head = head;
        _request = request;
        _tokenizer = tokenizer;
        _isBegun = new bool[request.Order.TotalChoiceCount];
        _textLengths = new int[request.Order.TotalChoiceCount];
    }

    public static void WriteWhole(Utf8JsonWriter json, ReplyHead head, CompletionRequest request, Tokenizer tokenizer, IReadOnlyList<ReplyDraft> drafts, ReplyUsage usage)
    {
        json.WriteStartObject();
        head.Write(json, "text_completion");
        json.WriteStartArray("choices");
        for (int i = 0; i < drafts.Count; i++)
        {
            json.WriteStartObject();
            string echo = request.Echoes ? Echo(request, tokenizer, i) : "";
            json.WriteString("text", echo + drafts[i].Content);
            json.WriteNumber("index", i);
            int offset = 0;
            if (request.WithLogProbs)
                WriteLogProbs(json, tokenizer, [.. drafts[i].PromptScores ?? [], .. drafts[i].AnswerTokens.Select(Score)], ref offset);
            else
                json.WriteNull("logprobs");
            ChatCompletionWriter.WriteFinish(json, drafts[i].End);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        ChatCompletionWriter.WriteUsage(json, usage);
        json.WriteEndObject();
    }

    public void Begin()
    {
    }

    public void Write(in ReplyPiece piece)
    {
        string text = string.Concat(piece.Events.Select(step => step.Text));
        List<TokenScore> scores = [];
        if (_request.WithLogProbs)
        {
            scores.AddRange(piece.PromptScores ?? []);
            if (piece is { IsAnswer: true, Token: { } token })
                scores.Add(Score(token));
        }

        // The prompt comes with its scores where there are any, else ahead of whatever comes first.
        if (_request.Echoes && !_isBegun[piece.ChoiceIndex])
            text = Echo(_request, _tokenizer, piece.ChoiceIndex) + text;
        _isBegun[piece.ChoiceIndex] = true;
        if (text.Length > 0 || scores.Count > 0)
            Chunk(piece.ChoiceIndex, text, scores, null);
        if (piece.End is { } end)
            Chunk(piece.ChoiceIndex, "", [], end);
    }

    public void Wait()
    {
    }

    public ValueTask EndAsync(ReplyUsage usage) => CompletionStream.EndAsync(_events, _head, "text_completion", _request.StreamsUsage ? usage : null);

    public ValueTask FailAsync(RequestFault fault) => CompletionStream.FailAsync(_events, fault);

    private static TokenScore Score(GeneratedToken token) => new(token.Id, token.LogProbability, token.Alternatives ?? []);

    private static string Echo(CompletionRequest request, Tokenizer tokenizer, int choiceIndex) => tokenizer.Decode(request.Order.Prompts[choiceIndex / request.Order.ChoiceCount]);

    // "logprobs": {tokens, token_logprobs, top_logprobs, text_offset}; offset is where the next token's text begins.
    private static void WriteLogProbs(Utf8JsonWriter json, Tokenizer tokenizer, List<TokenScore> scores, ref int offset)
    {
        string[] texts = [.. scores.Select(score => LogProbWriter.TextOf(tokenizer, score.Id))];
        json.WriteStartObject("logprobs");
        json.WriteStartArray("tokens");
        foreach (string text in texts)
            json.WriteStringValue(text);
        json.WriteEndArray();
        json.WriteStartArray("token_logprobs");
        foreach (TokenScore score in scores)
        {
            if (score.LogProbability is { } logProbability)
                json.WriteNumberValue(LogProbWriter.Finite(logProbability));
            else
                json.WriteNullValue();
        }

        json.WriteEndArray();
        json.WriteStartArray("top_logprobs");
        foreach (TokenScore score in scores)
            WriteAlternatives(json, tokenizer, score);
        json.WriteEndArray();
        json.WriteStartArray("text_offset");
        foreach (string text in texts)
        {
            json.WriteNumberValue(offset);
            offset += text.Length;
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    // Text to log-probability, best first; of two tokens with one text the better counts.
    private static void WriteAlternatives(Utf8JsonWriter json, Tokenizer tokenizer, TokenScore score)
    {
        if (score.LogProbability is null)
        {
            json.WriteNullValue();
            return;
        }

        var seen = new HashSet<string>();
        json.WriteStartObject();
        foreach (TokenLogProbability alternative in score.Alternatives)
        {
            string text = LogProbWriter.TextOf(tokenizer, alternative.Id);
            if (seen.Add(text))
                json.WriteNumber(text, LogProbWriter.Finite(alternative.LogProbability));
        }

        json.WriteEndObject();
    }

    private void Chunk(int choiceIndex, string text, List<TokenScore> scores, ReplyEnd? end)
    {
        Utf8JsonWriter json = _events.Event();
        json.WriteStartObject();
        _head.Write(json, "text_completion");
        json.WriteStartArray("choices");
        json.WriteStartObject();
        json.WriteString("text", text);
        json.WriteNumber("index", choiceIndex);
        if (scores.Count > 0)
            WriteLogProbs(json, _tokenizer, scores, ref _textLengths[choiceIndex]);
        else
            json.WriteNull("logprobs");
        ChatCompletionWriter.WriteFinish(json, end);
        json.WriteEndObject();
        json.WriteEndArray();
        if (_request.StreamsUsage)
            json.WriteNull("usage");
        json.WriteEndObject();
        _events.End();
    }
}
