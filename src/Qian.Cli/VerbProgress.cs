using Spectre.Console;

namespace Qian.Cli;

// The progress bar of a long verb, on stderr: share, rate and time left. Where nobody watches, nothing is drawn.
internal sealed class VerbProgress
{
    private readonly ProgressTask? _task;

    private VerbProgress(ProgressTask? task) => _task = task;

    public static T Run<T>(string title, Func<VerbProgress, T> work, bool countsBytes = true)
    {
        if (Console.IsErrorRedirected)
            return work(new VerbProgress(null));
        return Terminal.Error.Progress()
            .AutoClear(true)
            .Columns([new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), .. countsBytes ? (ProgressColumn[])[new TransferSpeedColumn()] : [], new RemainingTimeColumn()])
            .Start(context => work(new VerbProgress(context.AddTask(Markup.Escape(title)))));
    }

    public void Set(long done, long total)
    {
        if (_task is null)
            return;
        _task.MaxValue = Math.Max(1, total);
        _task.Value = done;
    }
}
