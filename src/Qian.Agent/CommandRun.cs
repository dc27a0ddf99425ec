using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Qian.Agent;

// One command in the system's shell: with a limit on time and output, no input, and an environment that is listed here, so that no
// secret of the user's reaches it. Whatever it starts ends with it: its processes are found by their parents and, on Linux, by a mark
// in their environment, which a process keeps that has left its parents. This is order, not a sandbox: a command may do what its user may.
internal static class CommandRun
{
    private const int MostCharacters = 16_000;
    private const string Mark = "QIAN_COMMAND";

    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(5);

    private static readonly string[] s_kept =
    [
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "DOTNET_ROOT", "JAVA_HOME", "GOPATH", "CARGO_HOME", "RUSTUP_HOME", "PYENV_ROOT", "VIRTUAL_ENV", "NUGET_PACKAGES",
        "SystemRoot", "ComSpec", "PATHEXT", "TEMP", "TMP", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "ProgramFiles", "ProgramData",
    ];

    // What programs ask to know that no person sits before them.
    private static readonly (string Name, string Value)[] s_set = [("TERM", "dumb"), ("NO_COLOR", "1"), ("PAGER", "cat"), ("GIT_PAGER", "cat"), ("GIT_TERMINAL_PROMPT", "0")];

    public static async Task<ToolResult> RunAsync(string command, string folder, TimeSpan limit, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        string mark = Guid.NewGuid().ToString("N");
        using Process process = Process.Start(Start(command, folder, mark))!;
        process.StandardInput.Close();
        var output = new BoundedText(MostCharacters);
        Task reading = Task.WhenAll(output.Take(process.StandardOutput), output.Take(process.StandardError));
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        deadline.CancelAfter(limit);
        bool isLate = false;
        try
        {
            await process.WaitForExitAsync(deadline.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            isLate = true;
        }
        finally
        {
            End(process, mark);
        }

        // A process that escaped may hold the pipe: what came until now has to do.
        await Task.WhenAny(reading, Task.Delay(s_patience, CancellationToken.None)).ConfigureAwait(false);
        string text = output.ToString().TrimEnd();
        int code = process.HasExited ? process.ExitCode : -1;
        string end = isLate ? string.Create(CultureInfo.InvariantCulture, $"stopped after {limit.TotalSeconds:0.#} seconds") : code != 0 ? $"exit code {code}" : text.Length == 0 ? "no output" : "";
        return new ToolResult(text.Length > 0 && end.Length > 0 ? $"{text}\n({end})" : end.Length > 0 ? $"({end})" : text, IsError: isLate || code != 0);
    }

    private static ProcessStartInfo Start(string command, string folder, string mark)
    {
        var start = new ProcessStartInfo
        {
            WorkingDirectory = folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            StandardOutputEncoding = Encoding.UTF8,
            StandardErrorEncoding = Encoding.UTF8,
        };
        if (OperatingSystem.IsWindows())
        {
            start.FileName = Environment.GetEnvironmentVariable("ComSpec") ?? "cmd.exe";
            start.Arguments = $"/d /s /c \"{command}\"";
        }
        else
        {
            start.FileName = "/bin/sh";
            start.ArgumentList.Add("-c");
            start.ArgumentList.Add(command);
        }

        foreach (string name in start.Environment.Keys.Where(name => !s_kept.Contains(name, StringComparer.OrdinalIgnoreCase)).ToList())
            start.Environment.Remove(name);
        foreach ((string name, string value) in s_set)
            start.Environment[name] = value;
        start.Environment[Mark] = mark;
        return start;
    }

    private static void End(Process process, string mark)
    {
        Quietly(() => process.Kill(entireProcessTree: true));
        // Until none is left: one that was about to start another may have done so, and ending takes its time.
        for (int round = 0; round < 100 && OperatingSystem.IsLinux(); round++)
        {
            int[] marked = Marked(Encoding.ASCII.GetBytes($"{Mark}={mark}"));
            if (marked.Length == 0)
                break;
            Thread.Sleep(round);
            foreach (int id in marked)
            {
                Quietly(() =>
                {
                    using Process left = Process.GetProcessById(id);
                    left.Kill();
                });
            }
        }

        Quietly(() => process.WaitForExit(s_patience));
    }

    private static int[] Marked(byte[] mark)
    {
        var ids = new List<int>();
        foreach (string folder in Directory.EnumerateDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(folder), NumberStyles.None, CultureInfo.InvariantCulture, out int id))
            {
                Quietly(() =>
                {
                    if (File.ReadAllBytes(Path.Join(folder, "environ")).AsSpan().IndexOf(mark) >= 0)
                        ids.Add(id);
                });
            }
        }

        return [.. ids];
    }

    // A process may end between any two looks at it, and others belong to other users.
    private static void Quietly(Action action)
    {
        try
        {
            action();
        }
        catch (Exception error) when (error is InvalidOperationException or ArgumentException or IOException or UnauthorizedAccessException or System.ComponentModel.Win32Exception or AggregateException)
        {
        }
    }

    // The beginning and the end of a text of any length.
    private sealed class BoundedText(int mostCharacters)
    {
        private readonly StringBuilder _head = new();
        private readonly StringBuilder _tail = new();
        private long _leftOut;

        public async Task Take(StreamReader reader)
        {
            var buffer = new char[4096];
            int count;
            while ((count = await reader.ReadAsync(buffer).ConfigureAwait(false)) > 0)
                Add(buffer.AsSpan(0, count));
        }

        public override string ToString()
        {
            lock (_head)
                return _leftOut == 0 ? $"{_head}{_tail}" : $"{_head}\n(… {_leftOut} characters left out …)\n{_tail}";
        }

        private void Add(ReadOnlySpan<char> piece)
        {
            lock (_head)
            {
                int fits = Math.Min(piece.Length, mostCharacters / 2 - _head.Length);
                _head.Append(piece[..fits]);
                _tail.Append(piece[fits..]);
                int over = Math.Max(0, _tail.Length - mostCharacters / 2);
                _tail.Remove(0, over);
                _leftOut += over;
            }
        }
    }
}
