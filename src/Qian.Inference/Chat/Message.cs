using System.Text.Json;

namespace Qian.Inference.Chat;

/// <summary>The values of <see cref="Message.Role"/>.</summary>
public static class MessageRole
{
    /// <summary>Instructions ahead of the conversation.</summary>
    public const string System = "system";

    /// <summary>OpenAI's later name for <see cref="System"/>.</summary>
    public const string Developer = "developer";

    /// <summary>What the user says.</summary>
    public const string User = "user";

    /// <summary>What the model said.</summary>
    public const string Assistant = "assistant";

    /// <summary>The result of a tool call.</summary>
    public const string Tool = "tool";
}

/// <summary>What a <see cref="ContentPart"/> holds.</summary>
public enum ContentKind
{
    /// <summary>Text.</summary>
    Text,

    /// <summary>An image, given by its location.</summary>
    Image,

    /// <summary>A video, given by its location.</summary>
    Video,
}

/// <summary>One piece of a message: text, or the place of an image or a video.</summary>
/// <param name="Kind">What the piece is.</param>
/// <param name="Text">The text of a text part; empty otherwise.</param>
/// <param name="Location">A data URI, file path or URL of an image or a video; null for text.</param>
public sealed record ContentPart(ContentKind Kind, string Text, string? Location = null)
{
    /// <summary>A part of text.</summary>
    /// <param name="text">The text.</param>
    /// <returns>The part.</returns>
    public static ContentPart FromText(string text) => new(ContentKind.Text, text);

    /// <summary>A part that stands for an image.</summary>
    /// <param name="location">A data URI, file path or URL.</param>
    /// <returns>The part.</returns>
    public static ContentPart FromImage(string? location) => new(ContentKind.Image, string.Empty, location);

    /// <summary>A part that stands for a video.</summary>
    /// <param name="location">A data URI, file path or URL.</param>
    /// <returns>The part.</returns>
    public static ContentPart FromVideo(string? location) => new(ContentKind.Video, string.Empty, location);
}

/// <summary>A call that the model made.</summary>
/// <param name="Id">What the result refers to by <see cref="Message.ToolCallId"/>; may be empty.</param>
/// <param name="Name">The tool's name.</param>
/// <param name="Arguments">The arguments: a JSON object, or a JSON string that holds one, as OpenAI's API sends it.</param>
public sealed record ToolCall(string Id, string Name, JsonElement Arguments);

/// <summary>One message of a conversation.</summary>
/// <param name="Role">One of <see cref="MessageRole"/>.</param>
/// <param name="Content">The pieces in order, rendered without separators; empty where a message has none.</param>
public sealed record Message(string Role, IReadOnlyList<ContentPart> Content)
{
    /// <summary>Creates a message of plain text.</summary>
    /// <param name="role">One of <see cref="MessageRole"/>.</param>
    /// <param name="text">The text.</param>
    public Message(string role, string text)
        : this(role, [ContentPart.FromText(text)])
    {
    }

    /// <summary>What an assistant thought before it answered; null when not known apart from the content.</summary>
    public string? ReasoningContent { get; init; }

    /// <summary>The calls of an assistant turn, in order.</summary>
    public IReadOnlyList<ToolCall> ToolCalls { get; init; } = [];

    /// <summary>Of a tool message: the call that this is the result of.</summary>
    public string? ToolCallId { get; init; }

    /// <summary>The name of the speaker or of the tool, for templates that print it.</summary>
    public string? Name { get; init; }

    /// <summary>All text parts, joined.</summary>
    public string Text => string.Concat(Content.Select(part => part.Text));
}
