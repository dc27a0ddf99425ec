namespace Qian.Cli;

// Standard input, read on a thread of its own: Ctrl-C must end a read that nobody answers.
internal static class StandardInput
{
    public static string ReadAll(CancellationToken cancellation) =>
        Task.Run(Console.In.ReadToEnd, CancellationToken.None).WaitAsync(cancellation).GetAwaiter().GetResult();
}
