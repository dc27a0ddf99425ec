using System.Globalization;

namespace Qian.Inference.Measurement;

// One benchmark at a time on a machine: two would measure each other. A file held open exclusively, so that the lock goes
// with its process however that ends; a file beside it says who holds it. The files stay: deleting one that another process
// is about to open would let two in.
internal sealed class BenchLock : IDisposable
{
    private readonly FileStream _file;

    private BenchLock(FileStream file) => _file = file;

    // Throws IOException that names the holder.
    public static BenchLock Take(string folder)
    {
        string path = Path.Combine(folder, "qian-bench.lock");
        FileStream file;
        try
        {
            try
            {
                file = Open(path);
            }
            catch (UnauthorizedAccessException)
            {
                // Another user's: their own lock is all that is left to those who may not open it.
                file = Open(path = Path.Combine(folder, $"qian-bench-{Environment.UserName}.lock"));
            }
        }
        catch (IOException error) when (File.Exists(path))
        {
            string holderPath = HolderOf(path), holder = File.Exists(holderPath) ? File.ReadAllText(holderPath).Trim() : "unknown";
            throw new IOException($"Another benchmark or training is running ({holder}), and two would disturb each other: wait for it, or stop it. Lock: {path}", error);
        }

        try
        {
            File.WriteAllText(HolderOf(path), string.Create(CultureInfo.InvariantCulture, $"process {Environment.ProcessId} since {DateTime.Now:yyyy-MM-dd HH:mm:ss}\n"));
            return new BenchLock(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static FileStream Open(string path) => new(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);

    private static string HolderOf(string path) => path + ".holder";

    public void Dispose() => _file.Dispose();
}
