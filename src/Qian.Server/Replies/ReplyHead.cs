using System.Text.Json;

namespace Qian.Server.Replies;

// What every chunk of a reply repeats.
internal sealed record ReplyHead(string Id, long Created, string Model)
{
    public static ReplyHead New(string prefix, string model) => new(prefix + Guid.NewGuid().ToString("N"), DateTimeOffset.UtcNow.ToUnixTimeSeconds(), model);

    public void Write(Utf8JsonWriter json, string kind)
    {
        json.WriteString("id", Id);
        json.WriteString("object", kind);
        json.WriteNumber("created", Created);
        json.WriteString("model", Model);
    }
}
