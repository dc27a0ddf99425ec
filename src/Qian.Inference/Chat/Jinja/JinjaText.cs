using System.Text;

namespace Qian.Inference.Chat.Jinja;

// A string that remembers which of its characters the template wrote itself and which came from the conversation. Only the former
// may become control tokens, so every string operation of the interpreter goes through this type and keeps the marks.
// The marks are run ends that alternate between the two origins; the usual string has one run and no array.
internal sealed class JinjaText
{
    private readonly int[]? _runEnds;
    private readonly bool _firstIsTemplate;

    public JinjaText(string value, bool isTemplate)
    {
        Value = value;
        _firstIsTemplate = isTemplate;
    }

    private JinjaText(string value, bool firstIsTemplate, int[]? runEnds)
    {
        Value = value;
        _firstIsTemplate = firstIsTemplate;
        _runEnds = runEnds;
    }

    public static JinjaText Empty { get; } = new(string.Empty, isTemplate: true);

    public string Value { get; }

    public int Length => Value.Length;

    public int RunCount => _runEnds?.Length ?? 1;

    public int RunEnd(int runIndex) => _runEnds is null ? Value.Length : _runEnds[runIndex];

    public bool RunIsTemplate(int runIndex) => _firstIsTemplate ^ ((runIndex & 1) != 0);

    public static JinjaText FromRuns(string value, bool firstIsTemplate, List<int> runEnds) =>
        new(value, firstIsTemplate, runEnds.Count > 1 ? runEnds.ToArray() : null);

    // The run that holds the character at this index.
    public int RunAt(int charIndex)
    {
        if (_runEnds is null)
        {
            return 0;
        }

        int found = Array.BinarySearch(_runEnds, charIndex + 1);
        return found >= 0 ? found : ~found;
    }

    public JinjaText Slice(int start, int length)
    {
        if (length <= 0)
        {
            return Empty;
        }

        if (length == Value.Length)
        {
            return this;
        }

        string value = Value.Substring(start, length);
        if (_runEnds is null)
        {
            return new JinjaText(value, _firstIsTemplate);
        }

        int firstRun = RunAt(start);
        int lastRun = RunAt(start + length - 1);
        if (firstRun == lastRun)
        {
            return new JinjaText(value, RunIsTemplate(firstRun));
        }

        var ends = new int[lastRun - firstRun + 1];
        for (int i = 0; i < ends.Length; i++)
        {
            ends[i] = Math.Min(_runEnds[firstRun + i] - start, length);
        }

        return new JinjaText(value, RunIsTemplate(firstRun), ends);
    }

    // A text of the same length, character for character, under the same marks.
    public JinjaText WithSameLength(string value) => new(value, _firstIsTemplate, _runEnds);

    public override string ToString() => Value;
}

// Concatenation that merges neighbours of one origin. It charges the budget for what it copies and enforces the length cap.
internal sealed class JinjaTextBuilder
{
    private readonly JinjaBudget _budget;
    private readonly StringBuilder _text = new();
    private readonly List<int> _runEnds = [];
    private bool _firstIsTemplate;
    private bool _lastIsTemplate;

    public JinjaTextBuilder(JinjaBudget budget)
    {
        _budget = budget;
    }

    public int Length => _text.Length;

    public void Append(ReadOnlySpan<char> value, bool isTemplate)
    {
        if (value.IsEmpty)
        {
            return;
        }

        if ((long)_text.Length + value.Length > _budget.Limits.OutputCharCount)
        {
            throw new TemplateException(
                TemplateFault.Limit,
                $"The template made a text of more than {_budget.Limits.OutputCharCount} characters.");
        }

        _budget.Chars(value.Length);
        _text.Append(value);
        if (_runEnds.Count == 0)
        {
            _firstIsTemplate = isTemplate;
            _runEnds.Add(_text.Length);
        }
        else if (isTemplate == _lastIsTemplate)
        {
            _runEnds[^1] = _text.Length;
        }
        else
        {
            _runEnds.Add(_text.Length);
        }

        _lastIsTemplate = isTemplate;
    }

    public void Append(JinjaText text) => Append(text, 0, text.Length);

    public void Append(JinjaText text, int start, int length)
    {
        int end = start + length;
        int runIndex = length == 0 ? 0 : text.RunAt(start);
        while (start < end)
        {
            int runEnd = Math.Min(text.RunEnd(runIndex), end);
            Append(text.Value.AsSpan(start, runEnd - start), text.RunIsTemplate(runIndex));
            start = runEnd;
            runIndex++;
        }
    }

    public JinjaText ToText() =>
        _text.Length == 0 ? JinjaText.Empty : JinjaText.FromRuns(_text.ToString(), _firstIsTemplate, _runEnds);
}
