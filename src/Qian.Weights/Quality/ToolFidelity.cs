using System.Text;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Chat.Output;

namespace Qian.Weights;

// Lets both models reply to the same tool prompts, one model after the other, so that only one is ever in memory. Greedy, without
// thinking, without the grammar that the server puts on calls: what a model would write by itself is what is compared.
internal static class ToolFidelity
{
    private const int MostReplyTokens = 256;
    private const int ContextLength = 8192;

    private static readonly SamplingOptions s_greedy = new()
    {
        Temperature = 0,
        PresencePenalty = 0,
        FrequencyPenalty = 0,
        RepetitionPenalty = 1,
        MaxTokens = MostReplyTokens,
    };

    // `progress` is told replies done and in all.
    public static ToolReport Compare(QualityRequest request, Action<long, long>? progress, CancellationToken cancellation)
    {
        IReadOnlyList<ToolPrompt> prompts = request.ToolPromptsPath is { } path ? ToolPrompt.FromFile(path) : ToolPrompt.Shipped();
        ToolReply[] reference = Replies(request.ReferencePath!, request.ReferenceOptions, adapterPath: null, prompts, done => progress?.Invoke(done, 2 * prompts.Count), cancellation);
        ToolReply[] candidate = Replies(request.CandidatePath!, request.CandidateOptions, request.AdapterPath, prompts, done => progress?.Invoke(prompts.Count + done, 2 * prompts.Count), cancellation);
        return ToolReport.From(prompts, reference, candidate);
    }

    private static ToolReply[] Replies(string modelPath, EngineOptions options, string? adapterPath, IReadOnlyList<ToolPrompt> prompts, Action<int> progress, CancellationToken cancellation)
    {
        using Engine engine = Engine.Load(modelPath, options with { ContextLength = ContextLength, Speculation = Speculation.Off }, null, cancellation);
        Adapter? adapter = adapterPath is null ? null : engine.LoadAdapter(adapterPath);
        var replies = new ToolReply[prompts.Count];
        for (int i = 0; i < replies.Length; i++)
        {
            IReadOnlyList<Message> messages = MessageNormalizer.Normalize(prompts[i].Messages, engine.Template.Summary);
            int[] ids = [.. PromptEncoder.Encode(engine.Tokenizer, engine.Template.RenderSegments(messages, prompts[i].Tools, ChatTemplateOptions.Default with { EnableThinking = false }))];
            if (ids.Length + MostReplyTokens > ContextLength)
                throw new BadRequestException($"tool prompt {i + 1} has {ids.Length} tokens; {ContextLength - MostReplyTokens} are the most");
            replies[i] = ReplyAsync(engine, adapter, ids, prompts[i].Tools, cancellation).GetAwaiter().GetResult();
            progress(i + 1);
        }

        return replies;
    }

    private static async Task<ToolReply> ReplyAsync(Engine engine, Adapter? adapter, int[] ids, IReadOnlyList<ToolDefinition> tools, CancellationToken cancellation)
    {
        using Session session = engine.NewSession(adapter);
        session.Append(ids);
        var parser = new AssistantOutputParser(tools, thinks: false);
        var text = new StringBuilder();
        FinishReason? finish = null;
        await foreach (GeneratedToken token in session.GenerateAsync(s_greedy, cancellation).ConfigureAwait(false))
        {
            parser.Feed(token.Text);
            text.Append(token.Text);
            finish = token.Finish;
        }

        parser.Finish(isCut: finish != FinishReason.Stop);
        return ToolReply.From(parser.Output, text.ToString(), finish, tools);
    }
}
