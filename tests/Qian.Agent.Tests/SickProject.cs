using System.Text;
using System.Text.RegularExpressions;
using Qian.Nano;

namespace Qian.Agent.Tests;

// A project of nano's held-out family on the disk, with its seeded bug, and a `make test` that compiles and runs it for real with the
// SDK's compiler. What it needs for that is hidden, as a project's tools are.
internal sealed class SickProject
{
    private readonly Bench _bench;

    public SickProject(Bench bench, int draw)
    {
        _bench = bench;
        Session = RepairSession.Draw(Dice.For(7, "agent repair", draw), Split.HeldOut, Language.CSharp);
        foreach (string path in Session.Files)
            bench.Put(path, "");
        bench.Put(Session.SourcePath, Session.SickText);
        bench.Put(RepairSession.TestsPath, Session.TestsText);
        bench.Put("Makefile", $"test:\n\t@\"{Sdk.DotNet}\" exec \"{Sdk.Compiler}\" @.check/build.rsp\n\t@\"{Sdk.DotNet}\" exec .check/check.dll\n");
        bench.Put(".check/check.cs", Check());
        var response = new StringBuilder($"-nologo -noconfig -nostdlib -target:exe -out:.check/check.dll -warn:0 -utf8output .check/check.cs {Session.SourcePath}\n");
        foreach (string reference in Sdk.References)
            response.Append("-r:\"").Append(reference).Append("\"\n");
        bench.Put(".check/build.rsp", response.ToString());
        bench.Put(".check/check.runtimeconfig.json", "{\"runtimeOptions\":{\"framework\":{\"name\":\"Microsoft.NETCore.App\",\"version\":\"" + Environment.Version + "\"}}}");
    }

    public RepairSession Session { get; }

    public string Source => File.ReadAllText(_bench.At(Session.SourcePath));

    // The project's own tests and more like them, compiled and run apart from the project.
    public bool IsSound(int draw)
    {
        Dice dice = Dice.For(7, "agent repair cases", draw);
        List<TestCase> cases = [.. Session.Cases];
        for (int i = 0; i < 8; i++)
        {
            object[] arguments = Session.Patient.Arguments(dice);
            cases.Add(new TestCase(arguments, Session.Patient.Evaluate(arguments)));
        }

        return CodeRunner.RunCSharp([new CodeItem("Item", Source, Session.Patient.MethodName, cases)])[0].Passes(cases);
    }

    // Prints what the tests of these projects print, and ends with 1 when one fails.
    private string Check()
    {
        string type = Regex.Match(Session.SickText, @"class (\w+)").Groups[1].Value;
        var cases = new StringBuilder();
        foreach (TestCase test in Session.Cases)
            cases.Append($"        Try({Literal(Session.Patient.Describe(test.Arguments))}, {Literal(Sorts.Show(test.Expected))}, () => {type}.{Session.Patient.MethodName}({string.Join(", ", test.Arguments.Select(Literal))}));\n");
        return $$"""
            using System;

            public static class Check
            {
                private static int s_count, s_failed;

                public static int Main()
                {
            {{cases}}
                    Console.WriteLine(s_failed == 0 ? $"{s_count} of {s_count} tests passed" : $"{s_failed} of {s_count} tests failed");
                    return s_failed == 0 ? 0 : 1;
                }

                private static void Try(string call, string expected, Func<object> run)
                {
                    string got;
                    try
                    {
                        got = run() switch { bool truth => truth ? "true" : "false", string text => "\"" + text + "\"", object value => value.ToString(), null => "null" };
                    }
                    catch (Exception error)
                    {
                        got = error.GetType().Name;
                    }

                    s_count++;
                    if (got == expected)
                        return;
                    s_failed++;
                    Console.WriteLine($"FAIL {call}: expected {expected}, got {got}");
                }
            }

            """;
    }

    private static string Literal(object value) => value switch
    {
        string text => "\"" + text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal) + "\"",
        bool truth => truth ? "true" : "false",
        Array items => "new[] { " + string.Join(", ", items.Cast<object>().Select(Literal)) + " }",
        _ => Convert.ToString(value, System.Globalization.CultureInfo.InvariantCulture)!,
    };
}
