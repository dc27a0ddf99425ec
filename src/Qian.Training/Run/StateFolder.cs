using System.Globalization;
using Qian.Inference;

namespace Qian.Training.Run;

// The states of a run in its folder, one file a state, named by its step. The last two stay: the older one is for the day on
// which the newer turns out to be damaged.
internal sealed class StateFolder(string path)
{
    private const int KeptCount = 2;
    private const string Prefix = "state-", Suffix = ".qts";

    // Newest first.
    public IReadOnlyList<string> Files()
    {
        if (!Directory.Exists(path))
            return [];
        return
        [
            .. Directory.EnumerateFiles(path, Prefix + "*" + Suffix)
                .Select(file => (File: file, Step: StepOf(file)))
                .Where(found => found.Step >= 0)
                .OrderByDescending(found => found.Step)
                .Select(found => found.File),
        ];
    }

    // Throws BadRequestException where there is nothing to resume.
    public void RequireSome()
    {
        if (Files().Count == 0)
            throw new BadRequestException($"--resume: {path} holds no state. To go on from a saved model with fresh moments, begin a new run from it: -m MODEL with an --out of its own.");
    }

    public string Write(StateHeader header, IReadOnlyList<StateTensor> tensors)
    {
        Directory.CreateDirectory(path);
        string file = Path.Combine(path, string.Create(CultureInfo.InvariantCulture, $"{Prefix}{header.Position.StepCount:00000000}{Suffix}"));
        StateFile.Write(file, header, tensors);
        foreach (string old in Files().Skip(KeptCount))
            File.Delete(old);
        return file;
    }

    // The newest whole state, read into `tensors`; null where there is none. Damaged ones are told and passed over.
    public StateHeader? ReadNewest(IReadOnlyList<StateTensor> tensors, Action<string> note)
    {
        foreach (string file in Files())
        {
            try
            {
                return StateFile.Read(file, tensors);
            }
            catch (BadModelFileException error)
            {
                note($"{error.Message} Trying the one before.");
            }
        }

        return null;
    }

    private static long StepOf(string file) =>
        long.TryParse(Path.GetFileName(file.AsSpan())[Prefix.Length..^Suffix.Length], NumberStyles.None, CultureInfo.InvariantCulture, out long step) ? step : -1;
}
