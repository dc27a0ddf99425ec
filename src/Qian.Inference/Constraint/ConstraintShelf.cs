using Qian.Inference.Text;

namespace Qian.Inference.Constraint;

// Compiled constraints of an engine, the latest kept: agents send the same tools with every request. The vocabulary is laid out when the first
// constraint comes. Safe to use from any thread; what it hands out is for one reply.
internal sealed class ConstraintShelf
{
    private const int MostKept = 16;

    // Of all that is kept together: entries of transition tables.
    private const long MostEntries = 16_000_000;

    private readonly Lazy<TokenTrie> _trie;
    private readonly Lock _lock = new();
    private readonly List<(string Key, MaskPlan Plan)> _kept = [];   // latest last

    public ConstraintShelf(Tokenizer tokenizer, int vocabularySize) => _trie = new Lazy<TokenTrie>(() => TokenTrie.Of(tokenizer, vocabularySize));

    // Refuses what cannot be compiled.
    public TokenConstraint Begin(OutputConstraint constraint, bool insideThinking, IEnumerable<int> endIds) => new(Find(constraint, insideThinking), endIds);

    private MaskPlan Find(OutputConstraint constraint, bool insideThinking)
    {
        string key = (insideThinking ? "think " : "") + constraint.Key;
        lock (_lock)
        {
            int at = _kept.FindIndex(entry => entry.Key == key);
            if (at >= 0)
            {
                (string, MaskPlan Plan) known = _kept[at];
                _kept.RemoveAt(at);
                _kept.Add(known);
                return known.Plan;
            }
        }

        Grammar grammar = constraint.ToGrammar();
        if (insideThinking)
            grammar = grammar with { Root = Term.Of(ReplyText.Thinking, grammar.Root), UsesMarkup = true };
        var plan = new MaskPlan(Automaton.Compile(grammar), _trie.Value);
        lock (_lock)
        {
            _kept.Add((key, plan));
            while (_kept.Count > MostKept || (_kept.Count > 1 && _kept.Sum(entry => (long)entry.Plan.Automaton.Next.Length) > MostEntries))
                _kept.RemoveAt(0);
        }

        return plan;
    }
}
