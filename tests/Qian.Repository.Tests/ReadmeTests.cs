using System.Text.RegularExpressions;

namespace Qian.Repository.Tests;

// The README cannot lie: its map is the tree, its example compiles.
public sealed partial class ReadmeTests
{
    [Fact]
    public void TheMapNamesEveryFolderOnce()
    {
        string readme = Repository.Read("README.md");
        string map = MapBlock().Match(readme).Groups[1].Value;
        Assert.NotEmpty(map);
        foreach (string project in Directory.GetDirectories(Path.Combine(Repository.Root, "src")))
        {
            Assert.Single(Regex.Matches(map, $@"^\s*{Regex.Escape(Path.GetFileName(project))}/", RegexOptions.Multiline));
        }

        foreach (string folder in Directory.GetDirectories(Path.Combine(Repository.Root, "src", "Qian.Inference")).Select(path => Path.GetFileName(path)!).Where(name => name is not ("bin" or "obj")))
            Assert.Single(Regex.Matches(map, $@"^\s*{folder}/", RegexOptions.Multiline));

        foreach (Match line in MapLine().Matches(map))
        {
            string name = line.Groups[1].Value;
            Assert.True(Directory.EnumerateDirectories(Repository.Root, name, SearchOption.AllDirectories).Any(), $"the README's map names {name}/, which does not exist");
        }
    }

    [Fact]
    public void TheExampleIsTheOneThatCompiles()
    {
        string readme = Repository.Read("README.md");
        string example = CSharpBlock().Match(readme).Groups[1].Value.Trim();
        string source = Repository.Read("tests/Qian.Repository.Tests/ReadmeExample.cs");
        string body = string.Join('\n', ExampleRegion().Match(source).Groups[1].Value.Trim('\n').Split('\n').Select(line => line.StartsWith("        ", StringComparison.Ordinal) ? line[8..] : line)).Trim();
        string usings = source[..source.IndexOf("\nnamespace", StringComparison.Ordinal)].Trim();
        Assert.Equal($"{usings}\n\n{body}", example);
    }

    [GeneratedRegex(@"## The map\n+```\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex MapBlock();

    [GeneratedRegex(@"^\s*([\w.]+)/", RegexOptions.Multiline)]
    private static partial Regex MapLine();

    [GeneratedRegex(@"```csharp\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex CSharpBlock();

    [GeneratedRegex(@"// README begin\n(.*?)\n\s*// README end", RegexOptions.Singleline)]
    private static partial Regex ExampleRegion();
}
