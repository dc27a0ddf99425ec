using System.CommandLine;
using Qian.Inference.Chat;
using Qian.Training;
using Qian.Training.Vocabulary;

namespace Qian.Nano;

// vocabulary DATA OUT: the tokenizer, from the training data as the chat template renders it.
internal static class VocabularyVerb
{
    public static Command Create()
    {
        var data = new Argument<string>("DATA") { Description = "Folder with train.jsonl" };
        var output = new Argument<string>("OUT") { Description = "Folder to write the tokenizer to" };
        var size = new Option<int>("--size") { Description = "Tokens, control tokens included", DefaultValueFactory = _ => 4096, HelpName = "N" };
        var samples = new Option<int>("--samples") { Description = "Samples to read at most", DefaultValueFactory = _ => 60_000, HelpName = "N" };
        var command = new Command("vocabulary", "Make the tokenizer from the training data") { data, output, size, samples };
        command.SetAction(parsed =>
        {
            string folder = parsed.GetValue(output)!;
            TrainedVocabulary vocabulary = BytePairTrainer.Train(Texts(Path.Combine(parsed.GetValue(data)!, "train.jsonl"), parsed.GetValue(samples)), parsed.GetValue(size));
            vocabulary.Write(folder);
            Console.WriteLine($"{folder}: {vocabulary.Size} tokens");
            return 0;
        });
        return command;
    }

    // What stands between the control tokens of each rendered conversation.
    internal static IEnumerable<string> Texts(string path, int count)
    {
        string[] controls = [.. ControlTokens.All.Select(token => token.Text)];
        foreach (string line in File.ReadLines(path).Take(count))
        {
            Training.Conversation? conversation = ConversationJson.Read(System.Text.Encoding.UTF8.GetBytes(line)).Conversation;
            if (conversation is null)
                continue;
            var options = new ChatTemplateOptions { AddGenerationPrompt = false, EnableThinking = conversation.EnableThinking, PreserveThinking = conversation.PreserveThinking };
            string text = ChatTemplate.Default.Render(conversation.Messages, conversation.Tools, options);
            foreach (string piece in text.Split(controls, StringSplitOptions.RemoveEmptyEntries))
                yield return piece;
        }
    }
}
