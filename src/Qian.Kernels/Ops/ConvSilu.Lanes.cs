namespace Qian.Kernels;

// Rows outside, channels inside: the inputs are read in memory order and the turned filters stay in the first-level cache.
public static unsafe partial class ConvSilu
{
    private const int LineFloats = 16;

    private static void Vector<TLanes, TVec>(in Job job, int first, int end)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int kernel = job.Kernel;
        int blockChannels = BlockChannels(kernel);
        float* filterSpace = stackalloc float[FilterFloats + LineFloats], filter = OnLine(filterSpace);
        float** inputs = stackalloc float*[kernel];
        for (int block = first; block < end; block += blockChannels)
        {
            int count = Math.Min(blockChannels, end - block);
            TurnFilter(job.Weight, kernel, block, count, filter);
            for (int row = 0; row < job.RowCount; row++)
            {
                for (int j = 0; j < kernel; j++)
                    inputs[j] = job.Input((long)row - (kernel - 1) + j) + block;
                ConvolveRow<TLanes, TVec>(filter, inputs, 0, kernel, job.Y + (long)row * job.Channels + block, count);
            }
        }
    }

    private static void VectorSamples<TLanes, TVec>(in SamplesJob job, int first, int end)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int kernel = job.Kernel;
        int blockChannels = BlockChannels(kernel);
        float* filterSpace = stackalloc float[FilterFloats + LineFloats], filter = OnLine(filterSpace);
        float** inputs = stackalloc float*[kernel];
        for (int block = first; block < end; block += blockChannels)
        {
            int count = Math.Min(blockChannels, end - block);
            TurnFilter(job.Weight, kernel, block, count, filter);
            for (int sample = 0; sample < job.SampleCount; sample++)
            {
                int start = job.Borders[sample];
                for (int row = start; row < job.Borders[sample + 1]; row++)
                {
                    // Taps on the zeros before the sample add nothing.
                    int firstTap = Math.Max(0, kernel - 1 - (row - start));
                    for (int j = firstTap; j < kernel; j++)
                        inputs[j] = job.U + (long)(row - (kernel - 1) + j) * job.Channels + block;
                    ConvolveRow<TLanes, TVec>(filter, inputs, firstTap, kernel, job.Y + (long)row * job.Channels + block, count);
                }
            }
        }
    }

    // The first float from here that begins a cache line: vectors across two lines cost double.
    private static float* OnLine(float* space) => (float*)(((nuint)space + LineFloats * sizeof(float) - 1) & ~(nuint)(LineFloats * sizeof(float) - 1));

    private static int BlockChannels(int kernel) => FilterFloats / kernel / 32 * 32;

    // filter [kernel, BlockChannels] from weight [channels, kernel].
    private static void TurnFilter(float* weight, int kernel, int firstChannel, int count, float* filter)
    {
        int blockChannels = BlockChannels(kernel);
        for (int channel = 0; channel < count; channel++)
        {
            for (int j = 0; j < kernel; j++)
                filter[j * blockChannels + channel] = weight[(long)(firstChannel + channel) * kernel + j];
        }
    }

    private static void ConvolveRow<TLanes, TVec>(float* filter, float** inputs, int firstTap, int kernel, float* y, int count)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int blockChannels = BlockChannels(kernel);
        for (int i = 0; i < count; i += TLanes.Count)
        {
            TVec sum = TLanes.Zero;
            for (int j = firstTap; j < kernel; j++)
                sum = TLanes.MultiplyAdd(TLanes.Load(filter + j * blockChannels + i), TLanes.LoadPartial(inputs[j] + i, count - i), sum);
            TLanes.StorePartial(y + i, Activation.Silu<TLanes, TVec>(sum), count - i);
        }
    }
}
