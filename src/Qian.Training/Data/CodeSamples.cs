using System.Text;
using Qian.Inference.Runtime;
using Qian.Inference.Text;

namespace Qian.Training;

// Makes samples of a source file with the family's code tokens, in the forms that Qwen's coder models are trained and asked in:
//   whole file  <|repo_name|>NAME\n<|file_sep|>PATH\n text <|endoftext|>
//   PSM         [header] <|fim_prefix|> prefix <|fim_suffix|> suffix <|fim_middle|> middle <|endoftext|>
//   SPM         [header] <|fim_prefix|><|fim_suffix|> suffix <|fim_middle|> prefix middle <|endoftext|>
// Of a whole file everything after its header is taught; of a gap the middle and its end alone, since the rest is the file again. Half of the
// gaps have the header, since editors mostly ask without. Where gaps lie depends on seed and path alone.
internal sealed class CodeSamples
{
    private readonly Tokenizer _tokenizer;
    private readonly CodeOptions _options;
    private readonly ulong _seed;
    private readonly int _repositoryId;
    private readonly int _fileId;
    private readonly int _prefixId;
    private readonly int _suffixId;
    private readonly int _middleId;
    private readonly int _endId;

    public CodeSamples(Tokenizer tokenizer, CodeOptions options, ulong seed)
    {
        _tokenizer = tokenizer;
        _options = options;
        _seed = seed;
        _repositoryId = ChatSamples.RequireId(tokenizer, "<|repo_name|>");
        _fileId = ChatSamples.RequireId(tokenizer, "<|file_sep|>");
        _prefixId = ChatSamples.RequireId(tokenizer, "<|fim_prefix|>");
        _suffixId = ChatSamples.RequireId(tokenizer, "<|fim_suffix|>");
        _middleId = ChatSamples.RequireId(tokenizer, "<|fim_middle|>");
        _endId = ChatSamples.RequireId(tokenizer, "<|endoftext|>");
    }

    public List<Sample> ToSamples(string repository, string path, string text, string source)
    {
        string key = $"{repository}/{path}";
        int[] header = [_repositoryId, .. _tokenizer.Encode(repository + "\n"), _fileId, .. _tokenizer.Encode(path + "\n")];
        var samples = new List<Sample>();
        Add([.. header, .. _tokenizer.Encode(text), _endId], header.Length);
        var random = new Draws(CounterRandom.Bits(_seed, (long)HashOf(key)));
        int gapCount = (int)_options.FillInTheMiddleRate;
        gapCount += random.Uniform() < _options.FillInTheMiddleRate - gapCount ? 1 : 0;
        for (int i = 0; i < gapCount && text.Length > 1; i++)
        {
            (int start, int end) = CodeGap.Choose(text, ref random);
            int[] opening = random.Below(2) == 0 ? header : [];
            (int[] tokens, int taughtFrom) = FillIn(opening, text, start, end, prefixFirst: random.Below(2) == 0);
            Add(tokens, taughtFrom);
        }

        return samples;

        void Add(int[] tokens, int taughtFrom)
        {
            var isTarget = new bool[tokens.Length];
            isTarget.AsSpan(Math.Min(taughtFrom, tokens.Length)).Fill(true);
            if (Sample.FromTokens(tokens, isTarget, source, key) is { } sample)
                samples.Add(sample);
        }
    }

    // The parts are tokenized apart, as they are when an editor asks.
    private (int[] Tokens, int TaughtFrom) FillIn(int[] opening, string text, int start, int end, bool prefixFirst)
    {
        ReadOnlySpan<int> prefix = _tokenizer.Encode(text[..start]);
        ReadOnlySpan<int> middle = _tokenizer.Encode(text[start..end]);
        ReadOnlySpan<int> suffix = _tokenizer.Encode(text[end..]);
        const int MarkCount = 4;
        if (_options.LongestSampleTokens > 0)
        {
            int room = _options.LongestSampleTokens + 1 - MarkCount - opening.Length - middle.Length;
            if (room < 0)
                return ([], 0);
            int suffixRoom = Math.Min(suffix.Length, Math.Max(room / 2, room - prefix.Length));
            suffix = suffix[..suffixRoom];
            prefix = prefix[Math.Max(prefix.Length - (room - suffixRoom), 0)..];
        }

        int[] tokens = prefixFirst
            ? [.. opening, _prefixId, .. prefix, _suffixId, .. suffix, _middleId, .. middle, _endId]
            : [.. opening, _prefixId, _suffixId, .. suffix, _middleId, .. prefix, .. middle, _endId];
        return (tokens, tokens.Length - 1 - middle.Length);
    }

    private static ulong HashOf(string key)
    {
        ulong hash = 0;
        foreach (byte value in Encoding.UTF8.GetBytes(key))
            hash = CounterRandom.Bits(hash, value);
        return hash;
    }
}

// Numbers drawn one after the other from a counter-based stream.
internal struct Draws(ulong stream)
{
    private long _index;

    public double Uniform() => CounterRandom.Uniform(stream, _index++);

    public int Below(int bound) => (int)Math.BigMul(CounterRandom.Bits(stream, _index++), (ulong)bound, out _);
}
