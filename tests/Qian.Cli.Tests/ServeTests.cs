using System.Net;
using System.Text;
using System.Text.Json;
using Qian.Inference.Chat;
using Qian.Inference.Runtime;
using Qian.Inference.Tests;

namespace Qian.Cli.Tests;

// qian serve as a process: the address it says, keys from a file, and how it stops.
public sealed class ServeTests(TinyModel model) : IClassFixture<TinyModel>
{
    private static readonly HttpClient s_client = new() { Timeout = TimeSpan.FromMinutes(5) };

    private CliProcess Start(params string[] arguments) => CliProcess.Start(["serve", "-m", model.Path, "-c", "4096", "-t", "1", "--port", "0", .. arguments]);

    private static async Task<Uri> AddressOf(CliProcess process)
    {
        await process.Noted("(Ctrl-C stops)");
        string line = process.Notes.Split('\n').Single(line => line.StartsWith("serving ", StringComparison.Ordinal));
        return new Uri(line.Split(' ')[3]);
    }

    [Fact]
    public async Task ItSaysWhereItIsAndStopsWithZero()
    {
        using CliProcess process = Start();
        Uri address = await AddressOf(process);
        Assert.Equal("127.0.0.1", address.Host);
        Assert.Contains("\"tiny\"", await s_client.GetStringAsync(new Uri(address, "/v1/models")), StringComparison.Ordinal);
        process.Interrupt();
        CliResult result = await process.End();
        Assert.Equal((0, ""), (result.ExitCode, result.Out));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task ARunningReplyEndsBeforeItStops(bool terminates)
    {
        using CliProcess process = Start("--alias", "mine", "--drain", "600");
        Uri address = await AddressOf(process);
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(address, "/v1/completions")) { Content = new StringContent("""{"prompt":"Hello","max_tokens":600,"ignore_eos":true,"temperature":0,"stream":true}""", Encoding.UTF8, "application/json") };
        using HttpResponseMessage response = await s_client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        if (terminates)
            process.Terminate();
        else
            process.Interrupt();
        await process.Noted("stopping");
        string stream = await response.Content.ReadAsStringAsync();
        Assert.EndsWith("data: [DONE]\n\n", stream, StringComparison.Ordinal);
        Assert.Contains("\"model\":\"mine\"", stream, StringComparison.Ordinal);
        Assert.Equal(0, (await process.End()).ExitCode);
    }

    // What is not done when the time is up is broken off, and that is no failure of the server.
    [Fact]
    public async Task TheDrainHasItsDeadline()
    {
        using CliProcess process = Start("--drain", "0", "--log", "json");
        Uri address = await AddressOf(process);
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(address, "/v1/completions")) { Content = new StringContent("""{"prompt":"Hello","max_tokens":4000,"ignore_eos":true,"temperature":0,"stream":true,"logprobs":20,"n":4}""", Encoding.UTF8, "application/json") };
        using HttpResponseMessage response = await s_client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        process.Terminate();
        await Assert.ThrowsAnyAsync<Exception>(() => response.Content.ReadAsStringAsync());
        CliResult result = await process.End();
        Assert.Equal(0, result.ExitCode);
        Assert.Contains("\"cancelled\":true", result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ASecondInterruptionDoesNotWait()
    {
        using CliProcess process = Start("--drain", "600");
        Uri address = await AddressOf(process);
        using var request = new HttpRequestMessage(HttpMethod.Post, new Uri(address, "/v1/completions")) { Content = new StringContent("""{"prompt":"Hello","max_tokens":4000,"ignore_eos":true,"temperature":0,"stream":true,"logprobs":20,"n":4}""", Encoding.UTF8, "application/json") };
        using HttpResponseMessage response = await s_client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        process.Interrupt();
        await process.Noted("stopping");
        process.Interrupt();
        Assert.Equal(130, (await process.End()).ExitCode);
    }

    [Fact]
    public async Task KeysComeFromAFile()
    {
        string keys = Path.Combine(model.Folder, "keys.json");
        CliResult made = await CliProcess.Run("keys", "add", "team", "--keys", keys, "--per-minute", "60");
        Assert.Equal(0, made.ExitCode);
        string secret = Assert.Single(made.OutLines);
        Assert.Contains("key 'team' for infer", made.Error, StringComparison.Ordinal);
        Assert.Equal(0, (await CliProcess.Run("keys", "add", "boss", "--keys", keys, "--scope", "infer", "--scope", "admin")).ExitCode);
        CliResult again = await CliProcess.Run("keys", "add", "team", "--keys", keys);
        Assert.Equal(2, again.ExitCode);
        Assert.Contains("has a key called 'team' already", again.Error, StringComparison.Ordinal);
        CliResult list = await CliProcess.Run("keys", "list", "--keys", keys);
        Assert.Equal(["team  infer  60/min, any number", "boss  infer,admin  any rate, any number"], list.OutLines.Select(line => line[..line.LastIndexOf("  ", StringComparison.Ordinal)]));
        Assert.DoesNotContain(secret, list.Out, StringComparison.Ordinal);
        using CliProcess process = Start("--host", "0.0.0.0", "--keys", keys);
        Uri address = new UriBuilder(await AddressOf(process)) { Host = "127.0.0.1" }.Uri;
        Assert.Equal(HttpStatusCode.Unauthorized, (await s_client.GetAsync(new Uri(address, "/v1/models"))).StatusCode);
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(address, "/v1/models"));
        request.Headers.Add("Authorization", "Bearer " + secret);
        Assert.Equal(HttpStatusCode.OK, (await s_client.SendAsync(request)).StatusCode);
        Assert.Contains("in the clear", process.Notes, StringComparison.Ordinal);
        Assert.Equal(0, (await CliProcess.Run("keys", "rm", "team", "--keys", keys)).ExitCode);
        Assert.Equal(2, (await CliProcess.Run("keys", "rm", "team", "--keys", keys)).ExitCode);
        process.Interrupt();
        Assert.Equal(0, (await process.End()).ExitCode);
    }

    // Killed without a word, then stopped as it should be: either way the next process goes on from what was read.
    [Fact]
    public async Task ARestartedServerGoesOnFromItsFolder()
    {
        string folder = Path.Combine(model.Folder, "prefixes");
        string[] options = ["--prefix-dir", folder, "--prefix-cache", "64M", "--prefix-dir-size", "256M"];
        var messages = new List<object> { new { role = "user", content = string.Concat(Enumerable.Repeat("A long story. ", 100)) } };
        int known = 0;
        for (int turn = 0; turn < 3; turn++)
        {
            using CliProcess process = Start(options);
            Uri address = await AddressOf(process);
            string body = JsonSerializer.Serialize(new { messages, max_tokens = 8, temperature = 0, chat_template_kwargs = new { enable_thinking = false, preserve_thinking = true } });
            using HttpResponseMessage response = await s_client.PostAsync(new Uri(address, "/v1/chat/completions"), new StringContent(body, Encoding.UTF8, "application/json"));
            using JsonDocument reply = JsonDocument.Parse(await response.Content.ReadAsStringAsync());
            JsonElement usage = reply.RootElement.GetProperty("usage");
            Assert.Equal(known, usage.GetProperty("prompt_tokens_details").GetProperty("cached_tokens").GetInt32());
            known = usage.GetProperty("prompt_tokens").GetInt32() + usage.GetProperty("completion_tokens").GetInt32() - 1;
            messages.Add(new { role = "assistant", content = reply.RootElement.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString() });
            messages.Add(new { role = "user", content = "Go on." });
            if (turn == 0)
            {
                // What is kept is written a little later: the whole conversation's state, and what was said.
                using var patience = new CancellationTokenSource(TimeSpan.FromMinutes(3));
                while (!Holds(folder, known))
                    await Task.Delay(20, patience.Token);
                await process.Kill();
                continue;
            }

            process.Interrupt();
            Assert.Equal(0, (await process.End()).ExitCode);
        }
    }

    private static bool Holds(string folder, int tokenCount)
    {
        var replies = new ReplyMemory();
        foreach (string file in Directory.EnumerateFiles(folder, "replies", SearchOption.AllDirectories))
            ReplyFile.Load(file, replies);
        return replies.All.Length > 0 && Directory.EnumerateFiles(folder, "*.state", SearchOption.AllDirectories).Any(file => PrefixFiles.ReadTokens(file, out _, out _)?.Length == tokenCount);
    }

    [Theory]
    [InlineData("--prefix-cache: expected a size", "--prefix-cache", "many")]
    [InlineData("--prefix-dir-size: expected a size", "--prefix-dir-size", "-1G")]
    [InlineData("--host: 0.0.0.0 can be reached", "--host", "0.0.0.0")]
    [InlineData("--host: expected an IP address", "--host", "example.com")]
    [InlineData("--parallel: expected 1 to 256", "--parallel", "0")]
    [InlineData("--port: expected 0 to 65535", "--port", "70000")]
    [InlineData("--key: expected keys of at least 8", "--key", "short")]
    [InlineData("--tls-cert: expected a certificate", "--tls-cert", "/nowhere/server.pem")]
    [InlineData("--tls-key: expected a certificate beside", "--tls-key", "/nowhere/server.key")]
    [InlineData("/nowhere/keys.json: no such file", "--keys", "/nowhere/keys.json")]
    [InlineData("--cors: expected origins", "--cors", "app.example")]
    public async Task WhatCannotBeServedIsRefusedBeforeLoading(string message, params string[] arguments)
    {
        CliResult result = await CliProcess.Run(["serve", "-m", "/nowhere/model.gguf", .. arguments]);
        Assert.Equal(2, result.ExitCode);
        Assert.Contains(message, result.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task ATakenPortIsSaid()
    {
        using CliProcess process = Start();
        Uri address = await AddressOf(process);
        CliResult result = await CliProcess.Run(["serve", "-m", model.Path, "-c", "4096", "--port", $"{address.Port}"]);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("address already in use", result.Error, StringComparison.Ordinal);
        process.Interrupt();
        await process.End();
    }
}
