using System.Text.Json;
using Qian.Inference;
using Qian.Inference.Text;
using Qian.Server.Http;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi;

// A body of /v1/completions: raw text or tokens in, their continuation out. Text that spells a control token is one here:
// whoever uses this endpoint writes the whole prompt, template included.
internal sealed record CompletionRequest(ReplyOrder Order, bool Echoes, bool WithLogProbs, bool Streams, bool StreamsUsage)
{
    private const int MostPrompts = 1024;
    private const int DefaultMaxTokens = 16;

    private static readonly string[] s_fimTokens = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"];

    public static CompletionRequest Read(JsonFields body, Engine engine)
    {
        body.Text("model");
        bool echoes = body.Flag("echo") ?? false;
        int maxTokens = body.Integer("max_tokens", 0, int.MaxValue) ?? DefaultMaxTokens;
        int? logProbs = body.Integer("logprobs", 0, SamplingFields.MostAlternatives);
        int choiceCount = body.Integer("n", 1, SamplingFields.MostChoices) ?? 1;
        if (body.Integer("best_of", 0, int.MaxValue) is { } best && best > choiceCount)
            throw body.Invalid("best_of", "this server returns every completion it makes; it must not exceed 'n'.");
        List<int[]> prompts = Prompts(body, engine);
        if (prompts.Count * choiceCount > MostPrompts)
            throw body.Invalid("prompt", $"a request may have {MostPrompts} completions at most.");
        SamplingOptions sampling = SamplingFields.Read(body) with { Constraint = ConstraintFields.Read(body, out string constraintPath), MaxTokens = Math.Max(1, maxTokens), LogProbs = logProbs };
        if (body.Text("suffix") is { } suffix)
        {
            prompts = [.. prompts.Select(prompt => FillIn(prompt, suffix, engine.Tokenizer, body))];
            sampling = sampling with { StopTokenIds = [.. Ids(engine.Tokenizer)] };
        }

        foreach (int[] prompt in prompts)
        {
            if (prompt.Length >= engine.ContextLength)
                throw RequestFault.ContextExceeded("prompt", prompt.Length, engine.ContextLength);
        }

        var order = new ReplyOrder
        {
            Prompts = prompts,
            ChoiceCount = choiceCount,
            Sampling = sampling,
            ConstraintPath = constraintPath,
            PromptLogProbs = echoes ? logProbs : null,
            ScoresOnly = maxTokens == 0,
        };
        return new CompletionRequest(order, echoes, logProbs is not null, body.Flag("stream") ?? false, body.Object("stream_options")?.Flag("include_usage") ?? false);
    }

    // A string, strings, token ids, or lists of token ids.
    private static List<int[]> Prompts(JsonFields body, Engine engine)
    {
        JsonElement prompt = body.Any("prompt");
        if (prompt.ValueKind == JsonValueKind.Undefined)
            return [Checked([], engine, "prompt")];
        if (prompt.ValueKind == JsonValueKind.String)
            return [Encode(prompt.GetString()!, engine, "prompt")];
        if (prompt.ValueKind != JsonValueKind.Array)
            throw JsonFields.WrongType("prompt", "a string or an array", prompt);
        if (prompt.GetArrayLength() == 0)
            throw body.Invalid("prompt", "there must be at least one prompt.");
        if (prompt[0].ValueKind == JsonValueKind.Number)
            return [ReadIds(prompt, engine, "prompt")];
        var prompts = new List<int[]>();
        JsonElement[] items = JsonFields.AsList(prompt, "prompt", MostPrompts);
        for (int i = 0; i < items.Length; i++)
        {
            string path = $"prompt[{i}]";
            prompts.Add(items[i].ValueKind switch
            {
                JsonValueKind.String => Encode(items[i].GetString()!, engine, path),
                JsonValueKind.Array => ReadIds(items[i], engine, path),
                _ => throw JsonFields.WrongType(path, "a string or an array of token ids", items[i]),
            });
        }

        return prompts;
    }

    private static int[] Encode(string text, Engine engine, string path) => Checked(engine.Tokenizer.Encode(text, matchAddedTokens: true), engine, path);

    private static int[] ReadIds(JsonElement list, Engine engine, string path) =>
        Checked([.. JsonFields.AsList(list, path, 1 << 24).Select((item, i) => JsonFields.AsInteger(item, $"{path}[{i}]", 0, engine.Config.VocabularySize - 1))], engine, path);

    // An empty prompt stands for the beginning of a document.
    private static int[] Checked(int[] ids, Engine engine, string path)
    {
        if (ids.Length > 0)
            return ids;
        return engine.Tokenizer.TryGetId("<|endoftext|>", out int id) ? [id] : throw RequestFault.Bad(path, $"Invalid '{path}': it is empty.", "invalid_value");
    }

    // Code before and after, the middle to be written; the marks are the model's own.
    private static int[] FillIn(int[] prefix, string suffix, Tokenizer tokenizer, JsonFields body)
    {
        int Id(string name) => tokenizer.TryGetId(name, out int id) ? id : throw body.Invalid("suffix", $"this model has no token {name}, so it cannot fill in.");
        return [Id("<|fim_prefix|>"), .. prefix, Id("<|fim_suffix|>"), .. tokenizer.Encode(suffix), Id("<|fim_middle|>")];
    }

    private static IEnumerable<int> Ids(Tokenizer tokenizer)
    {
        foreach (string name in s_fimTokens)
        {
            if (tokenizer.TryGetId(name, out int id))
                yield return id;
        }
    }
}
