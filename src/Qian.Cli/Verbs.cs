using System.CommandLine;
using System.Reflection;
using Qian.Kernels;

namespace Qian.Cli;

// The list of verbs, in the order of the help.
internal static class Verbs
{
    public static RootCommand Root()
    {
        var root = new RootCommand("Qian runs Qwen3.6-27B and its family on your own machine.")
        {
            RunVerb.Create(),
            ChatVerb.Create(),
            ServeVerb.Create(),
            KeysVerb.Create(),
            CodeVerb.Create(),
            InspectVerb.Create(),
            VerifyVerb.Create(),
            TrainVerb.Create(),
            BenchVerb.Create(),
            PlanVerb.Create(),
            AdapterVerb.Create(),
            SynthVerb.Create(),
            PullVerb.Create(),
            QuantizeVerb.Create(),
            QualityVerb.Create(),
            ModelsVerb.Create(),
            TokenizeVerb.Create(),
            TemplateVerb.Create(),
            CompletionVerb.Create(),
        };
        foreach (Option option in root.Options)
        {
            if (option is VersionOption version)
                version.Action = new VersionAction();
        }

        return root;
    }

    public static string Version { get; } = typeof(Verbs).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "unknown";

    private sealed class VersionAction : System.CommandLine.Invocation.SynchronousCommandLineAction
    {
        public override int Invoke(ParseResult parseResult)
        {
            Console.WriteLine($"qian {Version}");
            Console.WriteLine($"kernels: {IsaTier.Products.ToString().ToLowerInvariant()} in use; this CPU offers {string.Join(", ", IsaTier.Offered).ToLowerInvariant()} ({IsaTier.EnvironmentVariable} forces one)");
            Console.WriteLine($"runtime: {System.Runtime.InteropServices.RuntimeInformation.FrameworkDescription}, {System.Runtime.InteropServices.RuntimeInformation.RuntimeIdentifier}");
            return Program.Done;
        }
    }
}
