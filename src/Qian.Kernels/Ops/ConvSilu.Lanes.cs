namespace Qian.Kernels;

// Rows outside, channels inside: the inputs are read in memory order and the turned filters stay in the first-level cache.
public static unsafe partial class ConvSilu
{
    private static void Vector<TLanes, TVec>(in Job job, int first, int end)
        where TLanes : struct, ILanes<TVec> where TVec : struct
    {
        int kernel = job.Kernel;
        int blockChannels = FilterFloats / kernel / 32 * 32;
        float* filter = stackalloc float[FilterFloats];
        float** inputs = stackalloc float*[kernel];
        for (int block = first; block < end; block += blockChannels)
        {
            int count = Math.Min(blockChannels, end - block);
            for (int channel = 0; channel < count; channel++)
            {
                for (int j = 0; j < kernel; j++)
                    filter[j * blockChannels + channel] = job.Weight[(long)(block + channel) * kernel + j];
            }

            for (int row = 0; row < job.RowCount; row++)
            {
                for (int j = 0; j < kernel; j++)
                    inputs[j] = job.Input((long)row - (kernel - 1) + j) + block;
                float* y = job.Y + (long)row * job.Channels + block;
                for (int i = 0; i < count; i += TLanes.Count)
                {
                    TVec sum = TLanes.Zero;
                    for (int j = 0; j < kernel; j++)
                        sum = TLanes.MultiplyAdd(TLanes.Load(filter + j * blockChannels + i), TLanes.LoadPartial(inputs[j] + i, count - i), sum);
                    TLanes.StorePartial(y + i, Activation.Silu<TLanes, TVec>(sum), count - i);
                }
            }
        }
    }
}
