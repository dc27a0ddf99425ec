using Microsoft.Extensions.AI;
using Qian.Inference;

namespace Qian.Repository.Tests;

// The README's example, compiled. ReadmeTests holds the two to be the same text.
internal static class ReadmeExample
{
    public static async Task Run(string[] args)
    {
        // README begin
        string path = args[0]; // a .gguf file or a Hugging Face folder
        using Engine engine = Engine.Load(path);

        // Tokens and text: a session is one timeline; what was computed stays computed.
        using Session session = engine.NewSession();
        session.Append("The quick brown fox");
        await foreach (GeneratedToken token in session.GenerateAsync(new SamplingOptions { MaxTokens = 16, Temperature = 0 }))
            Console.Write(token.Text);

        // The same model as an IChatClient of Microsoft.Extensions.AI: streaming, reasoning, tool calls, usage.
        IChatClient client = new QianChatClient(engine);
        await foreach (ChatResponseUpdate update in client.GetStreamingResponseAsync("Why is the sky blue?"))
            Console.Write(update.Text);
        // README end
    }
}
