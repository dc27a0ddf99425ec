using Qian.Inference.Model;

namespace Qian.Inference.Runtime;

// Whose texts and states these are: of one adapter or of none, and of one scope. Texts of different scopes are never compared,
// so that nobody learns from a quick answer, or from the tokens counted as cached, what was said in another. "" is the scope of
// all who need none.
internal readonly record struct PrefixRoot(LowRankAdapter? Adapter, string Scope);
