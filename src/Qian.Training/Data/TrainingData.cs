using System.Runtime.ExceptionServices;
using System.Text;
using Qian.Inference;
using Qian.Inference.Chat;
using Qian.Inference.Text;

namespace Qian.Training;

// From files to samples. Reading is one stream in a fixed order; parsing, rendering and tokenizing, which cost, run on all cores over
// a block of items at a time and are put back in that order, so the result does not depend on the machine.
internal sealed class TrainingData
{
    private const int BlockItemCount = 1024;
    private const int BlockBytes = 32 << 20;
    private const int ShownReasonCount = 5;

    private readonly DataOptions _options;
    private readonly Tokenizer _tokenizer;
    private readonly int _endOfTextId;
    private readonly Lazy<ChatSamples> _chats;
    private readonly Lazy<CodeSamples> _code;
    private readonly List<string> _skippedReasons = [];
    private int _skippedCount;
    private int _emptyCount;
    private int _nearDuplicateCount;
    private int _sourceFileCount;

    private TrainingData(DataOptions options, Tokenizer tokenizer, ChatTemplate template)
    {
        _options = options;
        _tokenizer = tokenizer;
        _endOfTextId = ChatSamples.RequireId(tokenizer, "<|endoftext|>");
        _chats = new Lazy<ChatSamples>(() => new ChatSamples(tokenizer, template));
        _code = new Lazy<CodeSamples>(() => new CodeSamples(tokenizer, options.Code, options.Seed));
    }

    // Throws BadRequestException naming file and line, what was expected and what was found.
    public static SampleSet Load(DataOptions options, Tokenizer tokenizer, ChatTemplate template, CancellationToken cancel = default)
    {
        var data = new TrainingData(options, tokenizer, template);
        var files = new DataFiles(options);
        List<Sample> heldOut = data.Convert(files.Read(options.HeldOutPaths), cancel);
        List<Sample> samples = data.Convert(files.Read(options.Paths), cancel);
        samples.AddRange(data.Convert(data.ReadCode(), cancel));
        var found = new SampleStatistics
        {
            SkippedCount = data._skippedCount,
            SkippedReasons = data._skippedReasons,
            EmptyCount = data._emptyCount,
            NearDuplicateCount = data._nearDuplicateCount,
        };
        return SampleSet.Create(samples, options.HeldOutFraction, options.Seed, heldOut, found);
    }

    private IEnumerable<DataItem> ReadCode()
    {
        // A tokenizer without the code tokens is no fault of a file.
        if (_options.CodeFolders.Count > 0)
            _ = _code.Value;
        var nearDuplicates = new NearDuplicates();
        foreach (string root in _options.CodeFolders)
        {
            var tree = new SourceTree(root, _options);
            int countBefore = _sourceFileCount;
            foreach ((string path, string fullPath, ReadOnlyMemory<byte> text) in tree.Files())
            {
                _sourceFileCount++;
                if (_options.Code.RemovesNearDuplicates && nearDuplicates.IsNearDuplicate(text.Span))
                    _nearDuplicateCount++;
                else
                    yield return new DataItem(DataItemKind.SourceFile, fullPath, text, Repository: tree.Name, Path: path);
            }

            if (_sourceFileCount == countBefore)
                throw new BadRequestException($"{root}: expected source files, found none that are text and not ignored.");
        }
    }

    private List<Sample> Convert(IEnumerable<DataItem> items, CancellationToken cancel)
    {
        var samples = new List<Sample>();
        var block = new List<DataItem>();
        long bytes = 0;
        foreach (DataItem item in items)
        {
            block.Add(item);
            bytes += item.Bytes.Length;
            if (block.Count == BlockItemCount || bytes >= BlockBytes)
            {
                ConvertBlock(block, samples, cancel);
                block.Clear();
                bytes = 0;
            }
        }

        ConvertBlock(block, samples, cancel);
        return samples;
    }

    private void ConvertBlock(List<DataItem> block, List<Sample> samples, CancellationToken cancel)
    {
        var results = new (IReadOnlyList<Sample> Samples, string? Fault)[block.Count];
        try
        {
            Parallel.For(0, block.Count, new ParallelOptions { CancellationToken = cancel }, i => results[i] = Convert(block[i]));
        }
        catch (AggregateException e)
        {
            // A template that cannot be used fails on many threads at once; one of them is enough to say so.
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }

        for (int i = 0; i < results.Length; i++)
        {
            if (results[i].Fault is { } fault)
                Skip($"{block[i].Source}: {fault}");
            else if (results[i].Samples.Count == 0)
                _emptyCount++;
            else
                samples.AddRange(results[i].Samples);
        }
    }

    private (IReadOnlyList<Sample> Samples, string? Fault) Convert(DataItem item)
    {
        if (item.Fault is not null)
            return ([], item.Fault);
        try
        {
            return (item.Kind switch
            {
                DataItemKind.JsonLine => FromLine(item),
                DataItemKind.SourceFile => _code.Value.ToSamples(item.Repository, item.Path, Encoding.UTF8.GetString(item.Bytes.Span), item.Source),
                _ => ToDocument(Encoding.UTF8.GetString(item.Bytes.Span), item.Source, item.Kind == DataItemKind.DocumentEnd),
            }, null);
        }
        catch (BadRequestException e)
        {
            return ([], e.Message);
        }
    }

    private IReadOnlyList<Sample> FromLine(DataItem item)
    {
        (Conversation? conversation, string? text) = ConversationJson.Read(item.Bytes);
        if (conversation is null)
            return ToDocument(text!, item.Source, isEnd: true);
        return _chats.Value.ToSample(conversation, _options.Loss, item.Source) is { } sample ? [sample] : [];
    }

    private IReadOnlyList<Sample> ToDocument(string text, string source, bool isEnd)
    {
        var tokens = new List<int>(text.Length / 3);
        _tokenizer.Encode(text, matchAddedTokens: false, tokens);
        if (isEnd && tokens.Count > 0)
            tokens.Add(_endOfTextId);
        return Sample.FromTokens([.. tokens], source) is { } sample ? [sample] : [];
    }

    private void Skip(string reason)
    {
        if (++_skippedCount > _options.SkippedItemLimit)
        {
            throw new BadRequestException(_skippedCount == 1
                ? reason
                : $"{_skippedCount} items cannot be used, more than the {_options.SkippedItemLimit} that may be passed over; the first: {_skippedReasons[0]}; the last: {reason}");
        }

        if (_skippedReasons.Count < ShownReasonCount)
            _skippedReasons.Add(reason);
    }
}
