using System.ClientModel;
using System.Text;
using OpenAI.Responses;

namespace Qian.Server.Tests;

// OpenAI's official .NET client of /v1/responses against the real server.
public sealed class OfficialResponsesTests(ScriptedModel model) : IClassFixture<ScriptedModel>
{
    private const string Key = "sk-test-12345678";

    private Task<TestServer> Start() => TestServer.StartAsync(model.Load(), new ServerOptions { Keys = [Key], ModelName = "scripted" });

    private static ResponsesClient Client(TestServer server, string key = Key) =>
        new(new ApiKeyCredential(key), new ResponsesClientOptions { Endpoint = new Uri(server.Server.Address, "/v1"), RetryPolicy = new System.ClientModel.Primitives.ClientRetryPolicy(0) });

    private static CreateResponseOptions Calling(params IEnumerable<ResponseItem> items) => new("scripted", items)
    {
        Temperature = 0,
        Tools = { new FunctionTool("add", BinaryData.FromString(ScriptedModel.ToolJson), strictModeEnabled: false) },
    };

    [Fact]
    public async Task AnswersAndContinues()
    {
        await using TestServer server = await Start();
        ResponsesClient client = Client(server);
        var options = new CreateResponseOptions("scripted", [ResponseItem.CreateUserMessageItem("Hi")])
        {
            Temperature = 0,
            Instructions = "Be brief.",
            ReasoningOptions = new ResponseReasoningOptions { ReasoningEffortLevel = new ResponseReasoningEffortLevel("minimal") },
        };
        ResponseResult first = await client.CreateResponseAsync(options);
        Assert.Equal((ScriptedModel.PlainAnswer, ResponseStatus.Completed, "scripted"), (first.GetOutputText(), first.Status, first.Model));
        Assert.Equal((ScriptedModel.PlainScript.Length + 1, 0), (first.Usage.OutputTokenCount, first.Usage.InputTokenDetails.CachedTokenCount));
        ResponseResult next = await client.CreateResponseAsync("scripted", "And?", first.Id);
        Assert.Equal(first.Id, next.PreviousResponseId);
        Assert.True(next.Usage.InputTokenCount > first.Usage.InputTokenCount);
        Assert.Equal(first.GetOutputText(), ((ResponseResult)await client.GetResponseAsync(first.Id)).GetOutputText());
        Assert.True((await client.DeleteResponseAsync(first.Id)).Value.Deleted);
        ClientResultException gone = await Assert.ThrowsAsync<ClientResultException>(() => client.GetResponseAsync(first.Id));
        Assert.Equal(404, gone.Status);
    }

    [Fact]
    public async Task CallsAToolAndReadsItsResult()
    {
        await using TestServer server = await Start();
        ResponsesClient client = Client(server);
        var items = new List<ResponseItem> { ResponseItem.CreateUserMessageItem("What is 20 and 22?") };
        ResponseResult reply = await client.CreateResponseAsync(Calling(items));
        Assert.Equal(3, reply.OutputItems.Count);
        Assert.IsType<ReasoningResponseItem>(reply.OutputItems[0]);
        Assert.Equal(ScriptedModel.Answer, Assert.IsType<MessageResponseItem>(reply.OutputItems[1], exactMatch: false).Content[0].Text.Trim());
        FunctionCallResponseItem call = Assert.IsType<FunctionCallResponseItem>(reply.OutputItems[2]);
        Assert.Equal(("add", ScriptedModel.Arguments, FunctionCallStatus.Completed), (call.FunctionName, call.FunctionArguments.ToString(), call.Status));
        // The client sends back what it was sent.
        items.AddRange(reply.OutputItems);
        items.Add(ResponseItem.CreateFunctionCallOutputItem(call.CallId, "42"));
        ResponseResult next = await client.CreateResponseAsync(Calling(items));
        ResponseResult continued = await client.CreateResponseAsync(WithPrevious(Calling(ResponseItem.CreateFunctionCallOutputItem(call.CallId, "42")), reply.Id));
        Assert.Equal(next.Usage.InputTokenCount, continued.Usage.InputTokenCount);
        Assert.True(next.Usage.InputTokenCount > reply.Usage.InputTokenCount);
        Assert.Equal(4, next.Usage.OutputTokenDetails.ReasoningTokenCount);
    }

    [Fact]
    public async Task Streams()
    {
        await using TestServer server = await Start();
        CreateResponseOptions options = Calling(ResponseItem.CreateUserMessageItem("What is 20 and 22?"));
        options.StreamingEnabled = true;
        var text = new StringBuilder();
        var thinking = new StringBuilder();
        var arguments = new StringBuilder();
        var kinds = new List<Type>();
        ResponseResult? whole = null;
        int number = 0;
        await foreach (StreamingResponseUpdate update in await OpenStream(Client(server), options))
        {
            Assert.Equal(number++, update.SequenceNumber);
            kinds.Add(update.GetType());
            switch (update)
            {
                case StreamingResponseOutputTextDeltaUpdate said:
                    text.Append(said.Delta);
                    break;
                case StreamingResponseReasoningTextDeltaUpdate thought:
                    thinking.Append(thought.Delta);
                    break;
                case StreamingResponseFunctionCallArgumentsDeltaUpdate piece:
                    arguments.Append(piece.Delta);
                    break;
                case StreamingResponseFunctionCallArgumentsDoneUpdate done:
                    Assert.Equal(ScriptedModel.Arguments, done.FunctionArguments.ToString());
                    break;
                case StreamingResponseCompletedUpdate completed:
                    whole = completed.Response;
                    break;
            }
        }

        Assert.Equal((ScriptedModel.Thought, ScriptedModel.Answer, ScriptedModel.Arguments), (thinking.ToString().Trim(), text.ToString().Trim(), arguments.ToString()));
        Assert.Equal((typeof(StreamingResponseCreatedUpdate), typeof(StreamingResponseInProgressUpdate), typeof(StreamingResponseCompletedUpdate)), (kinds[0], kinds[1], kinds[^1]));
        Assert.Equal((3, 3), (kinds.Count(kind => kind == typeof(StreamingResponseOutputItemAddedUpdate)), kinds.Count(kind => kind == typeof(StreamingResponseOutputItemDoneUpdate))));
        Assert.Equal((3, ScriptedModel.ThinkingScript.Length + 1), (whole!.OutputItems.Count, whole.Usage.OutputTokenCount));
    }

    [Fact]
    public async Task HearsErrors()
    {
        await using TestServer server = await Start();
        ClientResultException refused = await Assert.ThrowsAsync<ClientResultException>(() => Client(server, "sk-wrong-12345678").CreateResponseAsync("scripted", "Hi", (string?)null));
        Assert.Equal(401, refused.Status);
        ClientResultException unknown = await Assert.ThrowsAsync<ClientResultException>(() => Client(server).CreateResponseAsync("scripted", "Hi", "resp_unknown"));
        Assert.Equal(400, unknown.Status);
        Assert.Contains("previous_response_not_found", unknown.Message, StringComparison.Ordinal);
    }

    private static CreateResponseOptions WithPrevious(CreateResponseOptions options, string id)
    {
        options.PreviousResponseId = id;
        return options;
    }

    private static async Task<IAsyncEnumerable<StreamingResponseUpdate>> OpenStream(ResponsesClient client, CreateResponseOptions options) => await client.CreateResponseStreamingAsync(options);
}
