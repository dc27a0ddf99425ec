namespace Qian.Inference.Formats;

// What a tensor is for, whatever its file calls it. Layer-less roles use layer -1; MTP tensors use layer = trunk layer count.
internal enum TensorRole
{
    TokenEmbedding,      // [vocabulary, hidden]
    OutputNorm,          // [hidden], final: 1 + w already
    Output,              // [vocabulary, hidden]; absent when tied

    InputNorm,           // [hidden], 1 + w
    PostAttentionNorm,   // [hidden], 1 + w; the pre-FFN norm

    AttentionQ,          // [heads * 2 * headDim, hidden]: per head query rows, then gate rows
    AttentionK,          // [kvHeads * headDim, hidden]
    AttentionV,          // [kvHeads * headDim, hidden]
    AttentionOutput,     // [hidden, heads * headDim]
    AttentionQNorm,      // [headDim], 1 + w
    AttentionKNorm,      // [headDim], 1 + w

    LinearQkv,           // [convChannels, hidden]
    LinearZ,             // [valueHeads * valueDim, hidden]
    LinearB,             // [valueHeads, hidden]
    LinearA,             // [valueHeads, hidden]
    LinearConv,          // [convChannels, kernel]
    LinearDecay,         // [valueHeads]: -exp(A_log)
    LinearDtBias,        // [valueHeads]
    LinearNorm,          // [valueDim], plain weight (no + 1)
    LinearOutput,        // [hidden, valueHeads * valueDim]

    FfnGate,             // [intermediate, hidden]
    FfnUp,               // [intermediate, hidden]
    FfnDown,             // [hidden, intermediate]

    RouterGate,          // [experts, hidden]
    ExpertGate,          // [expertIntermediate, hidden] of one expert
    ExpertUp,            // [expertIntermediate, hidden] of one expert
    ExpertDown,          // [hidden, expertIntermediate] of one expert
    SharedGate,          // [sharedIntermediate, hidden]
    SharedUp,            // [sharedIntermediate, hidden]
    SharedDown,          // [hidden, sharedIntermediate]
    SharedExpertGate,    // [1, hidden]

    MtpProjection,       // [hidden, 2 * hidden]: embedding half first
    MtpEmbeddingNorm,    // [hidden], 1 + w
    MtpHiddenNorm,       // [hidden], 1 + w
    MtpOutputNorm,       // [hidden], 1 + w
}
