namespace Qian.Inference.Tests.Chat;

// Finds tests/data from wherever the test assembly runs.
internal static class ChatData
{
    public static string PathOf(string name)
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string data = Path.Combine(folder.FullName, "tests", "data");
            if (Directory.Exists(data))
            {
                return Path.Combine(data, name);
            }
        }

        throw new DirectoryNotFoundException($"No tests/data above {AppContext.BaseDirectory}.");
    }
}
