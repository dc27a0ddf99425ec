using Qian.Server.Http;

namespace Qian.Server.Replies;

// How a dialect spells a reply that flows. One per request.
internal interface IReplyWriter
{
    // The first event, when there is one before any piece.
    void Begin();

    // Events of one piece; the caller sends them.
    void Write(in ReplyPiece piece);

    // A sign of life while nothing comes, beside the comment that the caller sends.
    void Wait();

    // The last events, after all choices have ended.
    ValueTask EndAsync(ReplyUsage usage);

    // The reply breaks off.
    ValueTask FailAsync(RequestFault fault);
}
