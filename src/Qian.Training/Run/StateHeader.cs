using System.Text.Json;

namespace Qian.Training.Run;

// What a state holds besides numbers: where the run stood, where its data stood, and the settings it ran with (as text, to
// compare and to name what differs).
internal sealed record StateHeader
{
    public required RunPosition Position { get; init; }

    // The step at which the present stream of batches began (0, unless samples or packing changed since), and the fingerprint of
    // what their order depends on.
    public required long StreamStart { get; init; }

    public required string DataFingerprint { get; init; }

    public required int ThreadCount { get; init; }

    public required IReadOnlyList<KeyValuePair<string, string>> Settings { get; init; }

    public byte[] ToJson()
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
        {
            json.WriteStartObject();
            json.WriteNumber("step", Position.StepCount);
            json.WriteNumber("tokens", Position.TokenCount);
            json.WriteNumber("seconds", Position.Seconds);
            json.WriteNumber("stream", StreamStart);
            json.WriteString("data", DataFingerprint);
            json.WriteNumber("threads", ThreadCount);
            json.WriteStartObject("settings");
            foreach ((string name, string value) in Settings)
                json.WriteString(name, value);
            json.WriteEndObject();
            json.WriteEndObject();
        }

        return stream.ToArray();
    }

    // Throws JsonException and its kin on anything else than ToJson's text; the caller's checksum has vouched for the bytes.
    public static StateHeader FromJson(ReadOnlyMemory<byte> text)
    {
        using JsonDocument document = JsonDocument.Parse(text, new JsonDocumentOptions { MaxDepth = 4 });
        JsonElement root = document.RootElement;
        var header = new StateHeader
        {
            Position = new RunPosition(root.GetProperty("step").GetInt64(), root.GetProperty("tokens").GetInt64(), root.GetProperty("seconds").GetDouble()),
            StreamStart = root.GetProperty("stream").GetInt64(),
            DataFingerprint = root.GetProperty("data").GetString()!,
            ThreadCount = root.GetProperty("threads").GetInt32(),
            Settings = [.. root.GetProperty("settings").EnumerateObject().Select(setting => KeyValuePair.Create(setting.Name, setting.Value.GetString()!))],
        };
        if (header.Position is { StepCount: < 0 } or { TokenCount: < 0 } || !(header.Position.Seconds >= 0) || header.StreamStart < 0 || header.StreamStart > header.Position.StepCount)
            throw new FormatException("a position that cannot be");
        return header;
    }

    // One line per setting that is not what it was, for a note to the user.
    // Null where the state does not say.
    public string? Setting(string name) => Settings.FirstOrDefault(setting => setting.Key == name).Value;

    public IEnumerable<string> Differences(StateHeader now)
    {
        var before = new Dictionary<string, string>();
        foreach ((string name, string value) in Settings)
            before[name] = value;
        foreach ((string name, string value) in now.Settings)
        {
            string old = before.GetValueOrDefault(name, "unset");
            if (old != value)
                yield return $"{name}: {old} before, {value} now";
        }

        if (ThreadCount != now.ThreadCount)
            yield return $"threads: {ThreadCount} before, {now.ThreadCount} now; sums may be rounded otherwise";
        if (DataFingerprint != now.DataFingerprint)
            yield return "the samples or their packing: a new pass over the data begins";
    }
}
