using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace Qian.Cli.Serving;

// What one client says in one conversation, turn by turn, in one dialect. Seeded, so that a script that differs can be asked again.
// Greedy, or sampled with a seed: either way the replies are a function of the script.
internal sealed class SoakScript
{
    private static readonly string[] s_words =
    [
        "the", "a", "method", "returns", "largest", "element", "of", "an", "array", "list", "sum", "numbers", "string", "count", "reverse", "words", "and", "file", "read", "write",
        "loop", "value", "index", "if", "empty", "zero", "first", "last", "between", "sorted", "every", "second", "text", "line", "letters", "digits", "even", "odd", "without", "with",
    ];

    private static readonly string[] s_tasks =
    [
        "Write a C# method that returns the largest element of an int array.", "Write a Python function that reverses a string.", "Write a C# method that counts the even numbers of a list.", "What is a loop?",
        "Hello!", "List the files, then say which is the longest.", "Write a Python function that sums the squares of a list.",
    ];

    private readonly string[] _turns;
    private readonly string _system;
    private readonly bool _thinks;
    private readonly int _mostTokens;
    private readonly long? _seed;

    public SoakScript(int index, int mostWords)
    {
        var random = new Random(index);
        Name = $"script {index}";
        Path = (index % 4) switch { 0 => "/v1/completions", 3 => "/v1/messages", _ => "/v1/chat/completions" };
        // A few systems for all: beginnings that conversations share.
        _system = $"You are a careful assistant. {Words(new Random(index % 3), Math.Min(mostWords, 200))}";
        _thinks = random.Next(2) == 0;
        _mostTokens = random.Next(4, 96);
        _seed = random.Next(4) == 0 ? index : null;
        _turns = new string[Path == "/v1/completions" ? 1 : random.Next(1, 4)];
        for (int i = 0; i < _turns.Length; i++)
        {
            string task = s_tasks[random.Next(s_tasks.Length)];
            int wordCount = random.Next(3) == 0 ? random.Next(mostWords) : random.Next(20);
            _turns[i] = random.Next(2) == 0 ? $"{task} {Words(random, wordCount)}" : $"{Words(random, wordCount)} {task}";
        }
    }

    public string Name { get; }

    public string Path { get; }

    public int TurnCount => _turns.Length;

    // The request of a turn, after the replies to those before.
    public JsonObject Body(int turnIndex, IReadOnlyList<ServeReply> replies, bool streams)
    {
        var body = new JsonObject { ["model"] = "bench", ["stream"] = streams, ["max_tokens"] = _mostTokens, ["temperature"] = _seed is null ? 0 : 0.8 };
        if (_seed is not null && Path != "/v1/messages")
            body["seed"] = _seed;
        else if (_seed is not null)
            body["temperature"] = 0;
        if (streams && Path != "/v1/messages")
            body["stream_options"] = new JsonObject { ["include_usage"] = true };
        if (Path == "/v1/completions")
        {
            body["prompt"] = _turns[0];
            body["ignore_eos"] = true;
            return body;
        }

        var messages = new JsonArray();
        if (Path == "/v1/messages")
            body["system"] = _system;
        else
            messages.Add(new JsonObject { ["role"] = "system", ["content"] = _system });
        for (int i = 0; i <= turnIndex; i++)
        {
            messages.Add(new JsonObject { ["role"] = "user", ["content"] = _turns[i] });
            if (i < turnIndex)
                messages.Add(Said(replies[i]));
        }

        body["messages"] = messages;
        if (Path == "/v1/chat/completions")
            body["chat_template_kwargs"] = new JsonObject { ["enable_thinking"] = _thinks };
        return body;
    }

    private JsonObject Said(ServeReply reply)
    {
        var message = new JsonObject { ["role"] = "assistant", ["content"] = reply.Content.Length > 0 ? reply.Content : "(nothing)" };
        if (Path == "/v1/chat/completions" && reply.Reasoning.Length > 0)
            message["reasoning_content"] = reply.Reasoning;
        return message;
    }

    private static string Words(Random random, int count)
    {
        var text = new StringBuilder();
        for (int i = 0; i < count; i++)
            text.Append(CultureInfo.InvariantCulture, $"{s_words[random.Next(s_words.Length)]} ");
        return text.ToString().TrimEnd();
    }
}
