namespace Qian.Inference.Chat.Jinja;

// Why a template failed. The names follow what jinja2 raises in the same place, because reference outputs are recorded with them.
internal enum TemplateFault
{
    Syntax,
    Raised,
    Undefined,
    Type,
    Value,
    ZeroDivision,
    TemplateRuntime,
    Security,
    Limit,
}

// Every failure of the interpreter, at compile time or while rendering. It never leaves Chat: ChatTemplate turns it into one of the
// two public exceptions. Line 0 means "not known yet"; the interpreter fills it in where the exception passes.
internal sealed class TemplateException : Exception
{
    public TemplateException(TemplateFault fault, string message, int line = 0)
        : base(message)
    {
        Fault = fault;
        Line = line;
    }

    public TemplateFault Fault { get; }

    public int Line { get; private set; }

    public void AtLine(int line)
    {
        if (Line == 0)
        {
            Line = line;
        }
    }
}
