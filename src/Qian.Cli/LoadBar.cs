using Qian.Inference;
using Spectre.Console;

namespace Qian.Cli;

// A progress bar for whoever goes through a model's tensors. Reports on the working thread: System.Progress would queue every
// tensor to the pool.
internal sealed class LoadBar(ProgressTask task) : IProgress<LoadProgress>
{
    public void Report(LoadProgress value)
    {
        task.MaxValue = Math.Max(1, value.BytesTotal);
        task.Value = value.BytesDone;
    }

    // Runs `work` under a bar on stderr; without one where that is no terminal.
    public static T Under<T>(string title, Func<IProgress<LoadProgress>?, T> work)
    {
        if (Console.IsErrorRedirected)
            return work(null);
        return Terminal.Error.Progress()
            .AutoClear(true)
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
            .Start(context => work(new LoadBar(context.AddTask(Markup.Escape(title)))));
    }
}
