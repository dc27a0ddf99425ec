using Spectre.Console;

namespace Qian.Cli;

// The two consoles: results on stdout, progress and notes on stderr.
internal static class Terminal
{
    public static IAnsiConsole Out { get; } = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Out) });

    public static IAnsiConsole Error { get; } = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Console.Error) });

    public static void Note(string text) => Console.Error.WriteLine(text);
}
