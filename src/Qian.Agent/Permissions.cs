using System.Text.RegularExpressions;

namespace Qian.Agent;

internal enum PermissionKind
{
    Write,
    Run,
}

internal enum PermissionAnswer
{
    No,
    Once,

    // Writing: any file of the workspace. Running: this very command again.
    Always,
}

// What the model wants to do: the file with the change as a diff, or the command.
internal sealed record PermissionRequest(PermissionKind Kind, string Subject, string Diff = "");

// Reading is free; writing and running are asked for unless the user has allowed them. Where nobody can be asked, they are refused.
internal sealed class Permissions
{
    // What a star of a pattern stands for: all but what would begin another command or a redirection. So "git *" allows
    // "git log -3", and neither "git log; rm -r ." nor "git log > a.cs".
    private const string Star = "[^;&|<>`$()\\n\\r]*";

    private readonly List<string> _allowedCommands = [];
    private bool _mayWrite;

    public bool AllowAll { get; init; }

    public bool AllowWrite
    {
        get => _mayWrite;
        init => _mayWrite = value;
    }

    // Commands with stars.
    public IReadOnlyList<string> RunPatterns { get; init; } = [];

    // Null where nobody can be asked.
    public Func<PermissionRequest, CancellationToken, Task<PermissionAnswer>>? Ask { get; init; }

    // `asking` hears of the request before the user is asked.
    public async Task RequireAsync(PermissionRequest request, Action<PermissionRequest> asking, CancellationToken cancellation)
    {
        bool isWrite = request.Kind == PermissionKind.Write;
        if (AllowAll || (isWrite ? _mayWrite : _allowedCommands.Contains(request.Subject) || RunPatterns.Any(pattern => Matches(pattern, request.Subject))))
            return;
        if (Ask is null)
            throw new ToolException($"{(isWrite ? "writing files" : "running this command")} is not permitted here, and nobody can be asked");
        asking(request);
        PermissionAnswer answer = await Ask(request, cancellation).ConfigureAwait(false);
        if (answer == PermissionAnswer.No)
            throw new ToolException("the user does not permit this");
        if (answer == PermissionAnswer.Always && isWrite)
            _mayWrite = true;
        else if (answer == PermissionAnswer.Always)
            _allowedCommands.Add(request.Subject);
    }

    private static bool Matches(string pattern, string command) =>
        Regex.IsMatch(command, "^" + Regex.Escape(pattern).Replace("\\*", Star, StringComparison.Ordinal) + "\\z", RegexOptions.NonBacktracking | RegexOptions.CultureInvariant);
}
