using System.ClientModel;
using System.Text;
using System.Text.Json;
using Anthropic;
using Anthropic.Exceptions;
using Anthropic.Models.Messages;
using OpenAI;
using OpenAI.Chat;

namespace Qian.Server.Tests;

// The official .NET clients of both vendors against the real server.
public sealed class OfficialClientTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Key = "sk-test-12345678";

    private Task<TestServer> Start() => TestServer.StartAsync(model.Load(), new ServerOptions { Keys = [Key], ModelName = "scripted" });

    private static ChatClient OpenAi(TestServer server, string key = Key) =>
        new("scripted", new ApiKeyCredential(key), new OpenAIClientOptions { Endpoint = new Uri(server.Server.Address, "/v1"), RetryPolicy = new System.ClientModel.Primitives.ClientRetryPolicy(0) });

    private static AnthropicClient Claude(TestServer server, string key = Key) =>
        new() { ApiKey = key, BaseUrl = server.Server.Address.ToString().TrimEnd('/'), MaxRetries = 0, ResponseValidation = true };

    private static ChatCompletionOptions WithTools() => new()
    {
        Temperature = 0,
        Tools = { ChatTool.CreateFunctionTool("add", "Adds", BinaryData.FromString(ScriptedModel.ToolJson)) },
    };

    private static MessageCreateParams WithThinking() => new()
    {
        Model = "scripted",
        MaxTokens = 200,
        Thinking = new ThinkingConfigEnabled(100),
        Messages = [new UserMessageParam("What is 20 and 22?")],
        Tools = [new Tool { Name = "add", Description = "Adds", InputSchema = InputSchema.FromRawUnchecked(JsonSerializer.Deserialize<Dictionary<string, JsonElement>>(ScriptedModel.ToolJson)!) }],
    };

    [Fact]
    public async Task OpenAiChats()
    {
        await using TestServer server = await Start();
        var options = new ChatCompletionOptions { Temperature = 0, MaxOutputTokenCount = 50, ReasoningEffortLevel = new ChatReasoningEffortLevel("minimal"), IncludeLogProbabilities = true, TopLogProbabilityCount = 2, Seed = 7, StopSequences = { "never" } };
        ChatCompletion reply = await OpenAi(server).CompleteChatAsync([new SystemChatMessage("Be brief."), new UserChatMessage("Hi")], options);
        Assert.Equal((ScriptedModel.PlainAnswer, ChatFinishReason.Stop, "scripted"), (reply.Content[0].Text, reply.FinishReason, reply.Model));
        Assert.Equal(ScriptedModel.PlainScript, reply.ContentTokenLogProbabilities.Select(token => token.Token));
        Assert.Equal(ScriptedModel.PlainScript.Length + 1, reply.Usage.OutputTokenCount);
        Assert.Equal(0, reply.Usage.InputTokenDetails.CachedTokenCount);
    }

    [Fact]
    public async Task OpenAiCallsAToolAndReadsItsResult()
    {
        await using TestServer server = await Start();
        List<ChatMessage> messages = [new UserChatMessage("What is 20 and 22?")];
        ChatCompletion reply = await OpenAi(server).CompleteChatAsync(messages, WithTools());
        Assert.Equal(ChatFinishReason.ToolCalls, reply.FinishReason);
        ChatToolCall call = Assert.Single(reply.ToolCalls);
        Assert.Equal(("add", ScriptedModel.Arguments), (call.FunctionName, call.FunctionArguments.ToString()));
        messages.Add(new AssistantChatMessage(reply));
        messages.Add(new ToolChatMessage(call.Id, "42"));
        ChatCompletion next = await OpenAi(server).CompleteChatAsync(messages, WithTools());
        Assert.True(next.Usage.InputTokenCount > reply.Usage.InputTokenCount);
        Assert.Equal(4, next.Usage.OutputTokenDetails.ReasoningTokenCount);
    }

    [Fact]
    public async Task OpenAiStreams()
    {
        await using TestServer server = await Start();
        var text = new StringBuilder();
        var arguments = new StringBuilder();
        var names = new List<string>();
        ChatFinishReason? finish = null;
        ChatTokenUsage? usage = null;
        await foreach (StreamingChatCompletionUpdate update in OpenAi(server).CompleteChatStreamingAsync([new UserChatMessage("What is 20 and 22?")], WithTools()))
        {
            foreach (ChatMessageContentPart part in update.ContentUpdate)
                text.Append(part.Text);
            foreach (StreamingChatToolCallUpdate call in update.ToolCallUpdates)
            {
                if (!string.IsNullOrEmpty(call.FunctionName))
                    names.Add(call.FunctionName);
                arguments.Append(call.FunctionArgumentsUpdate?.ToString());
            }

            finish ??= update.FinishReason;
            usage ??= update.Usage;
        }

        Assert.Equal((ScriptedModel.Answer, ScriptedModel.Arguments, ChatFinishReason.ToolCalls), (text.ToString().Trim(), arguments.ToString(), finish));
        Assert.Equal(["add"], names);
        Assert.Equal(ScriptedModel.ThinkingScript.Length + 1, usage!.OutputTokenCount);
    }

    [Fact]
    public async Task OpenAiHearsErrors()
    {
        await using TestServer server = await Start();
        ClientResultException refused = await Assert.ThrowsAsync<ClientResultException>(() => OpenAi(server, "sk-wrong-12345678").CompleteChatAsync([new UserChatMessage("Hi")]));
        Assert.Equal(401, refused.Status);
        ClientResultException wrong = await Assert.ThrowsAsync<ClientResultException>(() => OpenAi(server).CompleteChatAsync([new UserChatMessage("Hi")], new ChatCompletionOptions { Temperature = 9 }));
        Assert.Equal(400, wrong.Status);
        Assert.Contains("temperature", wrong.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task OpenAiListsModels()
    {
        await using TestServer server = await Start();
        var client = new OpenAIClient(new ApiKeyCredential(Key), new OpenAIClientOptions { Endpoint = new Uri(server.Server.Address, "/v1") }).GetOpenAIModelClient();
        Assert.Equal("scripted", Assert.Single((await client.GetModelsAsync()).Value).Id);
        Assert.Equal("scripted", (await client.GetModelAsync("scripted")).Value.Id);
    }

    [Fact]
    public async Task ClaudeThinksAnswersAndCalls()
    {
        await using TestServer server = await Start();
        Message reply = await Claude(server).Messages.Create(WithThinking());
        Assert.Equal(3, reply.Content.Count);
        Assert.True(reply.Content[0].TryPickThinking(out ThinkingBlock? thinking));
        Assert.Equal(ScriptedModel.Thought, thinking.Thinking.Trim());
        Assert.True(reply.Content[1].TryPickText(out TextBlock? text));
        Assert.Equal(ScriptedModel.Answer, text.Text.Trim());
        Assert.True(reply.Content[2].TryPickToolUse(out ToolUseBlock? call));
        Assert.Equal(("add", ScriptedModel.Arguments), (call.Name, JsonSerializer.Serialize(call.Input, s_relaxed)));
        Assert.Equal("tool_use", reply.StopReason!.Raw());
        Assert.Equal(ScriptedModel.ThinkingScript.Length + 1, reply.Usage.OutputTokens);
    }

    [Fact]
    public async Task ClaudeStreams()
    {
        await using TestServer server = await Start();
        var thinking = new StringBuilder();
        var text = new StringBuilder();
        var input = new StringBuilder();
        string? stop = null;
        await foreach (RawMessageStreamEvent step in Claude(server).Messages.CreateStreaming(WithThinking()))
        {
            if (step.TryPickDelta(out RawMessageDeltaEvent? end))
                stop = end.Delta.StopReason!.Raw();
            if (!step.TryPickContentBlockDelta(out RawContentBlockDeltaEvent? piece))
                continue;
            if (piece.Delta.TryPickThinking(out ThinkingDelta? thought))
                thinking.Append(thought.Thinking);
            if (piece.Delta.TryPickText(out TextDelta? said))
                text.Append(said.Text);
            if (piece.Delta.TryPickInputJson(out InputJsonDelta? json))
                input.Append(json.PartialJson);
        }

        Assert.Equal((ScriptedModel.Thought, ScriptedModel.Answer, ScriptedModel.Arguments, "tool_use"), (thinking.ToString().Trim(), text.ToString().Trim(), input.ToString(), stop));
    }

    [Fact]
    public async Task ClaudeCountsAndHearsErrors()
    {
        await using TestServer server = await Start();
        MessageTokensCount count = await Claude(server).Messages.CountTokens(new MessageCountTokensParams { Model = "scripted", Messages = [new UserMessageParam("Hi")] });
        Message reply = await Claude(server).Messages.Create(new MessageCreateParams { Model = "scripted", MaxTokens = 5, Messages = [new UserMessageParam("Hi")] });
        Assert.Equal(count.InputTokens, reply.Usage.InputTokens);
        await Assert.ThrowsAsync<AnthropicUnauthorizedException>(() => Claude(server, "sk-wrong-12345678").Messages.Create(WithThinking()));
        AnthropicBadRequestException wrong = await Assert.ThrowsAsync<AnthropicBadRequestException>(() => Claude(server).Messages.Create(WithThinking() with { MaxTokens = 0 }));
        Assert.Contains("max_tokens", wrong.Message, StringComparison.Ordinal);
    }

    private static readonly JsonSerializerOptions s_relaxed = new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
}
