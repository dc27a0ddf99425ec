namespace Qian.Kernels.Tests.Formats;

public unsafe class BookSearchTests
{
    // Against every row looked at in double arithmetic; what is found may differ only where two rows are equally near.
    [Theory]
    [InlineData(8)]
    [InlineData(4)]
    public void The_nearest_row_is_found(int width)
    {
        ulong[] book = width == 8 ? CodeBooks.Iq2S : Array.ConvertAll(CodeBooks.Iq3S, row => (ulong)row);
        var search = new BookSearch(book, width);
        float[] samples = SampleData.Student(width * 500), importance = SampleData.Importance(width * 500);
        for (int start = 0; start < samples.Length; start += width)
        {
            fixed (float* values = &samples[start], weights = &importance[start])
            {
                float inverse = search.Highest / (1 + start % 3);
                int found = search.Nearest(values, weights, inverse);
                double least = double.PositiveInfinity;
                for (int row = 0; row < book.Length; row++)
                    least = Math.Min(least, Cost(book[row], values, weights, inverse, width));
                double cost = Cost(book[found], values, weights, inverse, width);
                Assert.InRange(cost, least, least * (1 + 1e-5));
                for (int i = 0; i < width; i++)
                    Assert.Equal(book[found] >> 8 * i & 255, search.Row(found)[i]);
            }
        }
    }

    private static double Cost(ulong row, float* values, float* weights, float inverse, int width)
    {
        double cost = 0;
        for (int i = 0; i < width; i++)
            cost += weights[i] * Math.Pow((double)values[i] * inverse - (row >> 8 * i & 255), 2);
        return cost;
    }
}
