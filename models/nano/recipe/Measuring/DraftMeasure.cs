using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Model;
using Qian.Kernels;

namespace Qian.Nano;

// How often the MTP head's drafts are what the model itself says next, along its own greedy answers. At each token of an answer the
// head drafts one token, and from its own draft a second; the second counts when both are right.
internal static class DraftMeasure
{
    public static IReadOnlyList<Score> Run(string path, WeightType? type, IReadOnlyList<Reply> replies)
    {
        var options = new EngineOptions { LoadMtp = true, LoadAs = type, MaxBatchRows = 1024 };
        using LoadedModel model = LoadedModel.Load(Checkpoint.Open(path), options, contextLength: 1024, maxBlocks: 64);
        if (!model.Network.HasMtp)
            return [new Score("first draft accepted", 0, 0, "no MTP head"), new Score("second draft accepted", 0, 0, "no MTP head")];
        using var drafts = new Drafts(model);
        foreach (Reply reply in replies.Where(reply => reply.Tokens.Length <= 1000 && reply.Tokens.Length - reply.PromptCount >= 3))
            drafts.Follow(reply.Tokens, reply.PromptCount);
        return [new Score("first draft accepted", drafts.First, drafts.Count), new Score("second draft accepted", drafts.Second, drafts.Count, "with the first")];
    }

    private sealed class Drafts(LoadedModel model) : IDisposable
    {
        private readonly ForwardBatch _batch = new(model.Network.MaxRows);
        private readonly NativeBuffer _hidden = NativeBuffer.AllocateFloats((long)model.Network.MaxRows * model.Config.HiddenSize);
        private readonly NativeBuffer _logits = NativeBuffer.AllocateFloats(model.Config.VocabularySize);

        public int Count { get; private set; }

        public int First { get; private set; }

        public int Second { get; private set; }

        public void Follow(int[] tokens, int promptCount)
        {
            int width = model.Config.HiddenSize;
            using SequenceState sequence = model.NewSequence();
            if (!sequence.TryReserve(tokens.Length + 2))
                throw new InvalidOperationException("the KV pool of the measurement is too small");
            _batch.Clear();
            _batch.Add(sequence, tokens);
            model.Network.Forward(_batch);
            _hidden.AllFloats.Slice(0, (long)tokens.Length * width).CopyFrom(model.Network.Hidden.Slice(0, (long)tokens.Length * width));

            // The head reads the prompt as it would while serving.
            Pass(sequence, 0, tokens.AsSpan(1, promptCount - 1), _hidden.Floats(0, (long)(promptCount - 1) * width));
            for (int i = promptCount - 1; i + 3 < tokens.Length; i++)
            {
                int first = Draft(sequence, i, tokens[i + 1], _hidden.Floats((long)i * width, width));
                Count++;
                if (first != tokens[i + 2])
                    continue;
                First++;
                // Entry i + 1, made from the head's own row here, is made anew from the trunk's in the next turn.
                if (Draft(sequence, i + 1, first, model.Network.MtpHidden.Slice(0, width)) == tokens[i + 3])
                    Second++;
            }
        }

        public void Dispose()
        {
            _hidden.Dispose();
            _logits.Dispose();
        }

        private int Draft(SequenceState sequence, int index, int token, FloatView hidden)
        {
            Pass(sequence, index, [token], hidden);
            model.Network.MtpLogits([0], _logits.AllFloats);
            return Qian.Inference.Verification.Compare.ArgMax(_logits.AllFloats.Span);
        }

        private void Pass(SequenceState sequence, int firstIndex, ReadOnlySpan<int> nextTokens, FloatView hidden)
        {
            _batch.Clear();
            _batch.AddMtp(sequence, firstIndex, nextTokens);
            model.Network.MtpForward(_batch, hidden);
        }
    }
}
