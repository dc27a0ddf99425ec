using System.CommandLine;
using Qian.Inference;
using Qian.Inference.Formats;
using Qian.Inference.Text;

namespace Qian.Cli;

// qian tokenize TEXT: the ids that the model will see, each with the text that it stands for.
internal static class TokenizeVerb
{
    public static Command Create()
    {
        var text = new Argument<string?>("TEXT") { Description = "Text; '-' or nothing reads standard input", Arity = ArgumentArity.ZeroOrOne };
        var model = new Option<string?>("--model", "-m") { Description = "Model file or folder whose tokenizer to use (default: the embedded nano)", HelpName = "PATH" };
        var control = new Option<bool>("--control") { Description = "Let text that spells a control token become one, as the template's own text does" };
        var decode = new Option<bool>("--decode") { Description = "TEXT is a list of ids; print the text they stand for" };
        var json = new Option<bool>("--json") { Description = "Print ids and pieces as JSON" };
        var command = new Command("tokenize", "Show the tokens of a text") { text, model, control, decode, json };
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed, cancellation)));
        return command;

        int Run(ParseResult parsed, CancellationToken cancellation)
        {
            using Checkpoint checkpoint = Checkpoint.Open(ModelPath.Of(parsed.GetValue(model)));
            TokenizerSpec spec = checkpoint.LoadTokenizer() ?? throw new BadModelFileException("This checkpoint has no tokenizer.");
            var tokenizer = new Tokenizer(spec);
            string input = parsed.GetValue(text) is { } given and not "-" ? given : StandardInput.ReadAll(cancellation);
            if (parsed.GetValue(decode))
            {
                Console.WriteLine(tokenizer.Decode(Checked(SamplingFlags.ParseIds(input, "--decode"), tokenizer)));
                return Program.Done;
            }

            int[] ids = tokenizer.Encode(input, parsed.GetValue(control));
            if (parsed.GetValue(json))
                JsonOutput.Print(new { count = ids.Length, ids, pieces = ids.Select(id => tokenizer.Decode([id])) });
            else
                Print(ids, tokenizer);
            return Program.Done;
        }
    }

    private static int[] Checked(int[] ids, Tokenizer tokenizer)
    {
        foreach (int id in ids)
        {
            if ((uint)id >= (uint)tokenizer.VocabularySize)
                throw new BadRequestException($"token id {id} is not in the vocabulary of {tokenizer.VocabularySize}.");
        }

        return ids;
    }

    private static void Print(int[] ids, Tokenizer tokenizer)
    {
        foreach (int id in ids)
            Console.WriteLine($"{id,8}  {JsonOutput.Quote(tokenizer.Decode([id]))}{(tokenizer.IsControl(id) ? "  control" : "")}");
        Terminal.Note($"{ids.Length} tokens");
    }
}
