using Qian.Inference;
using Qian.Weights;

namespace Qian.Cli;

// What -m PATH means: a file or folder, the name of a model that was pulled, or, when nothing is named, the embedded model.
internal static class ModelPath
{
    private static bool s_noted;

    // Where the build puts models/nano.
    private static string Embedded => Path.Combine(AppContext.BaseDirectory, "nano");

    // A path that is neither goes through unchanged: loading says what is wrong with it.
    public static string Of(string? text)
    {
        if (text is null)
            return Default();
        if (File.Exists(text) || Directory.Exists(text) || !PullName.TryParse(text, out PullName? name))
            return text;
        return name.Type is null && text.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase) ? text : HubCache.FromEnvironment().Find(name);
    }

    private static string Default()
    {
        if (!File.Exists(Path.Combine(Embedded, "config.json")))
            throw new BadRequestException("no model given, and this build holds no embedded one: name one with -m PATH (a .gguf file, a Hugging Face folder, or a pulled name).");
        if (!s_noted)
            Terminal.Note("nano, the embedded demonstration model, is used. For the real one: qian pull Qwen/Qwen3.6-27B-GGUF, then -m Qwen/Qwen3.6-27B-GGUF.");
        s_noted = true;
        return Embedded;
    }
}
