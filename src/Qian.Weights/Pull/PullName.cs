using Qian.Inference;

namespace Qian.Weights;

// The name of a model on a hub: org/name, optionally @revision and :type ("Qwen/Qwen3.6-27B-GGUF:Q4_K_M"). The type is what
// a GGUF file's name carries, or that file's whole name. Names become folders and addresses, so they are checked here.
internal sealed record PullName(string Repo, string? Revision, string? Type)
{
    private const int LongestPart = 96;

    public static PullName Parse(string text) => TryParse(text, out PullName? name)
        ? name
        : throw new BadRequestException($"'{HubPath.Shown(text)}' is not the name of a model: expected ORG/NAME or ORG/NAME:TYPE, for example Qwen/Qwen3.6-27B-GGUF:Q4_K_M");

    public static bool TryParse(string text, [System.Diagnostics.CodeAnalysis.NotNullWhen(true)] out PullName? name)
    {
        name = null;
        string repo = text;
        string? type = null, revision = null;
        if (repo.LastIndexOf(':') is >= 0 and int colon)
        {
            (repo, type) = (repo[..colon], repo[(colon + 1)..]);
            if (type.Length == 0 || HubPath.Fault(type) is not null)
                return false;
        }

        if (repo.IndexOf('@') is >= 0 and int at)
        {
            (repo, revision) = (repo[..at], repo[(at + 1)..]);
            if (HubPath.Fault(revision) is not null)
                return false;
        }

        string[] parts = repo.Split('/');
        if (parts.Length != 2 || !IsPart(parts[0]) || !IsPart(parts[1]))
            return false;
        name = new PullName(repo, revision, type);
        return true;
    }

    public override string ToString() => Repo + (Revision is null ? "" : "@" + Revision) + (Type is null ? "" : ":" + Type);

    // The hub's own rule; "--" is what the cache puts between organisation and name.
    private static bool IsPart(string part)
    {
        if (part.Length is 0 or > LongestPart || part.Contains("--", StringComparison.Ordinal) || part.Contains("..", StringComparison.Ordinal))
            return false;
        if (part[0] is '.' or '-' || part[^1] is '.' or '-')
            return false;
        foreach (char c in part)
        {
            if (!char.IsAsciiLetterOrDigit(c) && c is not ('-' or '_' or '.'))
                return false;
        }

        return true;
    }
}
