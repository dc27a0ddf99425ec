using Microsoft.Extensions.AI;

namespace Qian.Agent;

// How a long history becomes a short one: which of it is older, how the model is asked for its own summary, and what stands in its
// place. Order and form stay those of a conversation: a user's message first, every call with its answer.
internal static class HistorySummary
{
    // A summary of less would save nothing.
    private const int FewestMessages = 3;

    private const string Wish =
        "Stop here for a moment. This conversation is becoming too long: everything above will be replaced by what you write now. Summarise it so that the work can go on: what the user wants, what was done and found (files, names, " +
        "numbers, errors), what was decided, what is still to do. Answer with the summary alone and call no tool.";

    // How many of the messages are older: all before the last reply with its results, or before a task that was not begun. 0 where that is too little.
    public static int OlderCount(IReadOnlyList<ChatMessage> history)
    {
        int count = history.Count - 1;
        while (count > 0 && history[count].Role == ChatRole.Tool)
            count--;
        return count < FewestMessages ? 0 : count;
    }

    public static ChatMessage[] Request(IEnumerable<ChatMessage> older) => [.. older, new ChatMessage(ChatRole.User, Wish)];

    // `task`: what is being worked on, in the user's words; null where what follows says it.
    public static ChatMessage Replacement(string? task, string summary)
    {
        string begin = task is null ? "" : $"{task}\n\n";
        return new ChatMessage(ChatRole.User, $"{begin}(What was said and done before, in short:)\n{summary}");
    }
}
