// The recipe of the embedded model, one verb per step: data, vocabulary, start, measure. Training itself is `qian train`.
using System.CommandLine;
using Qian.Nano;

var root = new RootCommand("The recipe of nano, the small model that comes with Qian")
{
    DataVerb.Create(),
};
return root.Parse(args).Invoke();
