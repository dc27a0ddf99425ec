using Qian.Inference.Chat;

namespace Qian.Weights;

// How two models used tools on the same prompts. Shares have Wilson intervals at 95 %; what both models can have or lack is paired:
// only prompts on which they differ tell them apart, and the exact test of McNemar says how likely such a split is by chance.
internal sealed record ToolReport
{
    private const int ShownCount = 10;

    public required int PromptCount { get; init; }

    // Of the candidate's replies, over all prompts: the same tools in the same order, or none like the reference; and with equal arguments.
    public required Share SameNames { get; init; }

    public required Share SameCalls { get; init; }

    // The same over those prompts alone on which the reference calls.
    public required Share SameNamesOfCalls { get; init; }

    public required Share SameCallsOfCalls { get; init; }

    public required PairedShare Called { get; init; }

    public required PairedShare WellFormed { get; init; }

    // Against the calls that the prompts say are right; null where none says so.
    public required PairedShare? Right { get; init; }

    public required IReadOnlyList<ToolDifference> Differences { get; init; }

    public static ToolReport From(IReadOnlyList<ToolPrompt> prompts, ToolReply[] reference, ToolReply[] candidate)
    {
        int[] all = [.. Enumerable.Range(0, prompts.Count)], calling = [.. all.Where(i => reference[i].Calls.Count > 0)], known = [.. all.Where(i => prompts[i].Expected is not null)];
        Func<int, bool> sameNames = i => ToolReply.SameNames(reference[i].Calls, candidate[i].Calls), sameCalls = i => ToolReply.SameCalls(reference[i].Calls, candidate[i].Calls);
        return new ToolReport
        {
            PromptCount = prompts.Count,
            SameNames = Share.Of(all.Count(sameNames), all.Length),
            SameCalls = Share.Of(all.Count(sameCalls), all.Length),
            SameNamesOfCalls = Share.Of(calling.Count(sameNames), calling.Length),
            SameCallsOfCalls = Share.Of(calling.Count(sameCalls), calling.Length),
            Called = PairedShare.Of(all, i => reference[i].Calls.Count > 0, i => candidate[i].Calls.Count > 0),
            WellFormed = PairedShare.Of(all, i => reference[i].IsWellFormed, i => candidate[i].IsWellFormed),
            Right = known.Length == 0 ? null : PairedShare.Of(known, i => ToolReply.SameCalls(reference[i].Calls, prompts[i].Expected!), i => ToolReply.SameCalls(candidate[i].Calls, prompts[i].Expected!)),
            Differences = [.. all.Where(i => !sameCalls(i)).Take(ShownCount).Select(i => new ToolDifference(i + 1, Asked(prompts[i]), reference[i].Text, candidate[i].Text))],
        };
    }

    // The figures as rows of name, value and range, for the terminal and the HTML report alike.
    public IEnumerable<(string Name, string Value, string Range)> Rows()
    {
        yield return Row("same tools called, or none", SameNames);
        yield return Row("… and the same arguments", SameCalls);
        yield return Row("same tools, where the reference calls", SameNamesOfCalls);
        yield return Row("… and the same arguments", SameCallsOfCalls);
        yield return Row("calls a tool", Called);
        yield return Row("calls in the template's very form", WellFormed);
        if (Right is { } right)
            yield return Row("the call that is right", right);
    }

    private static (string, string, string) Row(string name, Share share) =>
        (name, FormattableString.Invariant($"{share.Count} of {share.Total}"), FormattableString.Invariant($"{share.Low:0.000} to {share.High:0.000}"));

    private static (string, string, string) Row(string name, PairedShare share) =>
        (name, FormattableString.Invariant($"{share.Reference.Count} -> {share.Candidate.Count} of {share.Candidate.Total}"),
            FormattableString.Invariant($"lost on {share.LostCount}, gained on {share.GainedCount}, p = {share.ChanceOfSplit:0.000}"));

    private static string Asked(ToolPrompt prompt) => string.Concat(prompt.Messages.Last(message => message.Role is MessageRole.User or MessageRole.Tool).Content.Select(part => part.Text));
}

// A prompt on which the calls differ: its number, what was asked last, and both replies.
internal sealed record ToolDifference(int Number, string Asked, string Reference, string Candidate);

// So many of so many, with the interval of Wilson.
internal readonly record struct Share(int Count, int Total, double Low, double High)
{
    private const double Normal = 1.959964;

    public static Share Of(int count, int total)
    {
        if (total == 0)
            return new Share(0, 0, 0, 1);
        double share = (double)count / total, square = Normal * Normal / total;
        double middle = (share + square / 2) / (1 + square), half = Normal / (1 + square) * Math.Sqrt(share * (1 - share) / total + square / (4 * total));
        return new Share(count, total, count == 0 ? 0 : middle - half, count == total ? 1 : middle + half);
    }
}

// What the reference has and the candidate lacks, and the other way round. `ChanceOfSplit`: of so uneven a split, or a more uneven
// one, if neither were the likelier (two-sided binomial).
internal readonly record struct PairedShare(Share Reference, Share Candidate, int LostCount, int GainedCount, double ChanceOfSplit)
{
    public static PairedShare Of(int[] prompts, Func<int, bool> reference, Func<int, bool> candidate)
    {
        int lost = prompts.Count(i => reference(i) && !candidate(i)), gained = prompts.Count(i => !reference(i) && candidate(i));
        return new PairedShare(Share.Of(prompts.Count(reference), prompts.Length), Share.Of(prompts.Count(candidate), prompts.Length), lost, gained, Chance(lost, gained));
    }

    internal static double Chance(int lost, int gained)
    {
        int total = lost + gained;
        double logTerm = -total * Math.Log(2), sum = 0;
        for (int i = 0; i <= Math.Min(lost, gained); i++)
        {
            sum += Math.Exp(logTerm);
            logTerm += Math.Log((double)(total - i) / (i + 1));
        }

        return Math.Min(1, 2 * sum);
    }
}
