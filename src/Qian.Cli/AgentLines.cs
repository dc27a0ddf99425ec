using Qian.Agent;

namespace Qian.Cli;

// The agent's events for a program: each a line of JSON.
internal static class AgentLines
{
    public static void Print(AgentEvent happened)
    {
        switch (happened)
        {
            case TextDelta delta:
                JsonOutput.Print(new { Event = "text_delta", delta.Text });
                break;
            case ReasoningDelta delta:
                JsonOutput.Print(new { Event = "reasoning_delta", delta.Text });
                break;
            case ToolCalled call:
                JsonOutput.Print(new { Event = "tool_call", Id = call.CallId, call.Tool, call.Arguments });
                break;
            case ToolAnswered answer:
                JsonOutput.Print(new { Event = "tool_result", Id = answer.CallId, answer.Tool, answer.Result.Text, answer.Result.IsError, answer.Result.Diff });
                break;
            case PermissionAsked { Request: var request }:
                JsonOutput.Print(new { Event = "permission_asked", Kind = request.Kind.ToString().ToLowerInvariant(), request.Subject, request.Diff });
                break;
            case StepEnded step:
                JsonOutput.Print(new { Event = "step_ended", Step = step.StepCount, step.PromptTokens, step.CachedTokens, step.OutputTokens });
                break;
            case HistoryCompacted compacted:
                JsonOutput.Print(new { Event = "history_compacted", Messages = compacted.MessageCount, compacted.Summary });
                break;
            case Finished { Outcome: var outcome }:
                JsonOutput.Print(new { Event = "finished", Done = outcome.IsDone, outcome.Text });
                break;
        }
    }
}
