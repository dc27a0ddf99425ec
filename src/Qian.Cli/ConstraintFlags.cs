using System.CommandLine;
using Qian.Inference;

namespace Qian.Cli;

// What the answer must look like: --json-schema, --regex or --grammar; at most one of them.
internal sealed class ConstraintFlags
{
    private const long MostBytes = 1 << 22;

    private readonly Option<FileInfo?> _schema = new("--json-schema") { HelpName = "FILE", Description = "The answer is JSON that fulfils the schema in this file" };
    private readonly Option<string?> _regex = new("--regex") { HelpName = "R", Description = "The answer matches this regular expression as a whole" };
    private readonly Option<FileInfo?> _grammar = new("--grammar") { HelpName = "FILE", Description = "The answer is text of the grammar in this file (GBNF)" };

    public ConstraintFlags(Command command)
    {
        command.Add(_schema);
        command.Add(_regex);
        command.Add(_grammar);
    }

    // Null when none is given.
    public OutputConstraint? Read(ParseResult parsed)
    {
        FileInfo? schema = parsed.GetValue(_schema), grammar = parsed.GetValue(_grammar);
        string? regex = parsed.GetValue(_regex);
        if ((schema is null ? 0 : 1) + (grammar is null ? 0 : 1) + (regex is null ? 0 : 1) > 1)
            throw new BadRequestException("give one of --json-schema, --regex and --grammar, not several.");
        try
        {
            return schema is not null ? OutputConstraint.JsonSchema(TextOf(schema))
                : grammar is not null ? OutputConstraint.Grammar(TextOf(grammar))
                : regex is not null ? OutputConstraint.Regex(regex)
                : null;
        }
        catch (BadRequestException refusal)
        {
            string flag = schema is not null ? "--json-schema" : grammar is not null ? "--grammar" : "--regex";
            throw new BadRequestException($"{flag}: {refusal.Message}", refusal);
        }
    }

    private static string TextOf(FileInfo file)
    {
        if (!file.Exists)
            throw new BadRequestException($"there is no file '{file.FullName}'.");
        return file.Length <= MostBytes ? File.ReadAllText(file.FullName) : throw new BadRequestException($"'{file.FullName}' has {file.Length} bytes; at most {MostBytes} are read.");
    }
}
