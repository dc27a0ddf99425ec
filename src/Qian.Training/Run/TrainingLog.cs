using System.Globalization;
using System.Text;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Training.Run;

// One step in figures. Losses are means per target, in nats; null where there was none.
internal readonly record struct LogEntry(long Step, long TokenCount, double? Loss, double? MtpLoss, double? HeldOutLoss, double Rate, double GradientNorm, double TokensPerSecond, double? WatchedLoss = null);

// The run as a CSV file, a line a step, appended while it goes. A resumed run cuts off what lies beyond its state: those steps
// are taken once more.
internal sealed class TrainingLog : IDisposable
{
    public const string Header = "step,tokens,loss,mtp_loss,held_out_loss,learning_rate,gradient_norm,tokens_per_second,watched_loss";

    // Far above any real run; a file of this size under the log's name is not a log.
    private const long MaxFileBytes = 1L << 30;

    private readonly List<LogEntry> _entries;
    private readonly StreamWriter _writer;

    private TrainingLog(List<LogEntry> entries, StreamWriter writer)
    {
        _entries = entries;
        _writer = writer;
    }

    public IReadOnlyList<LogEntry> Entries => _entries;

    // Continues the log after `step` steps: 0 begins a new one.
    public static TrainingLog Open(string path, long step)
    {
        List<LogEntry> entries = step > 0 && File.Exists(path) ? [.. Read(path).Where(entry => entry.Step <= step)] : [];
        using (var file = new PartialFile(path))
        {
            file.Write(Encoding.UTF8.GetBytes(string.Join('\n', entries.Select(Line).Prepend(Header)) + "\n"));
            file.Commit();
        }

        return new TrainingLog(entries, new StreamWriter(new FileStream(path, FileMode.Append, FileAccess.Write, FileShare.Read), new UTF8Encoding(false)) { NewLine = "\n" });
    }

    public static IReadOnlyList<LogEntry> Read(string path)
    {
        RegularFile.Require(path);
        if (new FileInfo(path).Length > MaxFileBytes)
            throw new BadRequestException($"{path} is too large for a training log.");
        var entries = new List<LogEntry>();
        foreach (string line in File.ReadLines(path).Skip(1))
        {
            // The last line of a killed run may be torn.
            if (Parse(line) is { } entry)
                entries.Add(entry);
        }

        return entries;
    }

    public void Append(LogEntry entry)
    {
        _entries.Add(entry);
        _writer.WriteLine(Line(entry));
        _writer.Flush();
    }

    public void Dispose() => _writer.Dispose();

    private static string Line(LogEntry entry) => string.Create(CultureInfo.InvariantCulture,
        $"{entry.Step},{entry.TokenCount},{entry.Loss:R},{entry.MtpLoss:R},{entry.HeldOutLoss:R},{entry.Rate:R},{entry.GradientNorm:R},{entry.TokensPerSecond:0.0},{entry.WatchedLoss:R}");

    private static LogEntry? Parse(string line)
    {
        string[] cells = line.Split(',');
        if (cells.Length != 9
            || !long.TryParse(cells[0], NumberStyles.None, CultureInfo.InvariantCulture, out long step)
            || !long.TryParse(cells[1], NumberStyles.None, CultureInfo.InvariantCulture, out long tokens)
            || !Number(cells[5], out double rate) || !Number(cells[6], out double norm) || !Number(cells[7], out double speed))
        {
            return null;
        }

        return new LogEntry(step, tokens, Number(cells[2], out double loss) ? loss : null, Number(cells[3], out double mtp) ? mtp : null, Number(cells[4], out double heldOut) ? heldOut : null, rate, norm, speed, Number(cells[8], out double watched) ? watched : null);
    }

    private static bool Number(string cell, out double value) => double.TryParse(cell, NumberStyles.Float, CultureInfo.InvariantCulture, out value);
}
