using Qian.Inference.Constraint;

namespace Qian.Inference.Chat;

// What a conversation's tools, and the way in which they may or must be used, mean for the form of its replies.
internal static class ToolUse
{
    // `format`: what a reply that is no call must look like. Null when all is free.
    public static OutputConstraint? Constrain(ChatSettings settings, OutputConstraint? format) =>
        Constrain(settings.Tools, settings.RequireToolCall || settings.RequiredTool is not null, settings.RequiredTool, settings.ParallelToolCalls, format);

    public static OutputConstraint? Constrain(IReadOnlyList<ToolDefinition>? tools, bool mustCall, string? requiredTool, bool severalCalls, OutputConstraint? format)
    {
        if (tools is null || tools.Count == 0)
            return mustCall ? throw new BadRequestException("a tool call is required, but no tools are given.") : format;
        var callable = new List<CallableTool>();
        foreach (ToolDefinition tool in tools)
        {
            // A name that the template's form cannot spell cannot be called.
            if ((requiredTool is null || tool.Name == requiredTool) && !tool.Name.AsSpan().ContainsAny('<', '>', '\n') && !callable.Exists(known => known.Name == tool.Name))
                callable.Add(new CallableTool(tool.Name, tool.Parameters));
        }

        if (callable.Count > 0)
            return OutputConstraint.ForCalls(callable, mustCall, severalCalls, format);
        if (!mustCall)
            return format;
        throw new BadRequestException(requiredTool is null ? "none of the tools has a name that can be called." : $"the tool '{requiredTool}' must be called, but is not among the tools.");
    }
}
