using Qian.Inference.Measurement;

namespace Qian.Inference.Tests.Measurement;

public sealed class ForeignLoadTests
{
    [Theory]
    [InlineData("cpu  100 20 30 5000 700 1 2 40 9 9", 1.93)]   // idle, iowait and guest (part of user) do not count
    [InlineData("cpu  100 0 0 0 0 0", double.NaN)]             // fields of an older kernel
    [InlineData("cpu0 1 2 3 4 5 6 7 8", double.NaN)]
    [InlineData("", double.NaN)]
    public void BusyTimeIsEverythingButIdling(string line, double seconds) => Assert.Equal(seconds, ForeignLoad.ParseBusySeconds(line), 9);

    [Fact]
    public void ASpanBelowTheTicksOfTheKernelIsUnknown() => Assert.Null(ForeignLoad.Start().Share());
}
