namespace Qian.Inference.Chat.Output;

// Text that is calls or not depending on what ends the reply: calls inside thinking, and a fence that begins with a call. A second
// parser reads it on the side. If that one meets anything but calls of declared tools, the text is released as text; if the reply ends
// first, its calls are the reply's.
internal sealed partial class AssistantOutputParser
{
    private AssistantOutputParser? _nested;
    private int _nestedStart;
    private int _nestedFed;
    private int _nestedBacktickCount;
    private char _fenceChar;
    private int _fenceLength;
    private int _fenceBodyAt;

    // Whether a nested parser has met something other than calls of declared tools.
    private bool HasOtherThanCalls =>
        !_content.IsEmpty || !_reasoning.IsEmpty || _calls.Exists(call => !call.IsDeclared);

    private bool HasOnlyWholeCalls =>
        !HasOtherThanCalls && _calls.Count > 0 && _calls.TrueForAll(call => call.IsComplete && call.IsClosedByTag);

    private bool IsBetweenCalls => _state is State.Content or State.AfterCall;

    private void OpenDraft()
    {
        OpenNested(_at);
        _nestedBacktickCount = _backtickCount;
        _state = State.Draft;
    }

    private void OpenNested(int at)
    {
        _nested = new AssistantOutputParser(_tools, thinks: false, isNested: true);
        _nestedStart = _at;
        _nestedFed = at;
    }

    private void FeedNested(int end)
    {
        _nested!.Feed(Text[_nestedFed..end]);
        _nestedFed = end;
    }

    private bool StepDraft()
    {
        int at = _nestedFed;
        while (at < _end)
        {
            char c = _chars[at];
            _nestedBacktickCount = c == '\n' ? 0 : c == '`' ? _nestedBacktickCount + 1 : _nestedBacktickCount;
            if (c == '<' && (_nestedBacktickCount & 1) == 0)
            {
                TagMatch closing = OutputTags.Match(Text, at, "</think>");
                if (closing == TagMatch.Yes)
                {
                    FeedNested(at);
                    _nested!.Finish(isCut: false);
                    _nestedFed = at + "</think>".Length;
                    _state = State.DraftClosed;
                    return _nested.HasOnlyWholeCalls || ReleaseDraft();
                }

                if (closing == TagMatch.Partial && !_isEnd)
                {
                    break;
                }
            }

            at++;
        }

        FeedNested(at);
        if (_nested!.HasOtherThanCalls)
        {
            return ReleaseDraft();
        }

        if (!_isEnd)
        {
            return false;
        }

        _nested.Finish(isCut: false);
        return _nested.HasOnlyWholeCalls ? AcceptNested() : ReleaseDraft();
    }

    private bool StepDraftClosed()
    {
        int at = OutputTags.SkipSpace(Text, _nestedFed);
        if (at < _end)
        {
            return ReleaseDraft();
        }

        return _isEnd && AcceptNested();
    }

    // Reasoning after all; the opener is not looked at again.
    private bool ReleaseDraft()
    {
        _nested = null;
        _plainAt = _at;
        _state = State.Reasoning;
        return true;
    }

    private bool AcceptNested()
    {
        _isRepaired = true;
        foreach (ParsedToolCall call in _nested!._calls)
        {
            AddWholeCall(call.Name, call.ArgumentsText);
        }

        _at = _end;
        _state = State.Done;
        return false;
    }

    // A fence opens at the start of a line, with at most three spaces before it. Partial: the line goes on.
    private TagMatch MatchFence(out int end)
    {
        end = _at;
        int at = _at;
        while (at < _end && at - _at < 3 && _chars[at] == ' ')
        {
            at++;
        }

        int start = at;
        while (at < _end && _chars[at] is '`' or '~' && _chars[at] == _chars[start])
        {
            at++;
        }

        if (at - start < 3)
        {
            return at == _end && !_isEnd ? TagMatch.Partial : TagMatch.No;
        }

        int stop = Text[at..].IndexOf('\n');
        ReadOnlySpan<char> info = stop < 0 ? Text[at..] : Text.Slice(at, stop);
        if (_chars[start] == '`' && info.Contains('`'))
        {
            return TagMatch.No;
        }

        if (stop < 0 && !_isEnd)
        {
            return TagMatch.Partial;
        }

        _fenceChar = _chars[start];
        _fenceLength = at - start;
        end = stop < 0 ? _end : at + stop + 1;
        return TagMatch.Yes;
    }

    // False when it takes more text to see whether the fence begins with a call.
    private bool OpenFence(int bodyAt)
    {
        TagMatch call = _tools.IsEmpty || _isNested ? TagMatch.No : OutputTags.Follows(Text, bodyAt, isEnd: false, endsToo: false, ["<tool_call>"]);
        if (call == TagMatch.Partial && !_isEnd)
        {
            return false;
        }

        _fenceBodyAt = bodyAt;
        if (call == TagMatch.Yes)
        {
            OpenNested(bodyAt);
            _state = State.FencedCalls;
        }
        else
        {
            OpenPlainFence();
        }

        return true;
    }

    private void OpenPlainFence()
    {
        _nested = null;
        _content.Append(Text[_at.._fenceBodyAt], _events);
        _hasTextSinceMarkup = true;
        _isStartOfReply = false;
        _at = _fenceBodyAt;
        StartLine();
        _state = State.Fence;
    }

    // Inside a fence all is text up to the line that closes it.
    private bool StepFence()
    {
        if (_at == _end)
        {
            _state = _isEnd ? State.Done : _state;
            return false;
        }

        TagMatch closer = _at == _lineStart ? MatchFenceCloser(_at) : TagMatch.No;
        if (closer == TagMatch.Partial && !_isEnd)
        {
            return false;
        }

        int stop = Text[_at..].IndexOf('\n');
        int end = stop < 0 ? _end : _at + stop + 1;
        _content.Append(Text[_at..end], _events);
        _at = end;
        if (stop >= 0)
        {
            StartLine();
            _state = closer == TagMatch.Yes ? State.Content : _state;
        }

        return true;
    }

    // A line of at least as many fence characters and nothing else.
    private TagMatch MatchFenceCloser(int lineAt)
    {
        int at = lineAt;
        while (at < _end && at - lineAt < 3 && _chars[at] == ' ')
        {
            at++;
        }

        int start = at;
        while (at < _end && _chars[at] == _fenceChar)
        {
            at++;
        }

        int count = at - start;
        while (at < _end && count >= _fenceLength && _chars[at] is ' ' or '\t' or '\r')
        {
            at++;
        }

        bool isDecided = at < _end || _isEnd;
        return !isDecided ? TagMatch.Partial
            : count >= _fenceLength && (at == _end || _chars[at] == '\n') ? TagMatch.Yes
            : TagMatch.No;
    }

    private bool StepFencedCalls()
    {
        while (_nestedFed < _end)
        {
            if (_nested!.IsBetweenCalls)
            {
                TagMatch closer = MatchFenceCloser(_nestedFed);
                if (closer == TagMatch.Partial)
                {
                    return false;
                }

                if (closer == TagMatch.Yes)
                {
                    _nested.Finish(isCut: false);
                    int line = Text[_nestedFed..].IndexOf('\n');
                    _nestedFed = line < 0 ? _end : _nestedFed + line + 1;
                    _state = State.FencedCallsClosed;
                    return _nested.HasOnlyWholeCalls || ReleaseFence();
                }
            }

            int stop = Text[_nestedFed..].IndexOf('\n');
            if (stop < 0 && !_isEnd)
            {
                return false;
            }

            FeedNested(stop < 0 ? _end : _nestedFed + stop + 1);
            if (_nested.HasOtherThanCalls)
            {
                return ReleaseFence();
            }
        }

        if (!_isEnd)
        {
            return false;
        }

        _nested!.Finish(isCut: false);
        return _nested.HasOnlyWholeCalls ? AcceptNested() : ReleaseFence();
    }

    private bool StepFencedCallsClosed()
    {
        if (OutputTags.SkipSpace(Text, _nestedFed) < _end)
        {
            return ReleaseFence();
        }

        return _isEnd && AcceptNested();
    }

    private bool ReleaseFence()
    {
        OpenPlainFence();
        return true;
    }

    // Parameters without a function: read on the side under a name that no tool has, until it is clear which parameters there are.
    private void OpenNameless(int parameterAt)
    {
        OpenNested(parameterAt);
        _nested!.Feed("<tool_call><function=?>");
        _fenceBodyAt = parameterAt;
        _state = State.NamelessCall;
    }

    private bool StepNamelessCall()
    {
        FeedNested(_end);
        if (_isEnd)
        {
            _nested!.Finish(isCut: false);
        }

        ParsedToolCall call = _nested!._calls[0];
        if (!call.IsComplete)
        {
            return false;
        }

        bool isCutInside = _isCut && !call.IsClosedByTag;
        _nested = null;
        if (isCutInside)
        {
            // Cut before its name was known: nothing to report, and no markup in the content.
            _at = _end;
            _state = State.Done;
            return false;
        }

        string? tool = _tools.FindByParameters(call.ParameterNames);
        if (tool is null)
        {
            _plainAt = _at;
            _state = State.Content;
            return true;
        }

        _isRepaired = true;
        StartCall(tool, _fenceBodyAt, isWrapped: true);
        return true;
    }
}
