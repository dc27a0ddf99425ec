using System.Text;
using Qian.Inference.Chat.Jinja;

namespace Qian.Inference.Chat.Output;

// Reasoning or content of a reply, cleaned as it streams: trimmed at both ends of each piece, pieces joined by one blank line. White
// space is held until text follows it, so nothing that was sent ever has to be taken back. White space is what the template trims.
internal sealed class OutputText
{
    private readonly OutputEventKind _kind;
    private readonly StringBuilder _sent = new();
    private readonly StringBuilder _heldSpace = new();
    private bool _hasPiece;

    public OutputText(OutputEventKind kind)
    {
        _kind = kind;
    }

    public bool IsEmpty => _sent.Length == 0;

    public override string ToString() => _sent.ToString();

    public void Append(ReadOnlySpan<char> text, List<OutputEvent> events)
    {
        int start = 0;
        while (!_hasPiece && start < text.Length && PythonText.IsSpace(text[start]))
        {
            start++;
        }

        int end = text.Length;
        while (end > start && PythonText.IsSpace(text[end - 1]))
        {
            end--;
        }

        if (end > start)
        {
            string separator = !_hasPiece && _sent.Length > 0 ? "\n\n" : string.Empty;
            string addition = string.Concat(separator, _heldSpace.ToString(), text[start..end]);
            _heldSpace.Clear();
            _hasPiece = true;
            _sent.Append(addition);
            events.Add(new OutputEvent(_kind, addition));
        }

        if (_hasPiece)
        {
            _heldSpace.Append(text[end..]);
        }
    }

    // Markup was removed here: what follows is another piece.
    public void EndPiece()
    {
        _heldSpace.Clear();
        _hasPiece = false;
    }
}
