namespace Qian.Kernels;

public static unsafe partial class ConvSilu
{
    // Filter gradients are gathered in float over so many rows, then added to the weight's.
    private const int RowsPerSum = 256;

    private static void VectorBackward<TLanes, TVec>(in BackwardJob job, int first, int end)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int kernel = job.Kernel, blockChannels = BlockChannels(kernel);
        float* space = stackalloc float[2 * FilterFloats + LineFloats], filter = OnLine(space), sums = filter + FilterFloats;
        for (int block = first; block < end; block += blockChannels)
        {
            int count = Math.Min(blockChannels, end - block), rowsInSum = 0;
            TurnFilter(job.Weight, kernel, block, count, filter);
            new Span<float>(sums, FilterFloats).Clear();
            for (int sample = 0; sample < job.SampleCount; sample++)
            {
                int start = job.Borders[sample];
                for (int row = start; row < job.Borders[sample + 1]; row++)
                {
                    BackwardRow<TLanes, TVec>(in job, filter, sums, start, row, block, count);
                    if (++rowsInSum == RowsPerSum)
                    {
                        AddFilterGradient(in job, sums, block, count);
                        rowsInSum = 0;
                    }
                }
            }

            AddFilterGradient(in job, sums, block, count);
        }
    }

    private static void BackwardRow<TLanes, TVec>(in BackwardJob job, float* filter, float* sums, int start, int row, int block, int channelCount)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int kernel = job.Kernel, blockChannels = BlockChannels(kernel), firstTap = Math.Max(0, kernel - 1 - (row - start));
        long channels = job.Channels, at = row * channels + block;
        for (int i = 0; i < channelCount; i += TLanes.Count)
        {
            int count = channelCount - i;
            float* taps = filter + i, tapSums = sums + i, newest = job.U + at + i, newestGradient = job.Du + at + i;
            TVec convolved = TLanes.Zero;
            for (int j = firstTap; j < kernel; j++)
                convolved = TLanes.MultiplyAdd(TLanes.Load(taps + j * blockChannels), TLanes.LoadPartial(newest + (j - (kernel - 1)) * channels, count), convolved);
            TVec slope = Activation.SiluSlope<TLanes, TVec>(convolved, Activation.Sigmoid<TLanes, TVec>(convolved));
            TVec gradient = TLanes.Multiply(TLanes.LoadPartial(job.Dy + at + i, count), slope);
            for (int j = firstTap; j < kernel; j++)
            {
                long back = (j - (kernel - 1)) * channels;
                TVec tap = TLanes.Load(taps + j * blockChannels), sum = TLanes.Load(tapSums + j * blockChannels);
                TLanes.Store(tapSums + j * blockChannels, TLanes.MultiplyAdd(gradient, TLanes.LoadPartial(newest + back, count), sum));
                TVec du = back == 0 ? TLanes.Multiply(tap, gradient) : TLanes.MultiplyAdd(tap, gradient, TLanes.LoadPartial(newestGradient + back, count));
                TLanes.StorePartial(newestGradient + back, du, count);
            }
        }
    }

    // Leaves the sums at zero.
    private static void AddFilterGradient(in BackwardJob job, float* sums, int block, int count)
    {
        int kernel = job.Kernel, blockChannels = BlockChannels(kernel);
        for (int channel = 0; channel < count && job.DWeight != null; channel++)
        {
            for (int j = 0; j < kernel; j++)
                job.DWeight[(long)(block + channel) * kernel + j] += sums[j * blockChannels + channel];
        }

        new Span<float>(sums, FilterFloats).Clear();
    }
}
