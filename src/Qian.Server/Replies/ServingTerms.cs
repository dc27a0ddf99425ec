using Microsoft.AspNetCore.Http;
using Qian.Inference;
using Qian.Inference.Runtime;
using Qian.Server.Http;
using Qian.Server.Security;

namespace Qian.Server.Replies;

// What a body may say about how it is served rather than about the reply, in the same words in every dialect: the adapter, how
// urgent it is, how far ahead may be guessed, whether a reply that goes round in circles is ended.
internal sealed record ServingTerms
{
    private const int LongestSalt = 256;
    private const int MostUrgent = -1_000_000, LeastUrgent = 1_000_000;

    // Priorities that the tiers of OpenAI stand for, with room between them.
    private const int PriorityTier = -100, FlexTier = 100;

    public Adapter? Adapter { get; private init; }

    // Lower comes first.
    public int Priority { get; private init; }

    // The name of the key that asks.
    public string Caller { get; private init; } = "";

    // Whose prompts and replies may be known to this request: those of its own key, and of its own salt. "" for everybody's.
    public string Scope { get; private init; } = "";

    // Null to choose live.
    public int? DraftTokens { get; private init; }

    public bool LoopGuard { get; private init; }

    public static ServingTerms Read(HttpContext context, JsonFields body, Engine engine, ServerOptions options) => new()
    {
        Adapter = AdapterChoice.Of(body, engine),
        Priority = PriorityOf(body),
        Caller = Security.Caller.Of(context).Name,
        Scope = ScopeOf(Security.Caller.Of(context), body, options),
        DraftTokens = body.Integer("drafts", 0, DraftSlot.MaxDepth) ?? options.DraftTokens,
        LoopGuard = body.Flag("loop_guard") ?? options.LoopGuard,
    };

    public ReplyOrder Lay(ReplyOrder order) => order with
    {
        Adapter = Adapter,
        Priority = Priority,
        Caller = Caller,
        Scope = Scope,
        Sampling = order.Sampling with { DraftTokens = DraftTokens, LoopGuard = LoopGuard },
    };

    // "cache_salt" as vLLM has it parts what one key sends. OpenAI's "prompt_cache_key" says where to look for a known prompt, not
    // who may know it, and clients send another one with each conversation: it parts nothing, or no two would share their tools.
    private static string ScopeOf(Caller caller, JsonFields body, ServerOptions options)
    {
        string salt = body.Text("cache_salt") ?? "", owner = options.SharePrefixes ? "" : caller.Identity;
        if (salt.Length > LongestSalt)
            throw body.Invalid("cache_salt", $"expected at most {LongestSalt} characters.");
        return salt.Length == 0 ? owner : $"{owner}/{salt}";
    }

    // "priority" as vLLM has it, or OpenAI's "service_tier"; the exact one wins.
    private static int PriorityOf(JsonFields body)
    {
        int tier = body.Text("service_tier") switch
        {
            null or "auto" or "default" or "scale" or "standard_only" => 0,
            "priority" => PriorityTier,
            "flex" => FlexTier,
            _ => throw body.Invalid("service_tier", "expected 'auto', 'default', 'flex' or 'priority'."),
        };
        return body.Integer("priority", MostUrgent, LeastUrgent) ?? tier;
    }
}
