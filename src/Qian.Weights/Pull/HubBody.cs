namespace Qian.Weights;

// The bytes of an answer. Faults of the network while reading, silence included, become passing ones, so that they are never
// mistaken for faults of the disk.
internal sealed class HubBody(HttpResponseMessage response, Stream stream, bool isRange, TimeSpan stallTime) : IAsyncDisposable
{
    // False: the server gave the whole file where a part was asked for.
    public bool IsRange { get; } = isRange;

    public async Task<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellation)
    {
        using var stall = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        stall.CancelAfter(stallTime);
        try
        {
            return await stream.ReadAsync(buffer, stall.Token);
        }
        catch (OperationCanceledException error) when (!cancellation.IsCancellationRequested)
        {
            throw new PassingFaultException("the connection fell silent", inner: error);
        }
        catch (Exception error) when (error is IOException or HttpRequestException)
        {
            cancellation.ThrowIfCancellationRequested();
            throw new PassingFaultException($"the connection broke: {HubPath.Shown(error.Message)}", inner: error);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await stream.DisposeAsync();
        response.Dispose();
    }
}
