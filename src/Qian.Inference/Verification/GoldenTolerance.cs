using System.Text.Json;

namespace Qian.Inference.Verification;

// Bounds of a golden folder, from "tolerance" in its info.json. The names are the folder's; nothing is assumed from its own.
internal sealed record GoldenTolerance(double LogitsMaxAbsolute, double HiddenRelativeL2, double StateRelativeL2)
{
    public static GoldenTolerance Read(string path)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(path));
            JsonElement tolerance = document.RootElement.GetProperty("tolerance");
            return new GoldenTolerance(
                tolerance.GetProperty("logits_max_abs").GetDouble(),
                tolerance.GetProperty("hidden_rel_l2").GetDouble(),
                tolerance.GetProperty("state_rel_l2").GetDouble());
        }
        catch (Exception error) when (error is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new BadModelFileException($"{path}: expected \"tolerance\" with logits_max_abs, hidden_rel_l2 and state_rel_l2.", error);
        }
    }
}
