namespace Qian.Inference.Tests.Runtime;

// Who gets into a pass when it is too small for all.
[Trait("Tier", "All")]
public sealed class SchedulerTests(TinyModel model) : IClassFixture<TinyModel>
{
    [Fact]
    public async Task ALongPromptIsReadWhileAnotherRequestDecodes()
    {
        // A pass of one chunk: with a row of the other request in it, no chunk fits beside.
        using Engine engine = model.Load(new EngineOptions { MaxBatchRows = 64, ContextLength = 100_000 });
        using var cancel = new CancellationTokenSource();
        using Session endless = engine.NewSession(), prompted = engine.NewSession();
        SamplingOptions options = SamplingOptions.Greedy with { IgnoreEos = true };
        endless.Append(1, 2, 3);
        IAsyncEnumerator<GeneratedToken> stream = endless.GenerateAsync(options, cancel.Token).GetAsyncEnumerator();
        Assert.True(await stream.MoveNextAsync());
        prompted.Append([.. Enumerable.Range(0, 200).Select(i => i * 7 % 400)]);
        int count = 0;
        await foreach (GeneratedToken _ in prompted.GenerateAsync(options with { MaxTokens = 4 }))
            count++;
        Assert.Equal(4, count);
        Assert.InRange(endless.TokenCount, 5, 99_000);
        cancel.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            while (await stream.MoveNextAsync())
            {
            }
        });
        await stream.DisposeAsync();
    }
}
