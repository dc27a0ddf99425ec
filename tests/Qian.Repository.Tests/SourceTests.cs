using System.Text.RegularExpressions;

namespace Qian.Repository.Tests;

// Rules of CONTRIBUTING.md that a program can check.
public sealed partial class SourceTests
{
    private const int LongestFile = 600;

    [Fact]
    public void NoFileIsTooLong()
    {
        string[] tooLong =
        [
            .. Repository.SourceFiles().Concat(Repository.SourceFiles("tests"))
                .Where(path => !path.EndsWith(".Tables.cs", StringComparison.Ordinal) && File.ReadLines(path).Count() > LongestFile)
                .Select(Repository.Relative),
        ];
        Assert.Empty(tooLong);
    }

    [Fact]
    public void NoTypeHasAnEmptyName()
    {
        string[] wrong = [.. Repository.SourceFiles().SelectMany(path => EmptyName().Matches(File.ReadAllText(path)).Select(match => $"{Repository.Relative(path)}: {match.Value}"))];
        Assert.Empty(wrong);
    }

    [Fact]
    public void NothingIsLeftToDo()
    {
        string marker = "TO" + "DO";
        Assert.All(Repository.SourceFiles().Concat(Repository.SourceFiles("tests")), path => Assert.DoesNotContain(marker, File.ReadAllText(path), StringComparison.Ordinal));
    }

    // A stranger who clones this has nothing but the repository.
    [Fact]
    public void NothingRefersToAMachineOfOurs()
    {
        string[] banned = ["../" + "shared", "/" + "work/", "farm" + "-"];
        foreach (string path in Repository.TextFiles())
        {
            string text = File.ReadAllText(path);
            Assert.All(banned, word => Assert.False(text.Contains(word, StringComparison.Ordinal), $"{Repository.Relative(path)} names {word}"));
        }
    }

    [Fact]
    public void DependenciesArePinnedAndExplained()
    {
        string readme = Repository.Read("README.md");
        foreach (Match match in PackageVersion().Matches(Repository.Read("Directory.Packages.props")))
        {
            Assert.True(Version.TryParse(match.Groups[2].Value, out _), $"{match.Groups[1].Value} is pinned to {match.Groups[2].Value}");
            Assert.Contains(match.Groups[1].Value, readme, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void TestDataStaysSmall()
    {
        long bytes = Directory.EnumerateFiles(Path.Combine(Repository.Root, "tests", "data"), "*", SearchOption.AllDirectories).Sum(path => new FileInfo(path).Length);
        Assert.InRange(bytes, 1, 20_000_000);
    }

    [GeneratedRegex(@"\b(class|struct|record|interface|enum) \w*(Manager|Helper|Helpers|Utils|Util|Common|Base)\b")]
    private static partial Regex EmptyName();

    [GeneratedRegex("PackageVersion Include=\"([^\"]+)\" Version=\"([^\"]+)\"")]
    private static partial Regex PackageVersion();
}
