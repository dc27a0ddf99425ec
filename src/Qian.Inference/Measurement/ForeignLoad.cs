namespace Qian.Inference.Measurement;

// How much of the machine's processors others took during a sample: /proc/stat before and after, less what this process
// took itself. Linux only; elsewhere, and over spans too short for the kernel's ticks, the answer is "unknown".
internal readonly struct ForeignLoad
{
    // A share above which a sample says too little of the machine.
    public const double Disturbing = 0.10;

    private const double TicksPerSecond = 100;
    private const double ShortestSeconds = 0.1;

    private readonly long _start;
    private readonly double _busySeconds;
    private readonly double _ownSeconds;

    private ForeignLoad(long start, double busySeconds, double ownSeconds)
    {
        _start = start;
        _busySeconds = busySeconds;
        _ownSeconds = ownSeconds;
    }

    public static ForeignLoad Start() => new(System.Diagnostics.Stopwatch.GetTimestamp(), BusySeconds(), OwnSeconds());

    // Share of all processors' time since Start that others had, 0 to 1; null when unknown.
    public double? Share()
    {
        double seconds = System.Diagnostics.Stopwatch.GetElapsedTime(_start).TotalSeconds;
        if (double.IsNaN(_busySeconds) || seconds < ShortestSeconds)
            return null;
        double foreign = BusySeconds() - _busySeconds - (OwnSeconds() - _ownSeconds);
        return Math.Clamp(foreign / (seconds * Environment.ProcessorCount), 0, 1);
    }

    // First line of /proc/stat: user nice system idle iowait irq softirq steal …, in ticks.
    internal static double ParseBusySeconds(string line)
    {
        string[] fields = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        if (fields.Length < 8 || fields[0] != "cpu")
            return double.NaN;
        double ticks = 0;
        for (int i = 1; i < Math.Min(fields.Length, 9); i++)
        {
            bool isIdle = i is 4 or 5;
            if (!isIdle)
                ticks += double.TryParse(fields[i], out double value) ? value : double.NaN;
        }

        return ticks / TicksPerSecond;
    }

    private static double BusySeconds()
    {
        const string stat = "/proc/stat";
        if (!OperatingSystem.IsLinux() || !File.Exists(stat))
            return double.NaN;
        using StreamReader reader = File.OpenText(stat);
        return ParseBusySeconds(reader.ReadLine() ?? "");
    }

    private static double OwnSeconds() => OperatingSystem.IsLinux() ? Environment.CpuUsage.TotalTime.TotalSeconds : 0;
}
