namespace Qian.Inference.Chat.Output;

// Reads a reply as it is generated and tells reasoning, content and tool calls apart, tolerant of everything models have been seen to
// write. The rules, in the order in which they win: without tools there are no calls; a tag inside an open code span is text; reasoning
// runs to the first </think>; fenced code is text; then calls, first the template's form, then the other dialects.
//
// The trick is that the text is read by decisions which look ahead, and a decision that could still fall either way waits for more text
// (Step returns false). So nothing sent is ever taken back, and every split of the input gives the same result. Nothing here throws,
// whatever the text; what is not recognised is passed on as text. It knows no tokens, and the stop token never reaches it.
//
// This part holds the text and reads reasoning and content. Calls: how a call opens, goes on and ends. Values: where a parameter's
// value ends. Drafts: text that may turn out to be calls only when the reply is over.
internal sealed partial class AssistantOutputParser
{
    private readonly ToolSchemas _tools;
    private readonly bool _isNested;
    private readonly List<OutputEvent> _events = [];
    private readonly OutputText _reasoning = new(OutputEventKind.Reasoning);
    private readonly OutputText _content = new(OutputEventKind.Content);
    private readonly List<ParsedToolCall> _calls = [];

    private State _state;
    private char[] _chars = new char[256];
    private int _length;

    // How much of the text may be looked at: all but half a surrogate pair at its end.
    private int _end;
    private int _at;
    private bool _isEnd;
    private bool _isCut;
    private bool _isRepaired;

    // Of the line being read: where it starts, and how many backticks it has had so far.
    private int _lineStart;
    private int _backtickCount;
    private bool _hasTextSinceMarkup;
    private bool _isStartOfReply = true;

    // A place already found to be plain text, where no tag is looked for again.
    private int _plainAt = -1;

    // thinks: the prompt ended inside the think block. tools: those of the request; null or empty where no call may be made.
    public AssistantOutputParser(IReadOnlyList<ToolDefinition>? tools, bool thinks)
        : this(new ToolSchemas(tools), thinks, isNested: false)
    {
    }

    private AssistantOutputParser(ToolSchemas tools, bool thinks, bool isNested)
    {
        _tools = tools;
        _isNested = isNested;
        _state = thinks ? State.Reasoning : State.Content;
    }

    private enum State
    {
        Reasoning,

        // Inside reasoning, in what may be the calls that end the reply.
        Draft,

        // Behind such calls and </think>: white space alone keeps them calls.
        DraftClosed,
        Content,
        Fence,

        // In a fence that began with a call, and behind it.
        FencedCalls,
        FencedCallsClosed,

        // In parameters without a function, whose tool is known only when all of them are.
        NamelessCall,
        Body,
        Value,
        AfterCall,
        Done,
    }

    // The reply so far; final after Finish.
    public AssistantOutput Output => new(
        _reasoning.ToString(),
        _content.ToString(),
        _calls,
        _isCut ? "length" : _calls.Count > 0 ? "tool_calls" : "stop",
        _isRepaired);

    // Whether what comes next is thinking, as far as the text so far tells.
    public bool IsReasoning => _state is State.Reasoning or State.Draft;

    private ReadOnlySpan<char> Text => _chars.AsSpan(0, _end);

    private bool IsInCodeSpan => (_backtickCount & 1) != 0;

    // Takes more of the reply. The events are valid until the next call.
    public IReadOnlyList<OutputEvent> Feed(ReadOnlySpan<char> delta)
    {
        _events.Clear();
        if (_length + delta.Length > _chars.Length)
        {
            Array.Resize(ref _chars, Math.Max(_length + delta.Length, _chars.Length * 2));
        }

        delta.CopyTo(_chars.AsSpan(_length));
        _length += delta.Length;
        _end = _length > 0 && char.IsHighSurrogate(_chars[_length - 1]) ? _length - 1 : _length;
        Run();
        return _events;
    }

    // The reply is over. isCut: by a length limit, so that what is open is incomplete rather than meant.
    public IReadOnlyList<OutputEvent> Finish(bool isCut)
    {
        _events.Clear();
        _isEnd = true;
        _isCut = isCut;
        _end = _length;
        Run();
        return _events;
    }

    private void Run()
    {
        while (_state != State.Done && Step())
        {
        }
    }

    // One decision. False when it takes more text.
    private bool Step() => _state switch
    {
        State.Reasoning => StepReasoning(),
        State.Draft => StepDraft(),
        State.DraftClosed => StepDraftClosed(),
        State.Content => StepContent(),
        State.Fence => StepFence(),
        State.FencedCalls => StepFencedCalls(),
        State.FencedCallsClosed => StepFencedCallsClosed(),
        State.NamelessCall => StepNamelessCall(),
        State.Body => StepBody(),
        State.Value => StepValue(),
        State.AfterCall => StepAfterCall(),
        _ => false,
    };

    private bool StepReasoning()
    {
        if (_at == _end)
        {
            if (_isEnd)
            {
                // Thinking that the model itself never closed; cut by the limit it is no fault.
                _isRepaired |= !_isCut;
                _state = State.Done;
            }

            return false;
        }

        if (_chars[_at] != '<' || _at == _plainAt || IsInCodeSpan)
        {
            TakeText(_reasoning);
            return true;
        }

        TagMatch closing = OutputTags.Match(Text, _at, "</think>");
        TagMatch opening = _isStartOfReply ? OutputTags.Match(Text, _at, "<think>") : TagMatch.No;
        if (closing == TagMatch.Yes)
        {
            _reasoning.EndPiece();
            SkipMarkup(_at + "</think>".Length);
            _state = State.Content;
            return true;
        }

        if (opening == TagMatch.Yes)
        {
            // The prompt's own opener, repeated.
            _isRepaired = true;
            _isStartOfReply = false;
            SkipMarkup(_at + "<think>".Length);
            return true;
        }

        TagMatch call = MayOpenCall();
        if (call == TagMatch.Yes)
        {
            OpenDraft();
            return true;
        }

        bool waits = closing == TagMatch.Partial || opening == TagMatch.Partial || call == TagMatch.Partial;
        return TakePlain(waits);
    }

    private bool StepContent()
    {
        if (_at == _end)
        {
            _state = _isEnd ? State.Done : _state;
            return false;
        }

        if (_at == _lineStart && _at != _plainAt)
        {
            TagMatch fence = MatchFence(out int openedEnd);
            if (fence == TagMatch.Yes)
            {
                return OpenFence(openedEnd);
            }

            if (fence == TagMatch.Partial)
            {
                return false;
            }
        }

        if (_chars[_at] != '<' || _at == _plainAt || IsInCodeSpan)
        {
            TakeText(_content);
            return true;
        }

        TagMatch closing = OutputTags.Match(Text, _at, "</think>");
        TagMatch opening = _hasTextSinceMarkup ? TagMatch.No : OutputTags.Match(Text, _at, "<think>");
        if (closing == TagMatch.Yes)
        {
            _isRepaired = true;
            _content.EndPiece();
            SkipMarkup(_at + "</think>".Length);
            return true;
        }

        if (opening == TagMatch.Yes)
        {
            _isRepaired = true;
            _content.EndPiece();
            _reasoning.EndPiece();
            SkipMarkup(_at + "<think>".Length);
            _isStartOfReply = false;
            _state = State.Reasoning;
            return true;
        }

        TagMatch call = MayOpenCall();
        if (call == TagMatch.Yes)
        {
            call = OpenCall();
            if (call == TagMatch.Yes)
            {
                return true;
            }
        }

        bool waits = closing == TagMatch.Partial || opening == TagMatch.Partial || call == TagMatch.Partial;
        return TakePlain(waits);
    }

    // The '<' here opens nothing, unless more text may change that.
    private bool TakePlain(bool waits)
    {
        if (waits && !_isEnd)
        {
            return false;
        }

        _plainAt = _at;
        return true;
    }

    // Text up to the next place where a decision is due: a '<' or a new line.
    private void TakeText(OutputText output)
    {
        int start = _at;
        do
        {
            char c = _chars[_at++];
            if (c == '\n')
            {
                StartLine();
                break;
            }

            _backtickCount += c == '`' ? 1 : 0;
            if (!Jinja.PythonText.IsSpace(c))
            {
                _hasTextSinceMarkup = true;
                _isStartOfReply = false;
            }
        }
        while (_at < _end && _chars[_at] != '<');

        output.Append(Text[start.._at], _events);
    }

    private void StartLine()
    {
        _lineStart = _at;
        _backtickCount = 0;
    }

    private void SkipMarkup(int end)
    {
        _at = end;
        _hasTextSinceMarkup = false;
        StartLine();
    }

    // Whether a call may open here. Only the tag is looked at; what follows it decides.
    private TagMatch MayOpenCall()
    {
        if (_tools.IsEmpty)
        {
            return TagMatch.No;
        }

        TagMatch wrapped = OutputTags.Match(Text, _at, "<tool_call>");
        if (wrapped != TagMatch.No || (_at != _lineStart && _hasTextSinceMarkup))
        {
            return wrapped;
        }

        return OutputTags.Follows(
            Text, _at, isEnd: false, endsToo: false, ["<function=", "<function ", "<function_calls>", "<invoke ", "<invoke=", "<parameter=", "<parameter "]);
    }
}
