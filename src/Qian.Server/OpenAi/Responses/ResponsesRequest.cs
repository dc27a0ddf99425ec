using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Server.Replies;

namespace Qian.Server.OpenAi.Responses;

// A body of /v1/responses: the conversation that it stands for, and what a reply repeats of it.
internal sealed record ResponsesRequest
{
    public required ChatRequest Chat { get; init; }

    // The messages without the instructions, which hold for one response only: what a later response continues.
    public required IReadOnlyList<Message> History { get; init; }

    // The body, whose document lives as long as the request.
    public required JsonElement Body { get; init; }

    public string? PreviousId { get; init; }

    // Whether later requests may refer to the response.
    public bool IsStored { get; init; }

    public bool WithLogProbs { get; init; }
}
