using System.Text;

namespace Qian.Inference.Chat.Output;

// Where a parameter's value ends is the hard question, because values quote files that hold the very same tags. The reading in order:
// a </parameter> with the structure going on behind it ends the value, unless it balances an opener inside the value or lies in an
// example call inside it. Once such an inner structure was met the rest of the value is held; if by that reading the value never ends,
// the first fitting closer was the end after all. Missing and mangled closers end a value where the structure plainly goes on.
internal sealed partial class AssistantOutputParser
{
    private static readonly string[] s_afterParameter =
        ["<parameter", "</parameter>", "</function>", "</invoke>", "</tool_call>", "<tool_call>"];

    private static readonly string[] s_afterMangled = ["<parameter", "</function>", "</invoke>", "</tool_call>", "<tool_call>"];

    private string _parameter = string.Empty;
    private JsonTypes _types;
    private bool _isDuplicate;

    // The value starts here, was sent up to there, and was read up to there.
    private int _valueStart;
    private int _valueSent;
    private int _valueRead;

    // Openers inside the value that still want their closer.
    private int _innerParameterCount;

    // An example call inside the value: the tag that closes it and how deep it nests.
    private string? _exampleCloser;
    private string _exampleOpener = string.Empty;
    private int _exampleDepth;

    // From here on the reading is a guess, and nothing is sent; -1 when it is not.
    private int _heldFrom;

    private bool IsStreamedValue => _types == JsonTypes.String && !_isDuplicate;

    private void OpenValue(NamedTag tag)
    {
        _isRepaired |= !tag.IsTemplateForm;
        _parameter = tag.Name;
        _types = _tools.TypesOf(_call!.Name, tag.Name);
        _isDuplicate = _call.ParameterNames.Contains(tag.Name);
        _isRepaired |= _isDuplicate;
        if (!_isDuplicate)
        {
            _call.ParameterNames.Add(tag.Name);
        }

        _at = tag.End;
        _valueStart = -1;
        _innerParameterCount = 0;
        _exampleCloser = null;
        _heldFrom = -1;
        _state = State.Value;
        if (IsStreamedValue)
        {
            AppendArguments($"{Separator()}{ArgumentText.Quote(_parameter)}:\"");
            _call.HasOpenString = true;
        }
    }

    private string Separator() => _call!.ParameterNames.Count > 1 ? "," : string.Empty;

    private bool StepValue()
    {
        if (_valueStart < 0)
        {
            if (_at == _end && !_isEnd)
            {
                return false;
            }

            // One line feed belongs to the opener.
            _valueStart = _at < _end && _chars[_at] == '\n' ? _at + 1 : _at;
            _valueSent = _valueStart;
            _valueRead = _valueStart;
        }

        int stop = Text[_valueRead..].IndexOf('<');
        _valueRead = stop < 0 ? _end : _valueRead + stop;
        if (_valueRead == _end)
        {
            SendValue(_end);
            return _isEnd && EndInValue(_end);
        }

        SendValue(_valueRead);
        TagMatch decided = _exampleCloser is null ? ReadValueTag() : ReadExampleTag();
        if (decided == TagMatch.Partial)
        {
            return _isEnd && EndInValue(_valueRead);
        }

        return true;
    }

    // The tag at _valueRead, outside any example call. Goes past it, or ends the value. Partial: undecided.
    private TagMatch ReadValueTag()
    {
        int at = _valueRead;
        TagMatch parameter = OutputTags.Match(Text, at, "</parameter>");
        if (parameter == TagMatch.Yes)
        {
            return ReadParameterCloser(at);
        }

        TagMatch mangled = ReadMangledCloser(at);
        TagMatch opener = mangled == TagMatch.Yes ? mangled : ReadParameterOpener(at);
        TagMatch example = opener == TagMatch.Yes ? opener : ReadExampleOpener(at);
        TagMatch closer = example == TagMatch.Yes ? example : ReadOuterCloser(at);
        if (closer == TagMatch.Yes)
        {
            return closer;
        }

        if (parameter == TagMatch.Partial || mangled == TagMatch.Partial || opener == TagMatch.Partial
            || example == TagMatch.Partial || closer == TagMatch.Partial)
        {
            return TagMatch.Partial;
        }

        _valueRead = at + 1;
        return TagMatch.Yes;
    }

    private TagMatch ReadParameterCloser(int at)
    {
        int end = at + "</parameter>".Length;
        TagMatch fits = OutputTags.Follows(Text, end, _isEnd, endsToo: true, s_afterParameter);
        if (fits == TagMatch.Partial)
        {
            return fits;
        }

        if (_innerParameterCount > 0)
        {
            _innerParameterCount--;
            _heldFrom = fits == TagMatch.Yes && _heldFrom < 0 ? at : _heldFrom;
        }
        else if (fits == TagMatch.Yes)
        {
            EndValue(at, end);
            return TagMatch.Yes;
        }

        _valueRead = end;
        return TagMatch.Yes;
    }

    // </parameter/>, </parameter1>, </parameter without bracket, </NAME>: at the start of a line, with the structure behind it, and not
    // the closer of an element that the value itself opened.
    private TagMatch ReadMangledCloser(int at)
    {
        if (!IsLineStart(at) || _innerParameterCount > 0)
        {
            return TagMatch.No;
        }

        TagMatch own = OutputTags.Match(Text, at, $"</{_parameter}>");
        TagMatch prefix = OutputTags.Match(Text, at, "</parameter");
        int end = at;
        if (own == TagMatch.Yes)
        {
            end = at + _parameter.Length + 3;
        }
        else if (prefix == TagMatch.Yes)
        {
            int nameEnd = at + "</parameter".Length;
            int stop = Text[nameEnd..].IndexOfAny("> \t\r\n<");
            if (stop < 0 && _end - nameEnd <= 20)
            {
                return TagMatch.Partial;
            }

            if (stop is < 0 or > 20)
            {
                return TagMatch.No;
            }

            end = nameEnd + stop + (_chars[nameEnd + stop] == '>' ? 1 : 0);
        }
        else
        {
            return Either(own, prefix);
        }

        string element = Text[(at + 2)..end].TrimEnd('>').ToString();
        if (Text[_valueStart..at].IndexOf("<" + element, StringComparison.Ordinal) >= 0)
        {
            return TagMatch.No;
        }

        TagMatch fits = OutputTags.Follows(Text, end, _isEnd, endsToo: true, s_afterMangled);
        if (fits == TagMatch.Yes)
        {
            _isRepaired = true;
            EndValue(at, end);
        }

        return fits;
    }

    private TagMatch ReadParameterOpener(int at)
    {
        TagMatch bare = OutputTags.Match(Text, at, "<parameter>");
        TagMatch named = OutputTags.ReadNamed(Text, at, "parameter", out NamedTag tag);
        if (named == TagMatch.Yes
            && IsLineStart(at)
            && _tools.IsDeclared(_call!.Name, tag.Name)
            && !_call.ParameterNames.Contains(tag.Name))
        {
            // An example call that was passed over on the way here was whole, so what it holds is no closer of ours.
            _heldFrom = _heldFrom >= 0 && OutputTags.Match(Text, _heldFrom, "</parameter>") == TagMatch.Yes ? _heldFrom : -1;
            EndWithoutCloser(at);
            return TagMatch.Yes;
        }

        if (named == TagMatch.Yes || bare == TagMatch.Yes)
        {
            _innerParameterCount++;
            _valueRead = named == TagMatch.Yes ? tag.End : at + "<parameter>".Length;
            return TagMatch.Yes;
        }

        return Either(named, bare);
    }

    private TagMatch ReadExampleOpener(int at)
    {
        TagMatch block = OutputTags.Match(Text, at, "<tool_call>");
        TagMatch function = OutputTags.ReadNamed(Text, at, "function", out NamedTag tag);
        if (block != TagMatch.Yes && function != TagMatch.Yes)
        {
            return Either(block, function);
        }

        _exampleOpener = block == TagMatch.Yes ? "<tool_call>" : "<function";
        _exampleCloser = block == TagMatch.Yes ? "</tool_call>" : "</function>";
        _exampleDepth = 1;
        _heldFrom = _heldFrom < 0 ? at : _heldFrom;
        _valueRead = block == TagMatch.Yes ? at + "<tool_call>".Length : tag.End;
        return TagMatch.Yes;
    }

    private TagMatch ReadExampleTag()
    {
        TagMatch closer = OutputTags.Match(Text, _valueRead, _exampleCloser!);
        TagMatch opener = _exampleOpener == "<tool_call>"
            ? OutputTags.Match(Text, _valueRead, _exampleOpener)
            : OutputTags.ReadNamed(Text, _valueRead, "function", out _);
        if (closer == TagMatch.Partial || opener == TagMatch.Partial)
        {
            return TagMatch.Partial;
        }

        _exampleDepth += opener == TagMatch.Yes ? 1 : closer == TagMatch.Yes ? -1 : 0;
        _exampleCloser = _exampleDepth == 0 ? null : _exampleCloser;
        _valueRead++;
        return TagMatch.Yes;
    }

    // </function> or </tool_call> with nothing but structure behind it: the value's own closer is missing.
    private TagMatch ReadOuterCloser(int at)
    {
        TagMatch follows = FollowsOuterCloser(at);
        if (follows == TagMatch.Yes)
        {
            EndWithoutCloser(at);
        }

        return follows;
    }

    // The structure goes on at this place. Where the reading was a guess, a closer that it passed over is believed instead.
    private void EndWithoutCloser(int at)
    {
        int after = at;
        int end = _heldFrom >= 0 ? FirstFittingEnd(at, out after) : -1;
        _isRepaired |= end < 0 || end == after;
        EndValue(end >= 0 ? end : at, end >= 0 ? after : at);
    }

    private TagMatch FollowsOuterCloser(int at)
    {
        foreach (string closer in (ReadOnlySpan<string>)["</function>", "</invoke>"])
        {
            TagMatch match = OutputTags.Match(Text, at, closer);
            if (match == TagMatch.Partial)
            {
                return match;
            }

            if (match == TagMatch.Yes)
            {
                int behind = at + closer.Length;
                TagMatch next = OutputTags.Follows(Text, behind, _isEnd, endsToo: true, ["<tool_call>", "<function=", "<invoke "]);
                return next == TagMatch.No ? FollowsBlockCloser(OutputTags.SkipSpace(Text, behind)) : next;
            }
        }

        return FollowsBlockCloser(at);
    }

    private TagMatch FollowsBlockCloser(int at)
    {
        TagMatch match = OutputTags.Match(Text, at, "</tool_call>");
        return match == TagMatch.Yes
            ? OutputTags.Follows(Text, at + "</tool_call>".Length, _isEnd, endsToo: true, ["<tool_call>"])
            : match == TagMatch.Partial && _isEnd ? TagMatch.Yes : match;
    }

    // Read without inner structures, from where they began: the first closer that fits, or the opener of a further call of a declared
    // tool. -1 when there is neither before limit. after: where the body goes on.
    private int FirstFittingEnd(int limit, out int after)
    {
        for (int at = _heldFrom; at < limit; at++)
        {
            int stop = Text[at..limit].IndexOf('<');
            if (stop < 0)
            {
                break;
            }

            at += stop;
            if (OutputTags.Match(Text, at, "</parameter>") == TagMatch.Yes)
            {
                after = at + "</parameter>".Length;
                if (OutputTags.Follows(Text, after, _isEnd, endsToo: true, s_afterParameter) == TagMatch.Yes)
                {
                    return at;
                }
            }

            if (IsLineStart(at) && OpensDeclaredCall(at))
            {
                after = at;
                return at;
            }
        }

        after = -1;
        return -1;
    }

    private bool OpensDeclaredCall(int at)
    {
        bool isWrapped = OutputTags.Match(Text, at, "<tool_call>") == TagMatch.Yes;
        int function = isWrapped ? OutputTags.SkipSpace(Text, at + "<tool_call>".Length) : at;
        return OutputTags.ReadNamed(Text, function, "function", out NamedTag tag) == TagMatch.Yes
            && _tools.IsDeclared(tag.Name)
            && OutputTags.Follows(Text, tag.End, isEnd: false, endsToo: false, s_bareFunctionBody) == TagMatch.Yes;
    }

    private bool IsLineStart(int at) => at == _valueStart || _chars[at - 1] == '\n';

    // The text ended inside the value; from tailStart on there may be a tag that the end cut off.
    private bool EndInValue(int tailStart)
    {
        int after = -1;
        int fitting = _heldFrom >= 0 ? FirstFittingEnd(_end, out after) : -1;
        if (fitting >= 0 && (!_isCut || (fitting != after && IsCleanBehind(after))))
        {
            _isRepaired |= fitting == after;
            EndValue(fitting, after);
            return true;
        }

        _heldFrom = -1;
        if (_isCut)
        {
            // What an open string held so far is reported; of other types half a value says nothing.
            SendValue(tailStart);
            _at = _end;
            _state = State.Done;
            return false;
        }

        _isRepaired = true;
        EndValue(tailStart, _end);
        return true;
    }

    // Cut by the limit after an inner structure, a value is taken for whole only if another call of a declared tool follows. Otherwise
    // the cut may lie in the middle of a document, and half of it must not be written.
    private bool IsCleanBehind(int at)
    {
        while (true)
        {
            at = OutputTags.SkipSpace(Text, at);
            string? closer = Array.Find(s_surplusClosers, candidate => OutputTags.Match(Text, at, candidate) == TagMatch.Yes);
            if (closer is null)
            {
                return at < _end && OpensDeclaredCall(at);
            }

            at += closer.Length;
        }
    }

    // Sends a string value up to here as it streams, the last line feed aside: it may belong to the closer.
    private void SendValue(int end)
    {
        if (!IsStreamedValue || _heldFrom >= 0)
        {
            return;
        }

        if (end > _valueSent && _chars[end - 1] == '\n')
        {
            end--;
        }

        if (end > _valueSent)
        {
            var escaped = new StringBuilder();
            ArgumentText.AppendEscaped(escaped, Text[_valueSent..end]);
            AppendArguments(escaped.ToString());
            _valueSent = end;
        }
    }

    // The value ends at end; the body goes on at after.
    private void EndValue(int end, int after)
    {
        _heldFrom = -1;
        if (IsStreamedValue)
        {
            SendValue(end);
            AppendArguments("\"");
            _call!.HasOpenString = false;
        }
        else if (!_isDuplicate)
        {
            int textEnd = end > _valueStart && _chars[end - 1] == '\n' ? end - 1 : end;
            string json = ArgumentText.ToJson(Text[_valueStart..textEnd].ToString(), _types, out bool isRepaired);
            _isRepaired |= isRepaired;
            AppendArguments($"{Separator()}{ArgumentText.Quote(_parameter)}:{json}");
        }

        _at = after;
        _state = State.Body;
    }
}
