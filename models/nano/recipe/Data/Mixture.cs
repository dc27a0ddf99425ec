namespace Qian.Nano;

// Which family the next sample comes from: the one furthest behind its share of what the assistant writes, for that is what is learnt.
internal sealed class Mixture(ulong seed, Split split)
{
    private static readonly (string Family, double Share)[] s_shares = [("functions", 0.52), ("tools", 0.26), ("talk", 0.06), ("json", 0.09), ("recall", 0.07)];

    private readonly long[] _written = new long[s_shares.Length];
    private long _index;

    public Conversation Next()
    {
        int family = 0;
        for (int i = 1; i < s_shares.Length; i++)
        {
            if (_written[i] / s_shares[i].Share < _written[family] / s_shares[family].Share)
                family = i;
        }

        Conversation sample = Draw(s_shares[family].Family, _index++);
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
