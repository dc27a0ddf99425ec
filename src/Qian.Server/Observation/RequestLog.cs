using System.Text;
using Qian.Server.Http;

namespace Qian.Server.Observation;

// Where the records of finished requests go: a line to the operator's log, for people or for programs, and a JSON line to the
// audit file, which is only ever appended to and readable by its owner only. Both say who, what and how long; words of the
// conversation go into the audit alone, and only when asked for. Signs of life are asked for every few seconds and not told.
internal sealed class RequestLog : IDisposable
{
    private static readonly string[] s_untold = ["/health", "/ready", "/metrics"];

    private readonly ServerOptions _options;
    private readonly TextWriter _log;
    private readonly FileStream? _audit;
    private readonly Lock _lock = new();

    public RequestLog(ServerOptions options, TextWriter log)
    {
        _options = options;
        _log = log;
        if (options.AuditPath is not { } path)
            return;
        var append = new FileStreamOptions { Mode = FileMode.Append, Access = FileAccess.Write, Share = FileShare.ReadWrite | FileShare.Delete };
        if (!OperatingSystem.IsWindows())
            append.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        _audit = new FileStream(path, append);
    }

    public bool WantsContents => _audit is not null && _options.AuditContents;

    public void Write(RequestRecord record)
    {
        if (s_untold.Contains(record.Route) && record.Status < 400)
            return;
        if (_options.RequestLog == RequestLogFormat.Text)
            _log.WriteLine(record.Line());
        else if (_options.RequestLog == RequestLogFormat.Json)
            _log.WriteLine(Encoding.UTF8.GetString(JsonReply.Bytes(json => record.Write(json, withRemote: false, withContents: false))));
        if (_audit is null)
            return;
        byte[] line = [.. JsonReply.Bytes(json => record.Write(json, withRemote: true, withContents: WantsContents)), (byte)'\n'];
        try
        {
            lock (_lock)
            {
                // One write per line: what a crash cuts is the last line at most.
                _audit.Write(line);
                _audit.Flush();
            }
        }
        catch (IOException error)
        {
            _log.WriteLine($"qian: {record.Id} is missing in the audit file: {error.Message}");
        }
    }

    public void Dispose() => _audit?.Dispose();
}
