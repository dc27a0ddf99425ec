namespace Qian.Nano;

// Which family the next sample comes from: the one furthest behind its share of what the assistant writes, for that is what is learnt.
// `shares`: others than the usual ones, by family.
internal sealed class Mixture(ulong seed, Split split, IReadOnlyDictionary<string, double>? shares = null)
{
    private static readonly (string Family, double Share)[] s_usual = [("functions", 0.58), ("tools", 0.19), ("talk", 0.07), ("json", 0.08), ("recall", 0.08)];

    private readonly (string Family, double Share)[] _shares = [.. s_usual.Select(usual => (usual.Family, shares?.GetValueOrDefault(usual.Family, usual.Share) ?? usual.Share))];
    private readonly long[] _written = new long[s_usual.Length];
    private long _index;

    public static IReadOnlyList<string> Families { get; } = [.. s_usual.Select(usual => usual.Family)];

    public Conversation Next()
    {
        int family = 0;
        for (int i = 1; i < _shares.Length; i++)
        {
            if (_written[i] / _shares[i].Share < _written[family] / _shares[family].Share)
                family = i;
        }

        Conversation sample = Draw(_shares[family].Family, _index++);
        _written[family] += sample.WrittenLength;
        return sample;
    }

    private Conversation Draw(string family, long index)
    {
        Dice dice = Dice.For(seed, $"{split} {family}", index);
        return family switch
        {
            "functions" => FunctionRequests.Draw(dice, split),
            "tools" => dice.Chance(65) ? RepairSession.Draw(dice, split).Transcript(dice) : Errands.Draw(dice, split),
            "talk" => SmallTalk.Draw(dice, split),
            "recall" => Recall.Draw(dice, split),
            _ => JsonRequests.Draw(dice, split),
        };
    }
}
