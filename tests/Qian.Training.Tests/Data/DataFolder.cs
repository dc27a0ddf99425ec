using System.Text;
using Qian.Inference.Chat;
using Qian.Inference.Formats;
using Qian.Inference.Text;

namespace Qian.Training.Tests.Data;

// A folder of training files for one test, and the vocabulary that the tests of data share.
internal sealed class DataFolder : IDisposable
{
    private static readonly Lazy<Tokenizer> s_tokenizer = new(static () => new Tokenizer(HuggingFaceTokenizer.ReadFolder(Path.Combine(FindTestData(), "tokenizer", "qwen35-regex-mini"))));

    public static Tokenizer Mini => s_tokenizer.Value;

    public string Root { get; } = Directory.CreateTempSubdirectory("qian-data-").FullName;

    public string Write(string name, string text) => Write(name, Encoding.UTF8.GetBytes(text));

    public string Write(string name, byte[] bytes)
    {
        string path = Path.Combine(Root, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    public SampleSet Load(DataOptions options) => TrainingData.Load(options, Mini, ChatTemplate.Default);

    public SampleSet LoadText(string name, string text, LossTokens loss = LossTokens.Assistant) =>
        Load(new DataOptions { Paths = [Write(name, text)], Loss = loss });

    // What the loss counts of a sample: runs of targets, decoded, with a bar between them.
    public static string Taught(Sample sample)
    {
        var runs = new List<string>();
        for (int i = 0; i < sample.Labels.Length; i++)
        {
            int start = i;
            while (i < sample.Labels.Length && sample.Labels[i] != TrainingBatch.Ignored)
                i++;
            if (i > start)
                runs.Add(Mini.Decode(sample.Labels.AsSpan(start..i)));
        }

        return string.Join("|", runs);
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);

    private static string FindTestData()
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            string candidate = Path.Combine(folder, "tests", "data");
            if (Directory.Exists(candidate))
                return candidate;
        }

        throw new DirectoryNotFoundException("tests/data");
    }
}
