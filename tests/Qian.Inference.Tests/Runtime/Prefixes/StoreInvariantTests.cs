using System.Globalization;
using Qian.Kernels;

namespace Qian.Inference.Tests.Runtime.Prefixes;

// Random mixtures of requests that share beginnings, cancellations, forks, evictions, requests set aside and restarts, with
// drafts and without: every reply is that of a request that has a fresh engine without a store for itself. QIAN_SOAK_SECONDS
// makes it longer.
[Trait("Tier", "All")]
public sealed class StoreInvariantTests(DraftModels models) : IClassFixture<DraftModels>
{
    private const int VocabularyBelow = 256;
    private const int ContextLength = 1024;

    public static TheoryData<bool, KvType> Ways => new() { { true, KvType.F16 }, { true, KvType.Q8_0 }, { false, KvType.F16 }, { false, KvType.Q8_0 } };

    [Theory]
    [MemberData(nameof(Ways))]
    public async Task EveryReplyIsThatOfAColdRun(bool mtp, KvType kvType)
    {
        int seconds = int.TryParse(Environment.GetEnvironmentVariable("QIAN_SOAK_SECONDS"), CultureInfo.InvariantCulture, out int asked) ? asked : 4;
        int seed = asked > 0 ? Environment.TickCount : 42;
        using var folder = new TempFolder();
        var random = new Random(seed);
        var options = new EngineOptions { KvType = kvType, ThreadCount = 1, MaxBatchRows = 128, ContextLength = ContextLength };
        using Engine cold = models.Load(mtp, options with { PrefixCacheBytes = 0, Speculation = Speculation.Off });
        // Room for little more than one context: requests set each other aside, and states are evicted all the time.
        long state = cold.Memory.SequenceStateBytes, tight = cold.Memory.FixedBytes(1) + (ContextLength + 512) * cold.Memory.KvBytesPerToken + 6 * state;
        var texts = new List<int[]> { DraftModels.Prompt(90, 1), DraftModels.Prompt(200, 2) };
        DateTime end = DateTime.UtcNow.AddSeconds(seconds);
        int replies = 0, cached = 0;
        long setAside = 0;
        do
        {
            using Engine engine = models.Load(mtp, options with
            {
                MemoryLimitBytes = tight,
                PrefixCacheBytes = random.Next(2, 12) * state,
                PrefixDirectory = folder.File("prefixes"),
                PrefixDirectoryBytes = 40 * (state + 65536),
                Speculation = random.Next(3) == 0 ? Speculation.Off : Speculation.Auto,
            });
            for (int round = 0; round < 3; round++)
            {
                Request[] requests = [.. Enumerable.Range(0, random.Next(1, 7)).Select(_ => Request.Draw(random, texts))];
                int[]?[] results = await Task.WhenAll(requests.Select(request => Task.Run(() => request.Run(engine))));
                for (int i = 0; i < requests.Length; i++)
                {
                    if (results[i] is not { } ids)
                        continue;
                    int[] expected = (await (requests[i] with { CancelAfter = -1, Drafts = null }).Run(cold))!;
                    Assert.True(expected.AsSpan(0, ids.Length).SequenceEqual(ids), $"seed {seed}: reply {string.Join(' ', ids)} after {requests[i].Prompt.Length} tokens, cold {string.Join(' ', expected)}");
                    Assert.True(requests[i].CancelAfter > 0 || ids.Length == expected.Length);
                    replies++;
                    cached += requests[i].Cached > 0 ? 1 : 0;
                    if (requests[i].Prompt.Length + ids.Length < 700)
                        texts.Add([.. requests[i].Prompt, .. ids]);
                }

                if (texts.Count > 30)
                    texts.RemoveRange(0, 15);
                for (int i = random.Next(4); i > 0; i--)
                    engine.Prefixes.TryEvict();
                if (random.Next(8) == 0)
                    Damage(folder, random);
            }

            setAside += engine.SetAsideCount;
            // What is just being written to disk cannot be evicted at that moment.
            for (DateTime late = DateTime.UtcNow.AddMinutes(3); engine.Model.Pool.UsedCount > 0 && DateTime.UtcNow < late;)
            {
                if (!engine.Prefixes.TryEvict())
                    await Task.Delay(10);
            }

            Assert.Equal(0, engine.Model.Pool.UsedCount);
        }
        while (DateTime.UtcNow < end || ((replies <= 5 || cached == 0) && DateTime.UtcNow < end.AddMinutes(3)));
        Assert.True(replies > 5 && cached > 0, $"{replies} replies, {cached} from the store, {setAside} set aside");
    }

    private static void Damage(TempFolder folder, Random random)
    {
        string[] files = [.. Directory.EnumerateFiles(folder.File("prefixes"), "*", SearchOption.AllDirectories).Where(file => !file.EndsWith("lock", StringComparison.Ordinal))];
        if (files.Length == 0)
            return;
        string file = files[random.Next(files.Length)];
        try
        {
            byte[] bytes = File.ReadAllBytes(file);
            bytes[random.Next(bytes.Length)] ^= 4;
            File.WriteAllBytes(file, bytes);
        }
        catch (IOException)
        {
            // It made room for another in the same moment.
        }
    }

    private sealed record Request(int[] Prompt, int MaxTokens, ulong Seed, float Temperature, int? Drafts, int CancelAfter, int Pieces)
    {
        public int Cached { get; private set; }

        public static Request Draw(Random random, List<int[]> texts)
        {
            int[] text = texts[random.Next(texts.Count)];
            int kept = random.Next(3) == 0 ? random.Next(1, text.Length + 1) : text.Length;
            int[] prompt = [.. text.AsSpan(0, kept), .. Enumerable.Range(0, random.Next(1, 120)).Select(_ => random.Next(VocabularyBelow))];
            return new Request(
                prompt, random.Next(1, 40), (ulong)random.Next(4), random.Next(2), random.Next(3) switch { 0 => null, 1 => 0, _ => random.Next(1, 8) },
                random.Next(6) == 0 ? random.Next(1, 10) : -1, random.Next(1, 3));
        }

        // What came; all of it unless the request is one that is given up.
        public async Task<int[]?> Run(Engine engine)
        {
            using Session session = engine.NewSession();
            using var cancel = new CancellationTokenSource();
            int half = Pieces > 1 ? Prompt.Length / 2 : 0;
            if (half > 0)
            {
                session.Append(Prompt.AsSpan(0, half));
                await session.PrefillAsync();
            }

            session.Append(Prompt.AsSpan(half));
            var ids = new List<int>();
            try
            {
                await foreach (GeneratedToken token in session.GenerateAsync(new SamplingOptions { Temperature = Temperature, TopK = 8, Seed = Seed, MaxTokens = MaxTokens, IgnoreEos = true, DraftTokens = Drafts }, cancel.Token))
                {
                    ids.Add(token.Id);
                    if (ids.Count == CancelAfter)
                        cancel.Cancel();
                }
            }
            catch (OperationCanceledException)
            {
            }

            Cached = session.PrefixUse.CachedCount;
            return [.. ids];
        }
    }
}
