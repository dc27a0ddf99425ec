// The recipe of the embedded model, one verb per step: data, vocabulary, start, measure. Training itself is `qian train`.
using System.CommandLine;
using Qian.Inference;
using Qian.Nano;

var root = new RootCommand("The recipe of nano, the small model that comes with Qian")
{
    DataVerb.Create(),
    VocabularyVerb.Create(),
    StartVerb.Create(),
    MeasureVerb.Create(),
};
try
{
    return root.Parse(args).Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
}
catch (Exception error) when (error is BadRequestException or BadModelFileException or IOException or UnauthorizedAccessException)
{
    Console.Error.WriteLine(error.Message);
    return 1;
}
