using System.Reflection;
using System.Text;
using Qian.Inference;

namespace Qian.Repository.Tests;

// The public surface of Qian.Inference is a decision, not an accident: it is written down in PublicSurface.txt, and a change of
// it is a change of that file. QIAN_UPDATE_SURFACE=1 writes the file anew.
public sealed class PublicSurfaceTests
{
    private const string Listing = "tests/Qian.Repository.Tests/PublicSurface.txt";
    private const int MostTypes = 30;

    [Fact]
    public void TheSurfaceIsTheOneWrittenDown()
    {
        string current = Describe(typeof(Engine).Assembly);
        if (Environment.GetEnvironmentVariable("QIAN_UPDATE_SURFACE") == "1")
            File.WriteAllText(Path.Combine(Repository.Root, Listing), current);
        Assert.Equal(Repository.Read(Listing), current);
    }

    [Fact]
    public void TheSurfaceStaysSmall() => Assert.InRange(typeof(Engine).Assembly.GetExportedTypes().Length, 1, MostTypes);

    private static string Describe(Assembly assembly)
    {
        var text = new StringBuilder();
        foreach (Type type in assembly.GetExportedTypes().OrderBy(t => t.FullName, StringComparer.Ordinal))
        {
            text.Append(type.FullName).Append('\n');
            const BindingFlags own = BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
            IEnumerable<string> members = type.GetMembers(own)
                .Where(member => member is not MethodBase { IsSpecialName: true } || member is ConstructorInfo)
                .Where(member => !member.Name.Contains('<', StringComparison.Ordinal) && member.Name is not ("Equals" or "GetHashCode" or "ToString" or "Deconstruct" or "value__"))
                .Select(member => member.ToString()!)
                .Distinct()
                .Order(StringComparer.Ordinal);
            foreach (string member in members)
                text.Append("    ").Append(member).Append('\n');
        }

        return text.ToString();
    }
}
