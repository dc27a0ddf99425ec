using Qian.Inference;
using Qian.Inference.Formats;

namespace Qian.Weights;

// The tokenizer of a made-up model: a made-up vocabulary of full size, or one taken from a file and padded to the model's rows.
internal static class SynthTokenizer
{
    // Rows that are no tokens, at the end of the published vocabulary of 248,320; smaller ones get their share.
    private const int PublishedRowCount = 248320;
    private const int PublishedPaddingCount = 243;

    public static TokenizerSpec Resolve(SynthRequest request)
    {
        if (request.TokenizerPath is { } path)
        {
            TokenizerSpec given = Read(path);
            int wanted = request.VocabularySize ?? Math.Max(request.Shape.VocabularySize, given.RowCount);
            return Padded(given, wanted, path);
        }

        int rowCount = request.VocabularySize ?? request.Shape.VocabularySize;
        int paddingCount = (int)((long)PublishedPaddingCount * rowCount / PublishedRowCount);
        if (rowCount - paddingCount < SyntheticVocabulary.MinRowCount || rowCount > TokenizerSpec.MaxRowCount)
            throw new BadRequestException($"a vocabulary of {rowCount} rows cannot be made up; {SyntheticVocabulary.MinRowCount} to {TokenizerSpec.MaxRowCount} can");
        return SyntheticVocabulary.Create(rowCount, paddingCount);
    }

    private static TokenizerSpec Read(string path)
    {
        if (Directory.Exists(path))
            return HuggingFaceTokenizer.ReadFolder(path);
        if (!File.Exists(path))
            throw new BadRequestException($"--tokenizer {path}: no such file");
        if (path.EndsWith(".gguf", StringComparison.OrdinalIgnoreCase))
            return ReadGguf(path);
        string config = Path.Combine(Path.GetDirectoryName(path) ?? "", "tokenizer_config.json");
        return HuggingFaceTokenizer.ReadTokenizerJson(File.ReadAllBytes(path), File.Exists(config) ? File.ReadAllBytes(config) : null);
    }

    private static TokenizerSpec ReadGguf(string path)
    {
        using Checkpoint checkpoint = Checkpoint.Open(path);
        return checkpoint.LoadTokenizer() ?? throw new BadRequestException($"--tokenizer {path}: this file holds no tokenizer");
    }

    private static TokenizerSpec Padded(TokenizerSpec given, int rowCount, string path)
    {
        if (rowCount == given.RowCount)
            return given;
        if (rowCount < given.RowCount || rowCount > TokenizerSpec.MaxRowCount)
            throw new BadRequestException($"{path} has {given.RowCount} tokens; a vocabulary of {rowCount} rows cannot hold them, or is above {TokenizerSpec.MaxRowCount}");
        string?[] pieces = given.Pieces;
        Array.Resize(ref pieces, rowCount);
        return new TokenizerSpec(pieces, given.Merges, given.AddedTokens, given.PreTokenizer)
        {
            NormalizesToNfc = given.NormalizesToNfc,
            EosId = given.EosId,
            PaddingId = given.PaddingId,
            BosId = given.BosId,
        };
    }
}
