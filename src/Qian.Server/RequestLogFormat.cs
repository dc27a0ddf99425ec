namespace Qian.Server;

/// <summary>How the log tells of each request that was answered.</summary>
public enum RequestLogFormat
{
    /// <summary>Not at all; only what the server itself could not cope with is told.</summary>
    None,

    /// <summary>A line for people.</summary>
    Text,

    /// <summary>A JSON object on a line.</summary>
    Json,
}
