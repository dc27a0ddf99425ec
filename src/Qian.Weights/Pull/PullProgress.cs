namespace Qian.Weights;

// How far a pull has come: bytes on disk of all that was asked for, or of the file whose digest is being taken.
internal readonly record struct PullProgress(string Path, bool IsVerifying, long BytesDone, long BytesTotal);

// What a pull gave: where it lies, what was fetched and what was there already.
internal sealed record PullResult(PullName Name, string Commit, string Path, IReadOnlyList<HubFile> Files, long FetchedBytes, long PresentBytes, string? Reason);
