using Qian.Weights;

namespace Qian.Cli;

// What -m PATH means: a file or folder, or the name of a model that was pulled.
internal static class ModelPath
{
    // A path that is neither goes through unchanged: loading says what is wrong with it.
    public static string Of(string text)
    {
        if (File.Exists(text) || Directory.Exists(text) || !PullName.TryParse(text, out PullName? name))
            return text;
        return name.Type is null && text.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase) ? text : HubCache.FromEnvironment().Find(name);
    }
}
