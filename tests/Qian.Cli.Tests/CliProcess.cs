using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace Qian.Cli.Tests;

// What one run of the program gave.
internal sealed record CliResult(int ExitCode, string Out, string Error)
{
    public string[] OutLines => Out.Split('\n', StringSplitOptions.RemoveEmptyEntries);
}

// The built program as a process of its own, the way a shell starts it: streams redirected, exit code kept. Every result is
// checked for stack traces, so that no test has to.
internal sealed class CliProcess : IDisposable
{
    private const int Interruption = 2, Termination = 15;

    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(8);

    private readonly Process _process;
    private readonly Heard _out;
    private readonly Heard _error;

    // A shell starts what runs in its background with Ctrl-C ignored, and what we start would have that from us.
    static CliProcess()
    {
        const string ignored = "SigIgn:";
        string? line = OperatingSystem.IsLinux() ? File.ReadLines("/proc/self/status").FirstOrDefault(line => line.StartsWith(ignored, StringComparison.Ordinal)) : null;
        if (line is not null && (Convert.ToUInt64(line[ignored.Length..].Trim(), 16) & (1UL << (Interruption - 1))) != 0)
            Signal(Interruption, 0);
    }

    private CliProcess(Process process)
    {
        _process = process;
        _out = new Heard(process.StandardOutput);
        _error = new Heard(process.StandardError);
    }

    // A reply that only an interruption ends: what was said once is said for ever. In float32, so that every tier says the same.
    public static string[] Endless { get; } = ["-n", "200000", "--temperature", "0", "--frequency-penalty", "-10", "--no-loop-guard", "--exact", "--kv", "f32"];

    public static Task<CliResult> Run(params string[] arguments) => RunWith(null, null, arguments);

    public static Task<CliResult> RunWithInput(string input, params string[] arguments) => RunWith(input, null, arguments);

    public static async Task<CliResult> RunWith(string? input, (string Name, string Value)? variable, params string[] arguments)
    {
        using CliProcess process = Start(variable, arguments);
        if (input is not null)
            await process.Write(input);
        process._process.StandardInput.Close();
        return await process.End();
    }

    public static CliProcess Start(params string[] arguments) => Start(null, arguments);

    // Completes when stdout has more than `length` characters.
    public Task Said(int length) => _out.Until(text => text.Length > length);

    // Completes when stderr holds this.
    public Task Noted(string part) => _error.Until(text => text.Contains(part, StringComparison.Ordinal));

    // Stderr so far.
    public string Notes => _error.Text;

    public async Task Write(string input)
    {
        await _process.StandardInput.WriteAsync(input);
        await _process.StandardInput.FlushAsync();
    }

    // What Ctrl-C in a terminal sends.
    public void Interrupt() => Assert.Equal(0, Kill(_process.Id, Interruption));

    // What an init system sends.
    public void Terminate() => Assert.Equal(0, Kill(_process.Id, Termination));

    // As the system does when memory runs out.
    public async Task Kill()
    {
        _process.Kill();
        await _process.WaitForExitAsync().WaitAsync(s_patience);
    }

    public bool HasExited => _process.HasExited;

    public async Task<CliResult> End()
    {
        await _process.WaitForExitAsync().WaitAsync(s_patience);
        var result = new CliResult(_process.ExitCode, await _out.ToEnd(), await _error.ToEnd());
        Assert.DoesNotContain("   at ", result.Out + result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("Unhandled exception", result.Out + result.Error, StringComparison.Ordinal);
        return result;
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill(entireProcessTree: true);
        _process.Dispose();
    }

    public static CliProcess Start((string Name, string Value)? variable, params string[] arguments)
    {
        var start = new ProcessStartInfo(Environment.GetEnvironmentVariable("DOTNET_HOST_PATH") ?? "dotnet")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardInputEncoding = new UTF8Encoding(false),
            StandardOutputEncoding = Encoding.UTF8,
            StandardErrorEncoding = Encoding.UTF8,
        };
        // Its debugger's pipes would stay in the temporary folder when it is killed.
        start.Environment["DOTNET_EnableDiagnostics"] = "0";
        start.ArgumentList.Add("exec");
        start.ArgumentList.Add(typeof(Program).Assembly.Location);
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        if (variable is { } set)
            start.Environment[set.Name] = set.Value;
        return new CliProcess(Process.Start(start)!);
    }

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int Kill(int process, int signal);

    [DllImport("libc", EntryPoint = "signal")]
    private static extern nint Signal(int signal, nint handler);

    // One stream of the process, read as it comes.
    private sealed class Heard
    {
        private readonly StringBuilder _text = new();
        private readonly Task _reading;

        public Heard(StreamReader reader) => _reading = Task.Run(() => Read(reader));

        public string Text
        {
            get
            {
                lock (_text)
                    return _text.ToString();
            }
        }

        public async Task Until(Func<string, bool> holds)
        {
            using var patience = new CancellationTokenSource(s_patience);
            while (!holds(Text) && !_reading.IsCompleted)
                await Task.Delay(5, patience.Token);
            Assert.True(holds(Text), $"the stream ended with: {Text}");
        }

        public async Task<string> ToEnd()
        {
            await _reading.WaitAsync(s_patience);
            return Text;
        }

        private async Task Read(StreamReader reader)
        {
            var buffer = new char[4096];
            int count;
            while ((count = await reader.ReadAsync(buffer)) > 0)
            {
                lock (_text)
                    _text.Append(buffer, 0, count);
            }
        }
    }
}
