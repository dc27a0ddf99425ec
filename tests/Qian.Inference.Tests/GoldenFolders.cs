using System.Runtime.CompilerServices;

namespace Qian.Inference.Tests;

// Where the repository keeps its reference numbers.
internal static class GoldenFolders
{
    public static string Data { get; } = Path.GetFullPath(Path.Combine(Path.GetDirectoryName(ThisFile())!, "..", "data"));

    public static string Goldens { get; } = Path.Combine(Data, "goldens");

    public static string TextDenseTiny { get; } = Path.Combine(Goldens, "text-dense-tiny");

    public static string MtpTiny { get; } = Path.Combine(Goldens, "mtp-tiny");

    public static string TextMoeTiny { get; } = Path.Combine(Goldens, "text-moe-tiny");

    private static string ThisFile([CallerFilePath] string path = "") => path;
}
