namespace Qian.Inference.Chat.Output;

internal sealed partial class AssistantOutputParser
{
    // More openers in a row than this are no call.
    private const int MaxRepeatedOpeners = 8;

    private static readonly string[] s_functionBody = ["<parameter", "</function>", "</tool_call>", "{"];
    private static readonly string[] s_bareFunctionBody = ["<parameter", "</function>"];
    private static readonly string[] s_invokeBody = ["<parameter", "</invoke>", "</tool_call>"];
    private static readonly string[] s_bareInvokeBody = ["<parameter", "</invoke>"];

    private static readonly string[] s_surplusClosers =
        ["</parameter>", "</function>", "</function_invocation>", "</invoke>", "</function_calls>", "</tool_call>"];

    private ParsedToolCall? _call;
    private JsonScan _jsonScan = new(-1);

    // Whether the <tool_call> around the current call is still open.
    private bool _isBlockOpen;

    // Reads what follows the opener at _at and opens the call if it is one. No: the tag is text.
    private TagMatch OpenCall()
    {
        if (OutputTags.Match(Text, _at, "<tool_call>") == TagMatch.Yes)
        {
            return OpenWrapped();
        }

        int at = _at;
        TagMatch wrapper = OutputTags.Match(Text, at, "<function_calls>");
        at = wrapper == TagMatch.Yes ? OutputTags.SkipSpace(Text, at + "<function_calls>".Length) : at;
        if (at == _end)
        {
            return TagMatch.Partial;
        }

        TagMatch function = wrapper == TagMatch.Yes ? TagMatch.No : OpenFunction(at, "function", s_bareFunctionBody, isWrapped: false);
        if (function != TagMatch.No)
        {
            return function;
        }

        TagMatch invoke = OpenFunction(at, "invoke", s_bareInvokeBody, isWrapped: false);
        return invoke != TagMatch.No || wrapper == TagMatch.Yes ? invoke : OpenByParameterOfToolName(at);
    }

    private TagMatch OpenWrapped()
    {
        int at = _at;
        int openerCount = 0;
        while (OutputTags.Match(Text, at, "<tool_call>") == TagMatch.Yes && openerCount <= MaxRepeatedOpeners)
        {
            openerCount++;
            at = OutputTags.SkipSpace(Text, at + "<tool_call>".Length);
        }

        TagMatch opened = openerCount > MaxRepeatedOpeners ? TagMatch.No : OpenWrappedAt(at);
        if (opened == TagMatch.Partial && _isEnd)
        {
            // Cut before anything was said that could be reported; or a lone opener at the end of the turn.
            if (!_isCut && at < _end)
            {
                return TagMatch.No;
            }

            _isRepaired |= !_isCut;
            _at = _end;
            return TagMatch.Yes;
        }

        _isRepaired |= opened == TagMatch.Yes && openerCount > 1;
        return opened;
    }

    private TagMatch OpenWrappedAt(int at)
    {
        if (at == _end)
        {
            return TagMatch.Partial;
        }

        TagMatch empty = OutputTags.Match(Text, at, "</tool_call>");
        if (empty == TagMatch.Yes)
        {
            _isRepaired = true;
            _content.EndPiece();
            EnterAfterCall(at + "</tool_call>".Length, isBlockOpen: false);
            return TagMatch.Yes;
        }

        if (_chars[at] is '{' or '[')
        {
            return OpenJson(at);
        }

        TagMatch function = OpenFunction(at, "function", s_functionBody, isWrapped: true);
        TagMatch element = function == TagMatch.Yes ? function : OpenFunctionElement(at);
        TagMatch invoke = element == TagMatch.Yes ? element : OpenFunction(at, "invoke", s_invokeBody, isWrapped: true);
        if (invoke == TagMatch.Yes)
        {
            return invoke;
        }

        TagMatch parameter = OutputTags.ReadNamed(Text, at, "parameter", out _);
        if (parameter == TagMatch.Yes)
        {
            OpenNameless(at);
            return TagMatch.Yes;
        }

        TagMatch repeated = OutputTags.Match(Text, at, "<tool_call>");
        bool waits = empty == TagMatch.Partial || function == TagMatch.Partial || element == TagMatch.Partial
            || invoke == TagMatch.Partial || parameter == TagMatch.Partial || repeated == TagMatch.Partial;
        return waits ? TagMatch.Partial : TagMatch.No;
    }

    // <function=NAME> or <invoke name="NAME"> with a body behind it. Without <tool_call> and in foreign dialects only declared names count.
    private TagMatch OpenFunction(int at, string element, string[] body, bool isWrapped)
    {
        TagMatch match = OutputTags.ReadNamed(Text, at, element, out NamedTag tag);
        if (match != TagMatch.Yes)
        {
            return match;
        }

        bool isTemplateForm = isWrapped && element == "function";
        if (!isTemplateForm && !_tools.IsDeclared(tag.Name))
        {
            return TagMatch.No;
        }

        TagMatch follows = OutputTags.Follows(Text, tag.End, _isEnd, endsToo: isWrapped, body);
        if (follows != TagMatch.Yes)
        {
            return follows;
        }

        int next = OutputTags.SkipSpace(Text, tag.End);
        if (next < _end && _chars[next] == '{')
        {
            return OpenWithJsonArguments(tag.Name, next);
        }

        _isRepaired |= !isTemplateForm || !tag.IsTemplateForm;
        StartCall(tag.Name, tag.End, isWrapped);
        return TagMatch.Yes;
    }

    // <function>NAME</function> and a JSON object.
    private TagMatch OpenFunctionElement(int at)
    {
        TagMatch match = OutputTags.Match(Text, at, "<function>");
        if (match != TagMatch.Yes)
        {
            return match;
        }

        int start = at + "<function>".Length;
        int stop = Text[start..].IndexOfAny('<', '\n');
        if (stop is < 0 or > 200)
        {
            return stop < 0 && _end - start <= 200 ? TagMatch.Partial : TagMatch.No;
        }

        TagMatch closing = OutputTags.Match(Text, start + stop, "</function>");
        string name = Text.Slice(start, stop).Trim().ToString();
        if (closing != TagMatch.Yes || name.Length == 0)
        {
            return closing == TagMatch.Partial ? closing : TagMatch.No;
        }

        int next = OutputTags.SkipSpace(Text, start + stop + "</function>".Length);
        return next == _end ? TagMatch.Partial
            : _chars[next] == '{' ? OpenWithJsonArguments(name, next)
            : TagMatch.No;
    }

    private TagMatch OpenWithJsonArguments(string name, int at)
    {
        TagMatch found = ScanAt(at).FindEnd(Text, _isEnd, several: false, out int end, out char missing);
        if (found != TagMatch.Yes)
        {
            return WaitOrText(found);
        }

        string json = Text[at..end].ToString() + (missing == '\0' ? string.Empty : missing);
        if (ArgumentText.KindOf(json) != System.Text.Json.JsonValueKind.Object)
        {
            return _isCut && end == _end ? TagMatch.Partial : TagMatch.No;
        }

        AddWholeCall(name, json);
        EndJson(end);
        return TagMatch.Yes;
    }

    private TagMatch OpenJson(int at)
    {
        TagMatch found = ScanAt(at).FindEnd(Text, _isEnd, several: true, out int end, out _);
        if (found != TagMatch.Yes)
        {
            return WaitOrText(found);
        }

        List<JsonCall>? calls = JsonCalls.Read(Text[at..end].ToString(), _tools);
        if (calls is null || (_isCut && end == _end && _chars[end - 1] is not ('}' or ']')))
        {
            return _isCut && end == _end ? TagMatch.Partial : TagMatch.No;
        }

        foreach (JsonCall call in calls)
        {
            AddWholeCall(call.Name, call.ArgumentsJson);
        }

        EndJson(end);
        return TagMatch.Yes;
    }

    private JsonScan ScanAt(int at) => _jsonScan.Start == at ? _jsonScan : _jsonScan = new JsonScan(at);

    // JSON that the length limit cut is not reported and leaves no markup, so it stays undecided rather than become text.
    private TagMatch WaitOrText(TagMatch found) => found == TagMatch.No && _isEnd && _isCut ? TagMatch.Partial : found;

    private void EndJson(int end)
    {
        _isRepaired = true;
        int next = OutputTags.SkipSpace(Text, end);
        bool isSurplus = next < _end && _chars[next] is '}' or ']';
        EnterAfterCall(isSurplus ? next + 1 : end, isBlockOpen: true);
    }

    private void AddWholeCall(string name, string argumentsJson)
    {
        _content.EndPiece();
        BeginCall(name);
        AppendArguments(argumentsJson);
        CompleteCall(isClosedByTag: true);
    }

    // <parameter=TOOL> directly before the parameters of that tool.
    private TagMatch OpenByParameterOfToolName(int at)
    {
        TagMatch match = OutputTags.ReadNamed(Text, at, "parameter", out NamedTag tag);
        if (match != TagMatch.Yes)
        {
            return match;
        }

        if (!_tools.IsDeclared(tag.Name))
        {
            return TagMatch.No;
        }

        TagMatch follows = OutputTags.Follows(Text, tag.End, isEnd: false, endsToo: false, ["<parameter=", "<parameter "]);
        if (follows == TagMatch.Yes)
        {
            _isRepaired = true;
            StartCall(tag.Name, tag.End, isWrapped: false);
        }

        return follows;
    }

    private void StartCall(string name, int bodyAt, bool isWrapped)
    {
        _content.EndPiece();
        BeginCall(name);
        AppendArguments("{");
        _isBlockOpen = isWrapped;
        _at = bodyAt;
        _state = State.Body;
    }

    private void BeginCall(string name)
    {
        _call = new ParsedToolCall(name, _tools.IsDeclared(name));
        _calls.Add(_call);
        _events.Add(new OutputEvent(OutputEventKind.ToolCallStarted, name, _calls.Count - 1));
    }

    private void AppendArguments(string json)
    {
        if (json.Length > 0)
        {
            _call!.Append(json);
            _events.Add(new OutputEvent(OutputEventKind.ToolCallArguments, json, _calls.Count - 1));
        }
    }

    private void CompleteCall(bool isClosedByTag)
    {
        _call!.IsComplete = true;
        _call.IsClosedByTag = isClosedByTag;
        _call = null;
        _events.Add(new OutputEvent(OutputEventKind.ToolCallCompleted, string.Empty, _calls.Count - 1));
    }

    private void CloseFunction(int end, bool isClosedByTag = true)
    {
        AppendArguments("}");
        CompleteCall(isClosedByTag);
        EnterAfterCall(end, _isBlockOpen);
    }

    private void EnterAfterCall(int at, bool isBlockOpen)
    {
        _isBlockOpen = isBlockOpen;
        SkipMarkup(at);
        _state = State.AfterCall;
    }

    // Between the parameters of an open function.
    private bool StepBody()
    {
        int at = OutputTags.SkipSpace(Text, _at);
        if (at == _end)
        {
            return _isEnd && EndInBody();
        }

        TagMatch parameter = OutputTags.ReadNamed(Text, at, "parameter", out NamedTag tag);
        if (parameter == TagMatch.Yes)
        {
            OpenValue(tag);
            return true;
        }

        TagMatch surplus = OutputTags.Match(Text, at, "</parameter>");
        if (surplus == TagMatch.Yes)
        {
            _isRepaired = true;
            _at = at + "</parameter>".Length;
            return true;
        }

        TagMatch function = OutputTags.Match(Text, at, "</function>");
        TagMatch invoke = OutputTags.Match(Text, at, "</invoke>");
        if (function == TagMatch.Yes || invoke == TagMatch.Yes)
        {
            _isRepaired |= invoke == TagMatch.Yes;
            CloseFunction(at + (function == TagMatch.Yes ? "</function>" : "</invoke>").Length);
            return true;
        }

        TagMatch closer = OutputTags.Match(Text, at, "</tool_call>");
        TagMatch next = OutputTags.Follows(Text, at, isEnd: false, endsToo: false, ["<tool_call>", "<function=", "<function ", "<invoke "]);
        if (closer == TagMatch.Yes || next == TagMatch.Yes)
        {
            _isRepaired = true;
            CloseFunction(at);
            return true;
        }

        bool waits = parameter == TagMatch.Partial || surplus == TagMatch.Partial || function == TagMatch.Partial
            || invoke == TagMatch.Partial || closer == TagMatch.Partial || next == TagMatch.Partial;
        if (waits)
        {
            return _isEnd && EndInBody();
        }

        // Between parameters there should be nothing; what there is, is not lost.
        int stop = Text[(at + 1)..].IndexOf('<');
        if (stop < 0 && !_isEnd)
        {
            return false;
        }

        int textEnd = stop < 0 ? _end : at + 1 + stop;
        _isRepaired = true;
        _content.Append(Text[at..textEnd], _events);
        _content.EndPiece();
        _at = textEnd;
        return true;
    }

    // The text ended inside a call: cut off, or, at the end of a turn, meant.
    private bool EndInBody()
    {
        _at = _end;
        if (!_isCut)
        {
            _isRepaired = true;
            CloseFunction(_end, isClosedByTag: false);
        }

        _state = State.Done;
        return false;
    }

    // Behind a call: its closers, surplus ones, and what may follow directly.
    private bool StepAfterCall()
    {
        int at = OutputTags.SkipSpace(Text, _at);
        if (at == _end)
        {
            if (_isEnd)
            {
                _isRepaired |= _isBlockOpen && !_isCut;
                _state = State.Done;
            }

            return false;
        }

        foreach (string closer in s_surplusClosers)
        {
            if (OutputTags.Match(Text, at, closer) == TagMatch.Yes)
            {
                bool isOwn = closer == "</tool_call>" && _isBlockOpen;
                _isRepaired |= !isOwn;
                _isBlockOpen &= !isOwn;
                SkipMarkup(at + closer.Length);
                return true;
            }
        }

        if (OutputTags.Match(Text, at, "<tool_response>") == TagMatch.Yes)
        {
            // The model went on with a result of its own invention.
            _isRepaired = true;
            _at = _end;
            _state = State.Done;
            return false;
        }

        TagMatch further = TagMatch.No;
        if (_isBlockOpen)
        {
            further = OpenFunction(at, "function", s_functionBody, isWrapped: true);
            further = further == TagMatch.Yes ? further : Either(further, OpenFunction(at, "invoke", s_invokeBody, isWrapped: true));
            if (further == TagMatch.Yes)
            {
                _isRepaired = true;
                return true;
            }
        }

        TagMatch tail = Either(
            further,
            OutputTags.Follows(Text, at, isEnd: false, endsToo: false, [.. s_surplusClosers, "<tool_response>"]));
        if (tail == TagMatch.Partial && !_isEnd)
        {
            return false;
        }

        if (tail == TagMatch.Partial && _isBlockOpen)
        {
            // A cut-off tag inside the block.
            _isRepaired |= !_isCut;
            _state = State.Done;
            return false;
        }

        _isRepaired |= _isBlockOpen;
        _isBlockOpen = false;
        _state = State.Content;
        return true;
    }

    private static TagMatch Either(TagMatch first, TagMatch second) => first == TagMatch.No ? second : first;
}
