using System.Runtime.InteropServices;
using System.Text;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Kernels;

namespace Qian.Weights;

// The reference's predictions on disk, so that it need not be in memory together with the candidate. Little-endian:
//   "QNLG", version, vocabulary, piece length, token count, the tokens, length and UTF-8 of the model's name; then per scored
//   token, in order: kept count, rest mass (double), log-probability of the token that came (float), kept ids, their
//   log-probabilities (float). About 8 bytes per kept token; a sharp model keeps some hundreds.
internal static class LogitsFile
{
    public const uint Version = 1;
    private const int LongestName = 4096;
    private const int MostTokens = 1 << 28;

    internal sealed class Writer : IDisposable
    {
        private readonly PartialFile _file;

        public Writer(string path, TextPieces text, int vocabularySize, string modelName)
        {
            _file = new PartialFile(path);
            byte[] name = Encoding.UTF8.GetBytes(modelName);
            _file.Write("QNLG"u8);
            Put(Version, (uint)vocabularySize, (uint)text.PieceTokens, (uint)text.Tokens.Length);
            _file.Write(MemoryMarshal.AsBytes<int>(text.Tokens));
            Put((uint)name.Length);
            _file.Write(name);
        }

        public void Add(KeptPrediction row)
        {
            Put((uint)row.Ids.Length);
            _file.Write(BitConverter.GetBytes(row.RestMass));
            _file.Write(BitConverter.GetBytes(row.TargetLogProb));
            _file.Write(MemoryMarshal.AsBytes<int>(row.Ids));
            _file.Write(MemoryMarshal.AsBytes<float>(row.LogProbs));
        }

        public void Complete() => _file.Commit();

        public void Dispose() => _file.Dispose();

        private void Put(params ReadOnlySpan<uint> values) => _file.Write(MemoryMarshal.AsBytes(values));
    }

    internal sealed class Reader : IDisposable
    {
        private readonly MappedFile _file;
        private HeaderCursor _cursor;

        public Reader(string path)
        {
            if (!File.Exists(path))
                throw new BadModelFileException($"{path}: no such file.");
            _file = MappedFile.Open(path);
            try
            {
                _cursor = new HeaderCursor(_file.View(0, _file.Length), path);
                if (!_cursor.Bytes(4, "the first bytes").SequenceEqual("QNLG"u8))
                    throw new BadModelFileException($"{path}: these are no saved logits (made by quality --save-logits).");
                uint version = _cursor.UInt32("the version");
                if (version != Version)
                    throw new BadModelFileException($"{path}: version {version} of saved logits; this program reads {Version}.");
                VocabularySize = Number("the vocabulary", TokenComparison.TopCount, ModelConfigChecks.MostVocabulary);
                int pieceTokens = Number("the piece length", TextPieces.FewestTokens, QualityRequest.MostPieceTokens);
                int tokenCount = Number("the token count", TextPieces.FewestTokens, MostTokens);
                int[] tokens = MemoryMarshal.Cast<byte, int>(_cursor.Bytes(checked(tokenCount * sizeof(int)), "the tokens")).ToArray();
                foreach (int token in tokens)
                {
                    if ((uint)token >= (uint)VocabularySize)
                        throw _cursor.Error($"token {token} is not in the vocabulary of {VocabularySize}");
                }

                Text = new TextPieces(tokens, pieceTokens);
                ModelName = Encoding.UTF8.GetString(_cursor.Bytes(Number("the length of the name", 0, LongestName), "the name"));
            }
            catch
            {
                _file.Dispose();
                throw;
            }
        }

        public int VocabularySize { get; }

        public TextPieces Text { get; }

        public string ModelName { get; }

        public KeptPrediction Next()
        {
            int count = Number("the kept count", TokenComparison.TopCount, Math.Min(KeptPrediction.MostKept, VocabularySize));
            double rest = BitConverter.ToDouble(_cursor.Bytes(sizeof(double), "the rest mass"));
            float target = BitConverter.ToSingle(_cursor.Bytes(sizeof(float), "a log-probability"));
            int[] ids = MemoryMarshal.Cast<byte, int>(_cursor.Bytes(count * sizeof(int), "kept ids")).ToArray();
            float[] logProbs = MemoryMarshal.Cast<byte, float>(_cursor.Bytes(count * sizeof(float), "kept log-probabilities")).ToArray();
            foreach (int id in ids)
            {
                if ((uint)id >= (uint)VocabularySize)
                    throw _cursor.Error($"id {id} is not in the vocabulary of {VocabularySize}");
            }

            foreach (float logProb in (ReadOnlySpan<float>)[target, .. logProbs])
            {
                if (!(logProb <= 1e-3f && float.IsFinite(logProb)))
                    throw _cursor.Error($"a log-probability of {logProb}");
            }

            return rest is >= 0 and <= 1 ? new KeptPrediction(ids, logProbs, rest, target) : throw _cursor.Error($"a rest mass of {rest}");
        }

        public void Dispose() => _file.Dispose();

        private int Number(string what, int least, int most)
        {
            uint value = _cursor.UInt32(what);
            return value >= least && value <= most ? (int)value : throw _cursor.Error($"{what} is {value}, between {least} and {most} expected; the file is damaged");
        }
    }
}
