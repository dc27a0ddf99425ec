using Microsoft.Extensions.AI;
using Qian.Inference;
using Qian.Nano;

namespace Qian.Agent.Tests;

// The embedded model as a coding agent for real: it looks at a project, runs its tests, finds the seeded bug, edits, runs the tests
// again and says so. Nano is a small model and repairs few: of the first twenty draws three (0, 1 and 6), greedily, with all the tools
// that the agent has. So those come first that were seen to be repaired, then others for the sake of a nano that is trained anew. One
// repaired bug is asked for, not a share: that is what `measure` of the recipe tells.
public sealed class RepairTests
{
    private static readonly int[] s_draws = [1, 0, 6, 2, 3, 4, 5, 7, 8, 9];

    [MakeFact]
    public async Task NanoRepairsASeededBugOfItsHeldOutFamily()
    {
        using Engine engine = Embedded.Load();
        var tried = new List<string>();
        foreach (int draw in s_draws)
        {
            using var bench = new Bench();
            var project = new SickProject(bench, draw);
            using var client = new QianChatClient(engine, keptSessions: 1);
            var options = new ChatOptions { Temperature = 0, MaxOutputTokens = 400, AdditionalProperties = new AdditionalPropertiesDictionary { ["enable_thinking"] = false } };
            CodingAgent agent = new(client, bench.Tools, options, mostSteps: 8);
            var events = new List<AgentEvent>();
            agent.Happened += events.Add;
            AgentOutcome outcome = await agent.RunAsync(project.Session.Request);
            tried.Add($"{draw}: {project.Session.Patient.Key}/{project.Session.Patient.Bug}: {outcome}\n{project.Source}");
            if (!outcome.IsDone || !project.IsSound(draw))
                continue;

            // It was the agent, through its tools, and it saw the tests fail and pass.
            List<ToolAnswered> answers = [.. events.OfType<ToolAnswered>()];
            string[] reports = [.. answers.Where(answer => answer.Tool == "run_command").Select(answer => answer.Result.Text)];
            Assert.Contains(reports, report => report.Contains("FAIL ", StringComparison.Ordinal));
            Assert.EndsWith($"{project.Session.Cases.Count} of {project.Session.Cases.Count} tests passed", reports[^1], StringComparison.Ordinal);
            Assert.Contains(answers, answer => answer.Tool == "edit_file" && answer.Result.Text == $"edited {project.Session.SourcePath}" && answer.Result.Diff.Length > 0);
            Assert.Equal(project.Session.TestsText, File.ReadAllText(bench.At(RepairSession.TestsPath)));
            return;
        }

        Assert.Fail(string.Join("\n\n", tried));
    }
}
