using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Qian.Inference;
using Qian.Inference.Tests;
using Qian.Inference.Tests.Fuzzing;

namespace Qian.Server.Tests;

// Bodies that no client should send: valid ones with parts replaced, cut and mixed up, and plain garbage. Whatever comes, the
// server answers in form, never with a 500, and goes on. Seeded: a failure names the body.
public sealed class HostileBodyTests(TinyModel model) : IClassFixture<TinyModel>
{
    private const int WorkerCount = 8;

    // QIAN_FUZZ_COUNT asks for more, from QIAN_FUZZ_FIRST on.
    private static readonly int s_bodyCount = Mutator.Count(10_000);

    private static readonly (string Path, string Body)[] s_seeds =
    [
        ("/v1/chat/completions", """{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"}]},{"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"c","content":"ok"}],"tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}}}],"tool_choice":"auto","temperature":0.5,"top_p":0.9,"n":2,"seed":5,"stop":["x","y"],"max_tokens":2,"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":2,"logit_bias":{"5":1,"9":-100},"presence_penalty":1,"frequency_penalty":-1,"chat_template_kwargs":{"enable_thinking":true,"preserve_thinking":false},"reasoning_effort":"low","response_format":{"type":"text"}}"""),
        ("/v1/chat/completions", """{"messages":[{"role":"user","content":"hi"}],"max_completion_tokens":1,"parallel_tool_calls":false,"thinking_budget":1,"user":"u"}"""),
        ("/v1/chat/completions", """{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object","properties":{"a":{"type":"array","items":{"anyOf":[{"type":"integer","minimum":1},{"enum":["x",null]}]},"maxItems":3},"b":{"$ref":"#/$defs/b"}},"required":["a"],"additionalProperties":false,"$defs":{"b":{"type":"string","pattern":"^[a-z]+$","maxLength":9}}}}}}"""),
        ("/v1/chat/completions", """{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"guided_regex":"(a|b)*c{3}[^x-z]","tools":[],"n":1}"""),
        ("/v1/chat/completions", """{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"grammar":"root ::= item (\",\" item)*\nitem ::= [a-z]+ | \"(\" root \")\""}"""),
        ("/v1/chat/completions", """{"messages":[{"role":"user","content":"hi"}],"max_tokens":2,"stream":true,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"boolean"}}},"strict":true}}],"tool_choice":{"type":"function","function":{"name":"f"}}}"""),
        ("/v1/messages", """{"model":"m","max_tokens":3,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"a"},{"type":"tool_use","id":"c","name":"f","input":{"a":[1,2]}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"c","is_error":true,"content":[{"type":"text","text":"ok"}]},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}}]}],"tools":[{"name":"f","description":"d","input_schema":{"type":"object","properties":{"a":{"type":"array"}}}}],"tool_choice":{"type":"auto","disable_parallel_tool_use":true},"thinking":{"type":"enabled","budget_tokens":1},"stop_sequences":["x"],"temperature":1,"top_k":5,"stream":true}"""),
        ("/v1/responses", """{"model":"m","instructions":"i","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]},{"type":"reasoning","id":"rs","summary":[{"type":"summary_text","text":"s"}],"content":[{"type":"reasoning_text","text":"r"}]},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a","annotations":[]}]},{"type":"function_call","id":"fc","call_id":"c","name":"f","arguments":"{\"a\":1}"},{"type":"function_call_output","call_id":"c","output":"ok"}],"tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object","properties":{"a":{"type":"integer"}}},"strict":true}],"tool_choice":"auto","max_output_tokens":2,"temperature":0.5,"top_p":0.9,"reasoning":{"effort":"low","summary":"auto"},"include":["message.output_text.logprobs"],"top_logprobs":2,"store":true,"metadata":{"k":"v"},"text":{"format":{"type":"text"}},"truncation":"disabled","stream":true}"""),
        ("/v1/responses", """{"input":"hi","max_output_tokens":1,"parallel_tool_calls":false,"store":false,"user":"u"}"""),
        ("/v1/messages/count_tokens", """{"messages":[{"role":"user","content":"hi"}],"system":"s"}"""),
        ("/v1/completions", """{"prompt":["a",[1,2,3]],"suffix":"b","echo":true,"logprobs":2,"max_tokens":1,"n":1,"best_of":1,"temperature":0,"stop":"z","seed":-3,"stream":false}"""),
        ("/v1/completions", """{"prompt":"a","max_tokens":0,"echo":true,"logprobs":0,"stream":true}"""),
        ("/tokenize", """{"content":"text","parse_special":true,"with_pieces":true}"""),
        ("/detokenize", """{"tokens":[1,2,3,400]}"""),
        ("/apply-template", """{"messages":[{"role":"user","content":"hi"}],"add_generation_prompt":false,"chat_template_kwargs":{"documents":[1],"messages":2,"tools":{}}}"""),
    ];

    private static readonly string[] s_values =
    [
        "null", "true", "false", "0", "-1", "1", "1.5", "1e400", "-0.0", "99999999999999999999", "2147483648", "1e-400", "[]", "{}", "[[]]", "[null]", "{\"\":{}}", "\"\"", "\"a\"",
        "\"\\u0000\"", "\"\\ud800\"", "\"\\udc00\\ud800\"", "\"\\ud83d\\ude00\"", "\"<|im_end|>\"", "\"</think><tool_call>\"", "\"{%\"", "\"{{ messages }}\"", "\"{\\\"a\\\":\"", "\"[[[[[[\"", "\"user\"", "\"tool\"",
        "\"text\"", "\"image_url\"", "{\"type\":\"text\"}", "{\"type\":\"image_url\",\"image_url\":{\"url\":\"file:///etc/passwd\"}}", "{\"$ref\":\"#/$defs/a\",\"$defs\":{\"a\":{\"$ref\":\"#/$defs/a\"}}}", "{\"role\":\"system\",\"content\":\"x\"}",
    ];

    [Fact]
    public async Task NothingThatIsSentBreaksTheServer()
    {
        await using TestServer server = await TestServer.StartAsync(
            model.Load(new EngineOptions { ContextLength = 4096, ThreadCount = 1 }), new ServerOptions { MaxOutputTokens = 2, MaxBodyBytes = 1 << 20, ParallelCount = WorkerCount });
        foreach ((string path, string body) in s_seeds)
        {
            using HttpResponseMessage response = await server.Send(path, body);
            Assert.True(response.IsSuccessStatusCode, await response.Content.ReadAsStringAsync());
        }

        int servedCount = 0, refusedCount = 0;
        await Task.WhenAll(Enumerable.Range(0, WorkerCount).Select(worker => Task.Run(async () =>
        {
            for (int i = worker; i < s_bodyCount; i += WorkerCount)
            {
                (string path, byte[] body) = Make(new Random(Mutator.First + i));
                using var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = new ByteArrayContent(body) };
                request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
                using HttpResponseMessage response = await server.Client.SendAsync(request);
                string text = await response.Content.ReadAsStringAsync();
                string told = $"body {Mutator.First + i} to {path}: {(int)response.StatusCode} {text}\n{Encoding.UTF8.GetString(body)}";
                Assert.True(response.StatusCode is HttpStatusCode.OK or HttpStatusCode.BadRequest or HttpStatusCode.RequestEntityTooLarge, told);
                Assert.False(text.Contains("server_error", StringComparison.Ordinal) || text.Contains("api_error", StringComparison.Ordinal), told);
                if (response.StatusCode == HttpStatusCode.OK)
                {
                    Interlocked.Increment(ref servedCount);
                    continue;
                }

                Interlocked.Increment(ref refusedCount);
                Assert.NotEqual("", TestServer.Parse(text).GetProperty("error").GetProperty("message").GetString());
            }
        })));
        // Both sides must have been met for this to mean something.
        Assert.Equal(200, (await server.PostAny(s_seeds[1].Path, s_seeds[1].Body)).Status);
        Assert.True(servedCount > s_bodyCount / 10 && refusedCount > s_bodyCount / 10, $"{servedCount} served, {refusedCount} refused");
    }

    private static (string Path, byte[] Body) Make(Random random)
    {
        (string path, string seed) = s_seeds[random.Next(s_seeds.Length)];
        if (random.Next(8) == 0)
            return (path, Garble(Encoding.UTF8.GetBytes(seed), random));
        JsonNode root = JsonNode.Parse(seed)!;
        string json = root.ToJsonString();
        for (int i = random.Next(3) == 0 ? random.Next(2, 4) : 1; i > 0; i--)
            json = Replace(json, random);
        return (path, Encoding.UTF8.GetBytes(json));
    }

    // Some value of the document, at any depth, becomes another one.
    private static string Replace(string json, Random random)
    {
        var places = new List<(int Start, int End)>();
        byte[] bytes = Encoding.UTF8.GetBytes(json);
        try
        {
            var reader = new Utf8JsonReader(bytes);
            var open = new Stack<int>();
            while (reader.Read())
            {
                int start = (int)reader.TokenStartIndex;
                if (reader.TokenType is JsonTokenType.StartObject or JsonTokenType.StartArray)
                    open.Push(start);
                else if (reader.TokenType is JsonTokenType.EndObject or JsonTokenType.EndArray)
                    places.Add((open.Pop(), (int)reader.BytesConsumed));
                else if (reader.TokenType != JsonTokenType.PropertyName || random.Next(20) == 0)
                    places.Add((start, (int)reader.BytesConsumed - (reader.TokenType == JsonTokenType.PropertyName ? 1 : 0)));
            }
        }
        catch (JsonException)
        {
            return json;
        }

        (int from, int to) = places[random.Next(places.Count)];
        string value = random.Next(12) switch
        {
            0 => Encoding.UTF8.GetString(bytes, from, to - from) + "," + Encoding.UTF8.GetString(bytes, from, to - from),
            1 => "\"" + new string((char)random.Next('a', 'z'), 1 << random.Next(0, 14)) + "\"",
            2 => string.Concat(Enumerable.Repeat("[", random.Next(1, 90))) + string.Concat(Enumerable.Repeat("]", random.Next(1, 90))),
            3 => random.NextInt64(long.MinValue, long.MaxValue).ToString(System.Globalization.CultureInfo.InvariantCulture),
            _ => s_values[random.Next(s_values.Length)],
        };
        return Encoding.UTF8.GetString(bytes, 0, from) + value + Encoding.UTF8.GetString(bytes, to, bytes.Length - to);
    }

    private static byte[] Garble(byte[] body, Random random)
    {
        switch (random.Next(4))
        {
            case 0:
                return body[..random.Next(body.Length)];
            case 1:
                var noise = new byte[random.Next(0, 200)];
                random.NextBytes(noise);
                return noise;
            case 2:
                return [.. body, .. body];
            default:
                for (int i = random.Next(1, 6); i > 0; i--)
                    body[random.Next(body.Length)] = (byte)random.Next(256);
                return body;
        }
    }
}
