namespace Qian.Inference.Constraint;

// The free text of a reply around what is constrained: thinking up to its end, and content in which a tool call may begin. Markers that the text
// quotes (in `inline code` on a line, in ``` fences) mean nothing, as the reader of replies has it.
internal static class ReplyText
{
    public const string CallOpener = "<tool_call>";

    private const string ThinkingEnd = "</think>";
    private const int InCode = 1, InFence = 2;

    private static readonly string[] s_contentMarkers =
    [
        CallOpener, "`", "\n", "\n```", "\n ```", "\n  ```", "\n   ```", "\n    ```", "\n~~~",
    ];

    // Thinking, its end, and the empty lines that follow it.
    public static Term Thinking { get; } = Term.Of(
        TextScan.Build([ThinkingEnd, "`", "\n"], 2, OnThinking, mayStop: false, before: "\n"),
        new Term.Repeat(new Term.Literal("\n"), 0, 2));

    // Content without any call.
    public static Term Content { get; } = TextScan.Build(s_contentMarkers, 4, (mode, marker) => OnContent(mode, marker, []), mayStop: true, before: "\n");

    // Content up to the opener of a call, which it includes.
    public static Term UpToCall { get; } = TextScan.Build(s_contentMarkers, 4, (mode, marker) => OnContent(mode, marker, [TextScan.End]), mayStop: false, before: "\n");

    private static int[] OnThinking(int mode, int marker) => marker switch
    {
        0 => mode == 0 ? [TextScan.End] : [mode],
        1 => [1 - mode],
        _ => [0],
    };

    private static int[] OnContent(int mode, int marker, int[] atCall) => marker switch
    {
        0 => mode == 0 ? atCall : [mode],
        1 => [(mode & InFence) != 0 ? mode : mode ^ InCode],
        2 => [mode & InFence],
        _ => [(mode & InFence) ^ InFence],
    };
}
