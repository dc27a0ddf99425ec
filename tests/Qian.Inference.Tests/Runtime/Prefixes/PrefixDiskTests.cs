using Qian.Inference.Runtime;
using Qian.Kernels;

namespace Qian.Inference.Tests.Runtime.Prefixes;

// States that outlive their engine, and files that are not what they should be.
[Trait("Tier", "All")]
public sealed class PrefixDiskTests(DraftModels models) : IClassFixture<DraftModels>
{
    private static readonly SamplingOptions s_greedy = SamplingOptions.Greedy with { MaxTokens = 10, IgnoreEos = true };
    private static readonly int[] s_prompt = DraftModels.Prompt(300, 11);

    private Engine Load(TempFolder? folder, KvType kvType = KvType.F16, long limit = 1 << 30) => models.Load(mtp: true, new EngineOptions
    {
        PrefixCacheBytes = folder is null ? 0 : 64 << 20,
        PrefixDirectory = folder?.File("prefixes"),
        PrefixDirectoryBytes = limit,
        KvType = kvType,
        ThreadCount = 1,
    });

    private static async Task<(int[] Ids, int Cached)> Run(Engine engine, int[] prompt)
    {
        using Session session = engine.NewSession();
        session.Append(prompt);
        var ids = new List<int>();
        await foreach (GeneratedToken token in session.GenerateAsync(s_greedy))
            ids.Add(token.Id);
        return ([.. ids], session.PrefixUse.CachedCount);
    }

    // A prompt that goes on from what the first run left, what it is answered cold, and the files of that run.
    private async Task<(int[] Prompt, int[] Expected)> Prepare(TempFolder folder, KvType kvType = KvType.F16)
    {
        using Engine cold = Load(null, kvType);
        int[] reply = (await Run(cold, s_prompt)).Ids;
        int[] longer = [.. s_prompt, .. reply, .. DraftModels.Prompt(20, 12)];
        int[] expected = (await Run(cold, longer)).Ids;
        using Engine first = Load(folder, kvType);
        Assert.Equal(reply, (await Run(first, s_prompt)).Ids);
        return (longer, expected);
    }

    [Theory]
    [InlineData(KvType.F16)]
    [InlineData(KvType.Q8_0)]
    public async Task AnotherProcessGoesOnWhereOneEnded(KvType kvType)
    {
        using var folder = new TempFolder();
        (int[] prompt, int[] expected) = await Prepare(folder, kvType);
        using Engine second = Load(folder, kvType);
        Assert.Equal(0, second.Prefixes.Size.Count);
        (int[] ids, int cached) = await Run(second, prompt);
        Assert.Equal(309, cached);
        Assert.Equal(1, second.Prefixes.LoadedCount);
        Assert.Equal(expected, ids);
        Assert.Empty(Directory.EnumerateFiles(folder.File("prefixes"), "*.part", SearchOption.AllDirectories));
    }

    [Fact]
    public async Task AnotherWayToComputeFindsNothing()
    {
        using var folder = new TempFolder();
        (int[] prompt, int[] _) = await Prepare(folder);
        using Engine other = Load(folder, KvType.Q8_0);
        using Engine cold = Load(null, KvType.Q8_0);
        (int[] ids, int cached) = await Run(other, prompt);
        Assert.Equal(0, cached);
        Assert.Equal((await Run(cold, prompt)).Ids, ids);
    }

    [Fact]
    public async Task DamagedFilesAreIgnored()
    {
        using var folder = new TempFolder();
        (int[] prompt, int[] expected) = await Prepare(folder);
        string[] files = [.. Directory.EnumerateFiles(folder.File("prefixes"), "*", SearchOption.AllDirectories).Where(file => !file.EndsWith("lock", StringComparison.Ordinal)).Order()];
        Assert.True(files.Length > 4);
        Dictionary<string, byte[]> sound = files.ToDictionary(file => file, File.ReadAllBytes);
        var random = new Random(3);
        int ignored = 0;
        foreach (string damaged in files)
        {
            for (int way = 0; way < 4; way++)
            {
                foreach ((string file, byte[] content) in sound)
                    File.WriteAllBytes(file, content);
                byte[] bytes = [.. sound[damaged]];
                switch (way)
                {
                    case 0:
                        bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
                        break;
                    case 1:
                        bytes = bytes[..random.Next(bytes.Length)];
                        break;
                    case 2:
                        random.NextBytes(bytes.AsSpan(0, Math.Min(64, bytes.Length)));
                        break;
                    default:
                        bytes = [.. bytes, 0];
                        break;
                }

                File.WriteAllBytes(damaged, bytes);
                using Engine engine = Load(folder);
                (int[] ids, int cached) = await Run(engine, prompt);
                Assert.Equal(expected, ids);
                ignored += cached < 309 ? 1 : 0;
            }
        }

        // All but the remembered replies, and the states that this prompt does not need, stand in its way.
        Assert.InRange(ignored, 4 * 4, 4 * files.Length);
    }

    [Fact]
    public async Task TheFolderKeepsItsLimit()
    {
        using var folder = new TempFolder();
        long one;
        using (Engine engine = Load(folder))
        {
            await Run(engine, s_prompt);
        }

        one = Bytes(folder);
        long limit = 3 * one;
        for (int i = 0; i < 8; i++)
        {
            using Engine engine = Load(folder, limit: limit);
            await Run(engine, DraftModels.Prompt(280, 100 + i));
        }

        Assert.InRange(Bytes(folder), one, limit + 4096);
        // The latest is there, the first is not.
        using Engine last = Load(folder, limit: limit);
        Assert.Equal(280, (await Run(last, [.. DraftModels.Prompt(280, 107), 1])).Cached);
        Assert.Equal(0, (await Run(last, s_prompt)).Cached);
    }

    [Fact]
    public async Task WhatAKilledProcessLeftIsSweptAndTheRestHolds()
    {
        using var folder = new TempFolder();
        (int[] prompt, int[] expected) = await Prepare(folder);
        string home = Directory.EnumerateDirectories(folder.File("prefixes")).Single();
        File.WriteAllBytes(Path.Combine(home, "0123.state.part"), new byte[1000]);
        File.WriteAllBytes(Path.Combine(home, "blocks", "4567"), new byte[1000]);
        File.WriteAllText(Path.Combine(home, "89ab.state"), "not a state");
        using (Engine engine = Load(folder))
        {
            (int[] ids, int cached) = await Run(engine, prompt);
            Assert.Equal(309, cached);
            Assert.Equal(expected, ids);
        }

        Assert.False(File.Exists(Path.Combine(home, "0123.state.part")));
        Assert.False(File.Exists(Path.Combine(home, "blocks", "4567")));
    }

    [Fact]
    public async Task ASecondProcessReadsAndDoesNotWrite()
    {
        using var folder = new TempFolder();
        (int[] prompt, int[] expected) = await Prepare(folder);
        using Engine owner = Load(folder);
        using (Engine guest = Load(folder))
        {
            (int[] ids, int cached) = await Run(guest, prompt);
            Assert.Equal(309, cached);
            Assert.Equal(expected, ids);
            long before = Bytes(folder);
            await Run(guest, DraftModels.Prompt(200, 77));
            guest.Dispose();
            Assert.Equal(before, Bytes(folder));
        }
    }

    private static long Bytes(TempFolder folder) =>
        Directory.EnumerateFiles(folder.File("prefixes"), "*", SearchOption.AllDirectories).Where(file => !file.EndsWith("replies", StringComparison.Ordinal)).Sum(file => new FileInfo(file).Length);
}
