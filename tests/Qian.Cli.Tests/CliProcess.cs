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
    private static readonly TimeSpan s_patience = TimeSpan.FromMinutes(2);

    private readonly Process _process;
    private readonly StringBuilder _out = new();
    private readonly Task _reading;
    private readonly Task<string> _error;
    private readonly TaskCompletionSource _spoke = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly TaskCompletionSource _lineEnded = new(TaskCreationOptions.RunContinuationsAsynchronously);

    private CliProcess(Process process)
    {
        _process = process;
        _error = process.StandardError.ReadToEndAsync();
        _reading = Task.Run(ReadOut);
    }

    // Completes when the first character of a result has come.
    public Task Spoke => _spoke.Task.WaitAsync(s_patience);

    // Completes when the first line of a result has ended.
    public Task LineEnded => _lineEnded.Task.WaitAsync(s_patience);

    public static Task<CliResult> Run(params string[] arguments) => RunWith(null, null, arguments);

    public static Task<CliResult> RunWithInput(string input, params string[] arguments) => RunWith(input, null, arguments);

    public static async Task<CliResult> RunWith(string? input, (string Name, string Value)? variable, params string[] arguments)
    {
        using CliProcess process = Start(variable, arguments);
        if (input is not null)
            await process._process.StandardInput.WriteAsync(input);
        process._process.StandardInput.Close();
        return await process.End();
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
        start.ArgumentList.Add("exec");
        start.ArgumentList.Add(typeof(Program).Assembly.Location);
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        if (variable is { } set)
            start.Environment[set.Name] = set.Value;
        return new CliProcess(Process.Start(start)!);
    }

    public async Task Write(string input)
    {
        await _process.StandardInput.WriteAsync(input);
        await _process.StandardInput.FlushAsync();
    }

    // What Ctrl-C in a terminal sends.
    public void Interrupt() => Assert.Equal(0, Kill(_process.Id, 2));

    public async Task<CliResult> End()
    {
        await _process.WaitForExitAsync().WaitAsync(s_patience);
        await _reading;
        var result = new CliResult(_process.ExitCode, _out.ToString(), await _error);
        Assert.DoesNotContain("   at ", result.Out + result.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("Unhandled exception", result.Out + result.Error, StringComparison.Ordinal);
        return result;
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill();
        _process.Dispose();
    }

    private async Task ReadOut()
    {
        var buffer = new char[4096];
        int count;
        while ((count = await _process.StandardOutput.ReadAsync(buffer)) > 0)
        {
            _out.Append(buffer, 0, count);
            _spoke.TrySetResult();
            if (buffer.AsSpan(0, count).Contains('\n'))
                _lineEnded.TrySetResult();
        }

        _spoke.TrySetResult();
        _lineEnded.TrySetResult();
    }

    [DllImport("libc", EntryPoint = "kill")]
    private static extern int Kill(int process, int signal);
}
