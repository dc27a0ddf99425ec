using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Qian.Repository.Tests;

// The arrows of ARCHITECTURE.md: who may know whom.
public sealed partial class ArrowTests
{
    private static readonly Dictionary<string, string[]> s_projects = new()
    {
        ["Qian.Kernels"] = [],
        ["Qian.Inference"] = ["Qian.Kernels"],
        ["Qian.Weights"] = ["Qian.Inference", "Qian.Kernels"],
        ["Qian.Training"] = ["Qian.Inference", "Qian.Kernels"],
        ["Qian.Server"] = ["Qian.Inference"],
        ["Qian.Agent"] = ["Qian.Inference"],
        ["Qian.Cli"] = ["Qian.Inference", "Qian.Kernels", "Qian.Weights", "Qian.Training", "Qian.Server", "Qian.Agent"],
    };

    // Folders of Qian.Inference, lowest first. A folder may use those before it; the root's data types are everybody's.
    private static readonly Dictionary<string, string[]> s_folders = new()
    {
        ["Formats"] = [],
        ["Text"] = ["Formats"],
        ["Model"] = ["Formats"],
        ["Runtime"] = ["Formats", "Text", "Model"],
        ["Measurement"] = ["Formats", "Text", "Model", "Runtime"],
        ["Chat"] = ["Formats", "Text", "Model", "Runtime"],
        ["Verification"] = ["Formats", "Text", "Model", "Runtime", "Chat"],
    };

    // The public waist at the root: only the root, Chat's sessions and the verification may hold one.
    private static readonly string[] s_waist = ["Engine", "Session"];

    [Fact]
    public void ProjectsReferenceOnlyWhatTheMapAllows()
    {
        string[] found = [.. Directory.GetDirectories(Path.Combine(Repository.Root, "src")).Select(path => Path.GetFileName(path)!).Order()];
        Assert.Equal(s_projects.Keys.Order(), found);
        foreach ((string project, string[] allowed) in s_projects)
        {
            XDocument file = XDocument.Load(Path.Combine(Repository.Root, "src", project, project + ".csproj"));
            string[] references = [.. file.Descendants("ProjectReference").Select(r => Path.GetFileNameWithoutExtension(r.Attribute("Include")!.Value.Replace('\\', '/')))];
            Assert.All(references, reference => Assert.Contains(reference, allowed));
        }
    }

    [Fact]
    public void FoldersOfInferenceUseOnlyLowerOnes()
    {
        var wrong = new List<string>();
        foreach (string path in Repository.SourceFiles("src/Qian.Inference"))
        {
            string relative = Repository.Relative(path)["src/Qian.Inference/".Length..];
            string folder = relative.Split('/')[0];
            if (!s_folders.TryGetValue(folder, out string[]? allowed))
                continue;
            string text = File.ReadAllText(path);
            foreach (Match match in InferenceNamespace().Matches(text))
            {
                string used = match.Groups[1].Value;
                if (used != folder && s_folders.ContainsKey(used) && !allowed.Contains(used))
                    wrong.Add($"{relative} uses {used}");
            }

            foreach (string type in s_waist)
            {
                if (folder is not ("Chat" or "Verification") && Regex.IsMatch(text, $@"\b(new )?{type}(\.| [a-z_]\w*[,;) =])"))
                    wrong.Add($"{relative} knows {type}");
            }
        }

        Assert.Empty(wrong);
    }

    // The agent asks whatever IChatClient it is given: it holds no engine and no session of its own.
    [Fact]
    public void TheAgentSeesTheModelThroughItsInterface()
    {
        foreach (string path in Repository.SourceFiles("src/Qian.Agent"))
        {
            Assert.DoesNotMatch(@"\b(Engine|Session|ChatSession|QianChatClient)\b", File.ReadAllText(path));
            Assert.DoesNotMatch(@"Qian\.Inference\.[A-Z]", File.ReadAllText(path));
        }
    }

    [Fact]
    public void OnlyTheServerKnowsAspNet()
    {
        foreach (string project in Directory.GetFiles(Path.Combine(Repository.Root, "src"), "*.csproj", SearchOption.AllDirectories))
            Assert.Equal(Path.GetFileNameWithoutExtension(project) == "Qian.Server", File.ReadAllText(project).Contains("Microsoft.AspNetCore", StringComparison.Ordinal));
    }

    [Fact]
    public void OnlyKernelsCompileUnsafeCode()
    {
        foreach (string project in Directory.GetFiles(Path.Combine(Repository.Root, "src"), "*.csproj", SearchOption.AllDirectories))
            Assert.Equal(Path.GetFileNameWithoutExtension(project) == "Qian.Kernels", File.ReadAllText(project).Contains("AllowUnsafeBlocks", StringComparison.Ordinal));
    }

    [Fact]
    public void PInvokeLivesInNative()
    {
        foreach (string path in Repository.SourceFiles())
        {
            if (!Repository.Relative(path).StartsWith("src/Qian.Kernels/Native/", StringComparison.Ordinal))
                Assert.DoesNotContain("LibraryImport", File.ReadAllText(path), StringComparison.Ordinal);
        }
    }

    [GeneratedRegex(@"Qian\.Inference\.([A-Z]\w+)")]
    private static partial Regex InferenceNamespace();
}
