using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Inference.Formats;
using Qian.Inference.Text;

namespace Qian.Inference.Tests.Chat;

// Replies keep the tokens that they were generated with, whatever a client makes of them on the way back.
public sealed class ConversationEncoderTests
{
    private const string ToolText = "\n\n<tool_call>\n<function=add>\n<parameter=a>\n20\n</parameter>\n<parameter=note>\nx \"y\"\n</parameter>\n</function>\n</tool_call>";

    private static readonly Tokenizer s_tokenizer = new(SyntheticVocabulary.Create(1000));
    private static readonly ChatTemplate s_template = ChatTemplate.Default;
    private static readonly Message s_user = new(MessageRole.User, "Add  them"), s_next = new(MessageRole.User, "And now?");

    private readonly ReplyMemory _replies = new();

    private static int Id(string name) => s_tokenizer.TryGetId(name, out int id) ? id : throw new ArgumentException(name);

    private EncodedPrompt Encode(ChatTemplateOptions options, params Message[] messages) =>
        ConversationEncoder.Encode(s_tokenizer, s_template, _replies, MessageNormalizer.Normalize(messages, s_template.Summary), null, options);

    // Tokens as a model may have sampled them: one per character, which no tokenizer would choose.
    private static int[] Sampled(string text, bool ends = true)
    {
        var ids = new List<int>();
        while (text.Length > 0)
        {
            if (text.StartsWith("</think>", StringComparison.Ordinal))
            {
                ids.Add(Id("</think>"));
                text = text[8..];
                continue;
            }

            ids.AddRange(s_tokenizer.Encode(text[..1]));
            text = text[1..];
        }

        return ends ? [.. ids, Id("<|im_end|>")] : [.. ids];
    }

    // The model answered `prompt` so, and `message` is what was understood of it.
    private int[] Answer(int[] prompt, string reply, Message message, bool thinks, bool ends = true, bool isThinking = false)
    {
        int[] tokens = Sampled(reply, ends);
        _replies.Add(s_tokenizer, prompt, tokens, message, thinks, isThinking, [Id("<|im_end|>"), Id("<|endoftext|>")]);
        return tokens;
    }

    private static ToolCall Call(string arguments) => new("call_1", "add", JsonSerializer.SerializeToElement(JsonDocument.Parse(arguments).RootElement));

    public static TheoryData<string, string?, string> Echoes => new()
    {
        { "  The sum.\n", "I think", """{"a":20,"note":"x \"y\""}""" },
        { "The sum.", null, """{"note":"x \"y\"","a":20.0}""" },
        { "The sum.", "  I think\n", """{"a":2e1,"note":"x \u0022y\u0022"}""" },
        { "The sum.", "", "\"{\\\"a\\\": 20, \\\"note\\\": \\\"x \\\\\\\"y\\\\\\\"\\\"}\"" },
    };

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AnAnswerMayQuoteTheEndOfThinking(bool thinks)
    {
        var options = new ChatTemplateOptions { EnableThinking = thinks, PreserveThinking = true };
        EncodedPrompt prompt = Encode(options, s_user);
        const string answer = "It is `</think>` that ends it.";
        var understood = new Message(MessageRole.Assistant, answer) { ReasoningContent = thinks ? "I think" : null };
        // The quote is text: the token of that name would have ended a thought.
        int[] reply = [.. Sampled(thinks ? "I think\n</think>\n\n" : "", ends: false), .. answer.SelectMany(c => s_tokenizer.Encode(c.ToString())), Id("<|im_end|>")];
        _replies.Add(s_tokenizer, prompt.Tokens, reply, understood, thinks, isThinking: false, [Id("<|im_end|>")]);
        EncodedPrompt next = Encode(options, s_user, new Message(MessageRole.Assistant, answer), s_next);
        Assert.Equal([.. prompt.Tokens, .. reply], next.Tokens.Take(prompt.Tokens.Length + reply.Length));
    }

    [Fact]
    public void AReplyToSomebodyElseIsNotKnown()
    {
        var options = new ChatTemplateOptions { EnableThinking = false };
        EncodedPrompt prompt = Encode(options, s_user);
        var message = new Message(MessageRole.Assistant, "The sum.");
        _replies.Add(s_tokenizer, prompt.Tokens, Sampled("The sum."), message, thinks: false, isThinking: false, [Id("<|im_end|>")], "ann");
        int[] Next(ReplyMemory replies, string scope) => ConversationEncoder.Encode(s_tokenizer, s_template, replies, [s_user, message, s_next], null, options, scope).Tokens;
        int[] unknown = Next(new ReplyMemory(), "");
        Assert.NotEqual(unknown, Next(_replies, "ann"));
        foreach (string scope in (string[])["", "bob"])
            Assert.Equal(unknown, Next(_replies, scope));
    }

    [Theory]
    [MemberData(nameof(Echoes))]
    public void AReplyIsKnownAgainHoweverItIsEchoed(string content, string? reasoning, string arguments)
    {
        EncodedPrompt prompt = Encode(new ChatTemplateOptions { PreserveThinking = true }, s_user);
        Assert.True(prompt.Thinks);
        var understood = new Message(MessageRole.Assistant, "The sum.") { ReasoningContent = "I think", ToolCalls = [Call("""{"a":20,"note":"x \"y\""}""")] };
        int[] reply = Answer(prompt.Tokens, "I think\n\n</think>\n\n\nThe sum. " + ToolText, understood, thinks: true);
        var echo = new Message(MessageRole.Assistant, content) { ReasoningContent = reasoning, ToolCalls = [Call(arguments)] };
        EncodedPrompt next = Encode(new ChatTemplateOptions { PreserveThinking = true }, s_user, echo, new Message(MessageRole.Tool, "42") { ToolCallId = "call_1" });
        Assert.Equal([.. prompt.Tokens, .. reply], next.Tokens.Take(prompt.Tokens.Length + reply.Length));
        Assert.Equal("\n<|im_start|>user\n<tool_response>\n42\n</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n", s_tokenizer.Decode([.. next.Tokens.Skip(prompt.Tokens.Length + reply.Length)]));
    }

    [Theory]
    [InlineData("The sum", "I think", "20")]
    [InlineData("The sum.", "I thought", "20")]
    [InlineData("The sum.", "I think", "21")]
    public void WhatWasChangedIsReadAsItIs(string content, string reasoning, string a)
    {
        ChatTemplateOptions options = new() { PreserveThinking = true };
        int[] prompt = Encode(options, s_user).Tokens;
        Answer(
            prompt, "I think\n</think>\n\nThe sum.\n\n<tool_call>\n<function=add>\n<parameter=a>\n20\n</parameter>\n</function>\n</tool_call>",
            new Message(MessageRole.Assistant, "The sum.") { ReasoningContent = "I think", ToolCalls = [Call("""{"a":20}""")] }, thinks: true);
        var echo = new Message(MessageRole.Assistant, content) { ReasoningContent = reasoning, ToolCalls = [Call($$"""{"a":{{a}}}""")] };
        EncodedPrompt next = Encode(options, s_user, echo, s_next);
        Assert.Equal(next.Text, s_tokenizer.Decode(next.Tokens));
        Assert.Contains(reasoning + "\n</think>\n\n" + content, next.Text, StringComparison.Ordinal);
    }

    [Fact]
    public void ThoughtsOfAnotherConversationAreNotAdded()
    {
        ChatTemplateOptions options = new() { PreserveThinking = true };
        Answer(Encode(options, new Message(MessageRole.User, "Their secret")).Tokens, "They have a secret\n</think>\n\nYes.", new Message(MessageRole.Assistant, "Yes.") { ReasoningContent = "They have a secret" }, thinks: true);
        EncodedPrompt next = Encode(options, s_user, new Message(MessageRole.Assistant, "Yes."), s_next);
        Assert.DoesNotContain("secret", s_tokenizer.Decode(next.Tokens), StringComparison.Ordinal);
    }

    [Fact]
    public void OfThinkingThatTheTemplateDropsOnlyTheAnswerStays()
    {
        int[] prompt = Encode(new ChatTemplateOptions(), s_user).Tokens;
        int[] reply = Answer(prompt, "I think\n</think>\n\nThe sum.", new Message(MessageRole.Assistant, "The sum.") { ReasoningContent = "I think" }, thinks: true);
        EncodedPrompt next = Encode(new ChatTemplateOptions(), s_user, new Message(MessageRole.Assistant, "The sum. "), s_next);
        Assert.Equal(next.Text, s_tokenizer.Decode(next.Tokens));
        Assert.DoesNotContain("I think", next.Text, StringComparison.Ordinal);
        int[] answer = Sampled("The sum.");
        Assert.True(next.Tokens.AsSpan().IndexOf(answer) > 0);
        Assert.Equal(reply[^answer.Length..], answer);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AnAnswerWithoutThinkingIsKnownAgain(bool callsOnly)
    {
        ChatTemplateOptions options = new() { EnableThinking = false, PreserveThinking = true };
        int[] prompt = Encode(options, s_user).Tokens;
        var message = new Message(MessageRole.Assistant, callsOnly ? "" : "The sum.") { ToolCalls = callsOnly ? [Call("""{"a":20,"note":"x \"y\""}""")] : [] };
        int[] reply = Answer(prompt, callsOnly ? ToolText[2..] : " The sum.\n", message, thinks: false);
        EncodedPrompt next = Encode(options, s_user, message, callsOnly ? new Message(MessageRole.Tool, "42") : s_next);
        Assert.Equal([.. prompt, .. reply], next.Tokens.Take(prompt.Length + reply.Length));
    }

    [Theory]
    [InlineData("I th", true, "\n</think>\n\n<|im_end|>\n")]
    [InlineData("I think\n</think>\n\nThe s", false, "<|im_end|>\n")]
    public void ACutReplyGetsTheEndThatItLacks(string text, bool isThinking, string end)
    {
        ChatTemplateOptions options = new() { PreserveThinking = true };
        int[] prompt = Encode(options, s_user).Tokens;
        var message = new Message(MessageRole.Assistant, isThinking ? "" : "The s") { ReasoningContent = isThinking ? "I th" : "I think" };
        int[] reply = Answer(prompt, text, message, thinks: true, ends: false, isThinking);
        EncodedPrompt next = Encode(options, s_user, message, s_next);
        Assert.Equal([.. prompt, .. reply], next.Tokens.Take(prompt.Length + reply.Length));
        Assert.StartsWith(end + "<|im_start|>user", s_tokenizer.Decode([.. next.Tokens.Skip(prompt.Length + reply.Length)]), StringComparison.Ordinal);
    }

    [Fact]
    public void RememberedRepliesSurviveAFile()
    {
        using var folder = new TempFolder();
        string path = folder.File("replies");
        int[] prompt = Encode(new ChatTemplateOptions(), s_user).Tokens;
        Answer(prompt, "I think\n</think>\n\nThe sum.", new Message(MessageRole.Assistant, "The sum.") { ReasoningContent = "I think" }, thinks: true);
        ReplyFile.Save(path, _replies.All);
        var loaded = new ReplyMemory();
        ReplyFile.Load(path, loaded);
        Assert.Equal(JsonSerializer.Serialize(_replies.All), JsonSerializer.Serialize(loaded.All));
        byte[] sound = File.ReadAllBytes(path);
        for (int i = 0; i < sound.Length; i += 7)
        {
            byte[] damaged = [.. sound];
            damaged[i] ^= 1;
            File.WriteAllBytes(path, i % 2 == 0 ? damaged : sound[..i]);
            var none = new ReplyMemory();
            ReplyFile.Load(path, none);
            Assert.Empty(none.All);
        }
    }
}
