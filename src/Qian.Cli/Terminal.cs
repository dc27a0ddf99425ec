using Spectre.Console;

namespace Qian.Cli;

// The two consoles: results on stdout, progress and notes on stderr.
internal static class Terminal
{
    // A pipe or a file has no width: tables there are as wide as they need, so that no value is broken over two lines.
    private const int UnlimitedWidth = 4096;

    public static IAnsiConsole Out { get; } = Create(Console.Out, Console.IsOutputRedirected);

    public static IAnsiConsole Error { get; } = Create(Console.Error, Console.IsErrorRedirected);

    public static void Note(string text) => Console.Error.WriteLine(text);

    private static IAnsiConsole Create(TextWriter writer, bool isRedirected)
    {
        var settings = new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer) };
        // Whatever TERM says: a log is read by other programs.
        if (isRedirected)
            (settings.Ansi, settings.ColorSystem) = (AnsiSupport.No, ColorSystemSupport.NoColors);
        IAnsiConsole console = AnsiConsole.Create(settings);
        if (isRedirected)
            console.Profile.Width = UnlimitedWidth;
        return console;
    }
}
