using System.CommandLine;
using System.Runtime.InteropServices;
using Qian.Inference;
using Qian.Inference.Chat.Jinja;

namespace Qian.Cli;

// The one executable. Results go to stdout, progress and notes to stderr. Exit codes: 0 done, 1 failed, 2 bad usage,
// 3 bad model file, 130 interrupted. This is the one place where exceptions become messages.
internal static class Program
{
    public const int Done = 0, Failed = 1, BadUsage = 2, BadModelFile = 3, Interrupted = 130;

    public static async Task<int> Main(string[] args)
    {
        Console.OutputEncoding = System.Text.Encoding.UTF8;
        ParseResult parsed = Verbs.Root().Parse(args);
        if (FlagNames.Unknown(parsed) is { } unknown && parsed.Action is not System.CommandLine.Help.HelpAction)
        {
            Console.Error.WriteLine($"qian: unknown option '{unknown}' (text that begins with two dashes goes behind a lone --).");
            Console.Error.WriteLine($"See '{HelpCommand(parsed)} --help'.");
            return BadUsage;
        }

        if (parsed.Errors.Count > 0 && parsed.Action is not System.CommandLine.Help.HelpAction)
        {
            foreach (var error in parsed.Errors)
                Console.Error.WriteLine($"qian: {FlagNames.Explain(error)}");
            Console.Error.WriteLine($"See '{HelpCommand(parsed)} --help'.");
            return BadUsage;
        }

        using var program = new InterruptScope();
        using PosixSignalRegistration onInterrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => context.Cancel = InterruptScope.InterruptInnermost());
        using PosixSignalRegistration onTerminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => context.Cancel = InterruptScope.InterruptInnermost());
        try
        {
            var configuration = new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null };
            return await parsed.InvokeAsync(configuration, program.Token);
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine("qian: interrupted");
            return Interrupted;
        }
        catch (BadModelFileException error)
        {
            Console.Error.WriteLine($"qian: {error.Message}");
            return BadModelFile;
        }
        catch (BadRequestException error)
        {
            // What a template raises on its own account comes in its own words; say where they stand.
            string place = error.InnerException is TemplateException { Line: > 0 } template && !error.Message.Contains($"line {template.Line}", StringComparison.Ordinal) ? $" (line {template.Line} of the chat template)" : "";
            Console.Error.WriteLine($"qian: {error.Message}{place}");
            return BadUsage;
        }
        catch (TypeInitializationException error) when (error.GetBaseException() is ArgumentException or PlatformNotSupportedException)
        {
            // QIAN_ISA names no tier of this machine.
            Console.Error.WriteLine($"qian: {error.GetBaseException().Message}");
            return BadUsage;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or PlatformNotSupportedException or OutOfMemoryException)
        {
            Console.Error.WriteLine($"qian: {error.Message}");
            return Failed;
        }
    }

    private static string HelpCommand(ParseResult parsed)
    {
        string verb = parsed.CommandResult.Command is RootCommand ? "" : " " + parsed.CommandResult.Command.Name;
        return "qian" + verb;
    }
}
