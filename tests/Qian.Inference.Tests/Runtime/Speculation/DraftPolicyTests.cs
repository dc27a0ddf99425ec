using Qian.Inference.Runtime;

namespace Qian.Inference.Tests.Runtime;

// How far ahead is guessed, given how often guesses are right and what rows cost. No clock: the costs are made up.
public sealed class DraftPolicyTests
{
    private static readonly int[] s_noRepetition = [1, 2, 3, 4, 5, 6, 7, 8];

    [Fact]
    public void GoesAsFarAheadAsItPays()
    {
        // Always right and rows nearly free: as far as the head goes. Always wrong: not at all. In between: in between.
        Assert.Equal(AcceptanceRates.DepthCount, Depth(rate: 1, rowShare: 0.01, draftShare: 0.01));
        Assert.Equal(0, Depth(rate: 0, rowShare: 0.01, draftShare: 0.01));
        Assert.Equal(0, Depth(rate: 1, rowShare: 1, draftShare: 0.2));
        Assert.InRange(Depth(rate: 0.7, rowShare: 0.08, draftShare: 0.08), 1, 4);
    }

    [Fact]
    public void TheChoiceIsTheBestDepthOfAll()
    {
        foreach (double rate in new[] { 0.3, 0.5, 0.7, 0.9 })
        {
            foreach (double share in new[] { 0.02, 0.1, 0.3 })
            {
                int best = 0;
                double bestRate = 1.03, expected = 1, chance = 1;
                for (int depth = 1; depth <= AcceptanceRates.DepthCount; depth++)
                {
                    expected += chance *= rate;
                    double tokensPerSecond = expected / (1 + share * depth + share * depth);
                    if (tokensPerSecond > bestRate)
                        (bestRate, best) = (tokensPerSecond, depth);
                }

                Assert.InRange(Depth(rate, share, share), best - 1, best + 1);
            }
        }
    }

    [Fact]
    public void WhatDoesNotPayIsTriedAgainNowAndThen()
    {
        DraftPolicy policy = Policy(rowShare: 1, draftShare: 0.5);
        DraftSlot slot = Slot(policy, null, hasMtp: true);
        Learn(slot, 0);
        int tried = 0;
        for (int pass = 0; pass < 400; pass++)
        {
            slot.Begin(s_noRepetition, 100, hasMtp: true);
            policy.Choose([slot], 1);
            tried += slot.Count > 0 ? 1 : 0;
        }

        Assert.InRange(tried, 2, 8);
    }

    [Fact]
    public void OneSlowPassIsForgottenWithTheNextQuickOne()
    {
        var policy = new DraftPolicy(32);
        policy.ObservePass(1, 3, 50);
        Assert.Equal(50, policy.PassSeconds(1, 3));
        policy.ObservePass(1, 3, 1.2);
        Assert.Equal(1.2, policy.PassSeconds(1, 3));
        policy.ObservePass(1, 3, 50);
        Assert.InRange(policy.PassSeconds(1, 3), 1.2, 6.1);
        // What was not measured lies between what was.
        policy.ObservePass(1, 1, 1);
        Assert.InRange(policy.PassSeconds(1, 2), 1, policy.PassSeconds(1, 3));
        Assert.InRange(policy.PassSeconds(1, 8), policy.PassSeconds(1, 3), 100);
    }

    [Fact]
    public void ARequestsOwnDepthIsKept()
    {
        DraftPolicy policy = Policy(rowShare: 1, draftShare: 0.5);
        DraftSlot four = Slot(policy, 4, hasMtp: true);
        four.Begin(s_noRepetition, 100, hasMtp: true);
        policy.Choose([four], 1);
        Assert.Equal((4, DraftSource.Mtp), (four.Count, four.Source));
        // No more than the reply can take, nor than a source has.
        four.Begin(s_noRepetition, 2, hasMtp: true);
        policy.Choose([four], 1);
        Assert.Equal(2, four.Count);
        four.Begin(s_noRepetition, 100, hasMtp: false);
        policy.Choose([four], 1);
        Assert.Equal(0, four.Count);
    }

    [Fact]
    public void RepetitionsAreDraftedFromTheContext()
    {
        DraftPolicy policy = Policy(rowShare: 0.05, draftShare: 0.1);
        DraftSlot slot = Slot(policy, null, hasMtp: true);
        int[] loop = [.. Enumerable.Range(0, 90).Select(i => i % 9)];
        slot.Begin(loop, 100, hasMtp: true);
        policy.Choose([slot], 1);
        Assert.Equal(DraftSource.Lookup, slot.Source);
        slot.UseLookup();
        Assert.Equal(Enumerable.Range(90, slot.Count).Select(i => i % 9), slot.Tokens.Take(slot.Count));
    }

    [Fact]
    public void RowsAreSharedByChance()
    {
        DraftPolicy policy = Policy(rowShare: 0.02, draftShare: 0.01);
        DraftSlot right = Slot(policy, null, hasMtp: true), wrong = Slot(policy, null, hasMtp: true);
        Learn(right, 1);
        Learn(wrong, 0);
        right.Begin(s_noRepetition, 100, hasMtp: true);
        wrong.Begin(s_noRepetition, 100, hasMtp: true);
        policy.Choose([right, wrong], 2);
        Assert.InRange(right.Count, 4, 8);
        Assert.Equal(0, wrong.Count);
    }

    [Fact]
    public void APassNeverTakesMoreRowsThanThereAre()
    {
        DraftPolicy policy = Policy(rowShare: 0, draftShare: 0);
        DraftSlot[] slots = [.. Enumerable.Range(0, DraftPolicy.MaxSequences).Select(i => Slot(policy, i % 2 == 0 ? 15 : null, hasMtp: true))];
        foreach (DraftSlot slot in slots)
        {
            Learn(slot, 1);
            slot.Begin(s_noRepetition, 100, hasMtp: true);
        }

        policy.Choose(slots, slots.Length);
        Assert.Equal(32, slots.Sum(slot => 1 + slot.Count));
    }

    private static int Depth(double rate, double rowShare, double draftShare)
    {
        DraftPolicy policy = Policy(rowShare, draftShare);
        DraftSlot slot = Slot(policy, null, hasMtp: true);
        Learn(slot, rate);
        slot.Begin(s_noRepetition, 100, hasMtp: true);
        policy.Choose([slot], 1);
        return slot.Count;
    }

    private static DraftPolicy Policy(double rowShare, double draftShare)
    {
        var policy = new DraftPolicy(32);
        for (int sequences = 1; sequences <= DraftPolicy.MaxSequences; sequences++)
        {
            for (int rows = sequences; rows <= 32; rows++)
                policy.ObservePass(sequences, rows, 1 + rowShare * (rows - sequences));
            if (draftShare > 0)
                policy.ObserveDraft(sequences, 2, 2 * draftShare);
        }

        return policy;
    }

    private static DraftSlot Slot(DraftPolicy policy, int? depth, bool hasMtp)
    {
        var slot = new DraftSlot(depth, policy.Rates, 100);
        slot.Begin(s_noRepetition, 100, hasMtp);
        return slot;
    }

    // As if runs of the longest kind had been verified, each draft right with the same chance.
    private static void Learn(DraftSlot slot, double rate)
    {
        var random = new Random(1);
        for (int run = 0; run < 400; run++)
        {
            for (int depth = 0; depth < AcceptanceRates.DepthCount; depth++)
                slot.Rates.Observe(DraftSource.Mtp, depth, 0, rate >= 1 || random.NextDouble() < rate);
        }
    }
}
